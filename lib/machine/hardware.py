"""What the work runs on: device, precision and what it cost."""

import contextlib
import ctypes
import importlib.util
import math
import platform
import re
import resource
import time
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING

import torch

if TYPE_CHECKING:
    import accelerate

# Packages whose version can change what is computed: the kit's choices of passages and batches, models, measures.
PACKAGES = ("torch", "transformers", "accelerate", "bm25s", "numpy", "tokenizers", "peft", "ir_measures")


def device() -> torch.device:
    """The accelerator if there is one, else the processor."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def accelerator(**more: object) -> "accelerate.Accelerator":
    """Accelerate's view of this device and precision, with further arguments.

    Its state is made once a process, so all of them have to ask for the same. Without `cpu` it would not see that a
    launcher started several processes on a processor.
    """
    import accelerate  # late: most of what needs this module needs no training

    # Given as a plugin, since `accelerate launch` would replace the plain argument: steps are the strategy's to decide.
    once = accelerate.utils.GradientAccumulationPlugin(num_steps=1)
    return accelerate.Accelerator(
        cpu=device().type == "cpu", mixed_precision=precision(), gradient_accumulation_plugin=once, **more
    )


def precision() -> str:
    """ "bf16" where the device multiplies bfloat16 in hardware, else "no" (float32): Accelerate's words.

    With AMX or AVX512_BF16 a processor is faster in bf16 (notebook 11); an x86 one without either (AVX2) emulates it
    and is slower. On ARM the choice follows documentation and was not measured: bf16 where the processor has it
    (Armv8.6-A) and torch multiplies by oneDNN, as it does on Linux:
    https://uxlfoundation.github.io/oneDNN/dev_guide_data_types.html. The hardware is asked, not timed: the answer is
    the same in every process.
    """
    fast = torch.cuda.is_bf16_supported(including_emulation=False) if torch.cuda.is_available() else _bf16_units()
    return "bf16" if fast else "no"


def autocast() -> torch.autocast:
    """A block in which products are computed in this device's `precision`."""
    return torch.autocast(device().type, torch.bfloat16, enabled=precision() == "bf16")


def features() -> str:
    """The processor's vector instructions in use: those of torch's kernels, then the units for bfloat16."""
    return " ".join([torch.backends.cpu.get_cpu_capability(), *([] if torch.cuda.is_available() else _bf16_units())])


def _bf16_units() -> list[str]:
    arm = platform.machine().lower() in ("aarch64", "arm64")
    units = {
        "AVX512_BF16": torch.cpu._is_avx512_bf16_supported(), "AMX": torch.cpu._is_amx_tile_supported(),
        "ARM_BF16": arm and torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported(),
    }  # fmt: skip
    return [name for name, supported in units.items() if supported]


def orders_weights() -> bool:
    """Whether oneDNN's kernels for bf16 have an order of their own for weights, which can be made once: on x86."""
    return torch.backends.mkldnn.is_available() and platform.machine().lower() in ("x86_64", "amd64")


def attention(training: bool) -> str:
    """Which of transformers' attention implementations to use here.

    On an accelerator FlashAttention 2, which leaves padding out, where its package is and precision allows it. On a
    processor, plain products ("eager") trained MiniLM 2.0 times faster, as the backward pass of fused attention
    ("sdpa") is slow there, and fused attention scored 1.1 times faster.
    """
    if device().type == "cpu":
        return "eager" if training else "sdpa"
    return "flash_attention_2" if precision() == "bf16" and importlib.util.find_spec("flash_attn") else "sdpa"


@cache
def keep_memory() -> None:
    """Let the C library keep the memory that tensors leave, for the rest of the process.

    By default glibc hands large free blocks back to the system, and every step faults them in again: keeping them made
    training 1.15 to 1.5 and scoring 1.2 to 1.5 times faster on two cores. It affects only a processor under glibc.
    `Meter` hands free memory back before it starts.
    """
    if (library := _glibc()) is not None and device().type == "cpu":
        library.mallopt(-3, 2**25)  # M_MMAP_THRESHOLD of malloc.h, the largest that glibc accepts
        library.mallopt(-1, 2**31 - 1)  # M_TRIM_THRESHOLD
        library.mallopt(-2, 2**26)  # M_TOP_PAD


def _glibc() -> ctypes.CDLL | None:
    return ctypes.CDLL(None) if platform.libc_ver()[0] == "glibc" else None


def description() -> dict[str, str]:
    """The device and the versions that results were computed with, by name."""
    information = Path("/proc/cpuinfo")
    name = re.search(r"^model name\s*: (.+)$", information.read_text(), re.M) if information.exists() else None
    processor = f"{platform.machine()} processor" + (f", {name[1].strip()}" if name else "")
    return {
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else processor, "features": features(),
        "threads": str(torch.get_num_threads()), "precision": precision(), "python": platform.python_version(),
    } | _versions()  # fmt: skip


@cache
def _versions() -> dict[str, str]:
    return {name: metadata.version(name) for name in PACKAGES}


class Meter:
    """Seconds, peak memory and energy of a block: `with Meter() as meter: ...`, then read `meter.seconds`.

    A block within a block restarts the peak for both.
    """

    seconds: float
    peak_memory_gib: float  # of the accelerator; without one, of the whole process (outside Linux: since it began)
    energy_joules: float  # NaN where the hardware does not report it

    def __enter__(self) -> "Meter":
        if torch.cuda.is_available():
            torch.cuda.synchronize()
            torch.cuda.reset_peak_memory_stats()
        else:
            if (library := _glibc()) is not None:
                library.malloc_trim(0)  # otherwise this peak would hold what an earlier block left
            with contextlib.suppress(OSError):
                Path("/proc/self/clear_refs").write_text("5")  # Linux: restarts the peak
        self._energy, self._start = _joules(), time.perf_counter()
        return self

    def __exit__(self, *_: object) -> None:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        self.seconds = time.perf_counter() - self._start
        self.peak_memory_gib = peak_bytes() / 2**30
        used = _joules() - self._energy
        self.energy_joules = used if used >= 0 else math.nan  # the counter restarted in between


def peak_bytes() -> int:
    """Most memory that the process held, on the accelerator if there is one, since its peak was restarted."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated()
    with contextlib.suppress(OSError, TypeError):  # not Linux, or one that does not report it
        return int(re.search(r"VmHWM:\s+(\d+) kB", Path("/proc/self/status").read_text())[1]) * 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if platform.system() == "Darwin" else 2**10)


def _joules() -> float:
    """What the hardware's own counters report as used so far: accelerator (NVML), else processor packages (RAPL)."""
    with contextlib.suppress(Exception):  # no NVML bindings, no counter, or one that only root may read
        if torch.cuda.is_available():
            import pynvml

            pynvml.nvmlInit()
            # NVML counts all devices of the machine, whatever CUDA_VISIBLE_DEVICES says: ask by this one's id.
            device_id = f"GPU-{torch.cuda.get_device_properties(device()).uuid}"
            return pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByUUID(device_id)) / 1000
        if packages := list(Path("/sys/class/powercap").glob("intel-rapl:[0-9]/energy_uj")):
            return sum(int(package.read_text()) for package in packages) / 1e6
    return math.nan
