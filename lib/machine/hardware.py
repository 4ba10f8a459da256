"""What the work runs on: device, precision and what it cost."""

import contextlib
import ctypes
import math
import platform
import re
import resource
import time
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path

import torch


def device() -> torch.device:
    """The accelerator if there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def precision() -> str:
    """ "bf16" where the device multiplies bfloat16 in hardware, else "no" (float32): Accelerate's words.

    A processor with AMX trained 2.5 times faster in bf16 (README, speed), one with AVX512_BF16 and no AMX 1.85 times
    and scored 1.5 times faster (three layers, two alternating pairs of runs); one without either emulates it and is
    slower. It is asked, not timed, so that the answer is the same in every process.
    """
    if torch.cuda.is_available():
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "no"
    return "bf16" if torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported() else "no"


def features() -> str:
    """Which of the processor's vector instructions the work uses: torch's kernels, then the units for bfloat16."""
    used = [torch.backends.cpu.get_cpu_capability()]
    if precision() == "bf16" and not torch.cuda.is_available():
        units = {"AVX512_BF16": torch.cpu._is_avx512_bf16_supported(), "AMX": torch.cpu._is_amx_tile_supported()}
        used += [name for name, there in units.items() if there]
    return " ".join(used)


def attention(training: bool) -> str:
    """Which of transformers' attention implementations is fastest here.

    On a processor the backward pass of the fused attention is slow: training MiniLM ran 2.0 times faster with plain
    products ("eager"), while scoring ran 1.1 times faster fused ("sdpa").
    """
    return "eager" if training and device().type == "cpu" else "sdpa"


@lru_cache(maxsize=1)
def keep_memory() -> None:
    """Let the C library keep the memory that tensors leave, for the rest of the process.

    By default glibc hands large blocks back to the system as soon as they are free, and every step faults them
    in again: on two cores this setting made training 1.15 to 1.5 and scoring 1.2 to 1.5 times faster, in alternating
    runs. Nothing happens elsewhere than on a processor under glibc. `Meter` hands free memory back before it starts.
    """
    if (library := _glibc()) is not None and device().type == "cpu":
        library.mallopt(_MMAP_THRESHOLD, 2**25)  # the largest that it takes
        library.mallopt(_TRIM_THRESHOLD, 2**31 - 1)
        library.mallopt(_TOP_PAD, 2**26)


_TRIM_THRESHOLD, _TOP_PAD, _MMAP_THRESHOLD = -1, -2, -3  # malloc.h


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def description() -> dict[str, str]:
    """Provenance: what was computed on what, with which versions."""
    import accelerate
    import bm25s
    import transformers

    name = torch.cuda.get_device_name() if torch.cuda.is_available() else _processor()
    return {
        "device": name, "features": features(), "threads": str(torch.get_num_threads()), "precision": precision(),
        "python": platform.python_version(), "torch": torch.__version__, "transformers": transformers.__version__,
        "accelerate": accelerate.__version__, "bm25s": bm25s.__version__,
    }  # fmt: skip


def _processor() -> str:
    """The processor's name as the system tells it, else its architecture."""
    information = Path("/proc/cpuinfo")
    found = re.search(r"^model name\s*: (.+)$", information.read_text(), re.M) if information.exists() else None
    return f"{platform.machine()} processor" + (f", {found[1].strip()}" if found else "")


@dataclass
class Meter:
    """Seconds, peak memory and energy of a block: `with Meter() as meter: ...`, then read `meter.seconds`.

    A block within a block starts the peak anew for both.
    """

    seconds: float = 0.0
    # of the accelerator; without one, of the whole process (outside Linux: since it began)
    peak_memory_gib: float = 0.0
    energy_joules: float = math.nan  # NaN where the hardware does not report it
    _start: float = field(default=0.0, repr=False)
    _energy: float = field(default=math.nan, repr=False)

    def __enter__(self) -> "Meter":
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        else:
            if (library := _glibc()) is not None:
                library.malloc_trim(0)  # else this peak would hold what an earlier block left
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # Linux: the peak begins anew
        self._energy = _joules()
        self._start = time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            self.peak_memory_gib = torch.cuda.max_memory_allocated() / 2**30
        else:
            self.peak_memory_gib = peak_bytes() / 2**30
        self.seconds = time.perf_counter() - self._start
        used = _joules() - self._energy
        self.energy_joules = used if used >= 0 else math.nan  # a counter that began anew in between


def peak_bytes() -> int:
    """Most memory that the process held since its peak was last started anew, or since it began."""
    status = Path("/proc/self/status")
    found = re.search(r"VmHWM:\s+(\d+) kB", status.read_text()) if status.exists() else None
    if found:
        return int(found[1]) * 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 2**10)


def _joules() -> float:
    """What the hardware's own counters say was used so far: accelerator (NVML), else processor packages (RAPL)."""
    if torch.cuda.is_available():
        with contextlib.suppress(Exception):  # no NVML bindings, or a device that does not count
            import pynvml

            pynvml.nvmlInit()
            # NVML counts all devices of the machine, whatever CUDA_VISIBLE_DEVICES says: ask by this one's id.
            this = pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(device()).uuid}")
            return pynvml.nvmlDeviceGetTotalEnergyConsumption(this) / 1000
        return math.nan
    packages = sorted(Path("/sys/class/powercap").glob("intel-rapl:[0-9]/energy_uj"))
    try:
        return sum(int(package.read_text()) for package in packages) / 1e6 if packages else math.nan
    except OSError:  # only root may read them on most systems
        return math.nan
