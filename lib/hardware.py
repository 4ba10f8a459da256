"""What the work runs on: device, precision and what it cost."""

import platform
import resource
import time
from dataclasses import dataclass, field

import torch


def device() -> torch.device:
    """The accelerator if there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision() -> str:
    """ "bf16" where the device multiplies bfloat16 in hardware, else "no" (float32): Accelerate's words.

    A processor with AMX trained 2.5 times faster in bf16 (README, speed); one without emulates it and is slower. It
    is asked, not timed, so that the answer is the same in every process.
    """
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return "bf16" if torch.cpu._is_amx_tile_supported() else "no"


def attention(training: bool) -> str:
    """Which of transformers' attention implementations is fastest here.

    On a processor the backward pass of the fused attention is slow: training MiniLM ran 2.0 times faster with plain
    products ("eager"), while scoring ran 1.1 times faster fused ("sdpa").
    """
    return "eager" if training and device().type == "cpu" else "sdpa"


def description() -> dict[str, str]:
    """Provenance: what was computed on what, with which versions."""
    import accelerate
    import transformers

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else f"{platform.machine()} processor"
    return {
        "device": name, "threads": str(torch.get_num_threads()), "precision": precision(),
        "python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
        "accelerate": accelerate.__version__,
    }  # fmt: skip


@dataclass
class Meter:
    """Seconds and peak memory of a block: `with Meter() as meter: ...`, then read `meter.seconds`."""

    seconds: float = 0.0
    peak_memory_gib: float = 0.0  # of the accelerator during the block; without one, of the process so far
    _start: float = field(default=0.0, repr=False)

    def __enter__(self) -> "Meter":
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            self.peak_memory_gib = torch.cuda.max_memory_allocated() / 2**30
        else:
            scale = 1 if platform.system() == "Darwin" else 2**10  # bytes there, KiB on Linux
            self.peak_memory_gib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * scale / 2**30
        self.seconds = time.perf_counter() - self._start
