"""What a block cost: its own time and peak, not those of what ran before; the precision of each processor."""

import math

import numpy as np
import pytest
import torch

from lib.machine import hardware


@pytest.mark.skipif(
    torch.cuda.is_available(), reason="the peak is then the accelerator's, which this block leaves alone"
)
def test_the_peak_is_that_of_the_block():
    def peak(mebibytes):
        with hardware.Meter() as meter:
            np.ones(mebibytes * 2**17).sum()
        assert meter.seconds > 0
        return meter.peak_memory_gib * 1024

    large, small = peak(400), peak(1)
    assert 300 < large - small < 600  # the earlier, larger block does not count for the later one


def test_energy_is_what_the_counters_gained_in_the_block(monkeypatch):
    counter = iter([1000.0, 1042.5])
    monkeypatch.setattr(hardware, "_joules", lambda: next(counter))
    with hardware.Meter() as meter:
        pass
    assert meter.energy_joules == 42.5


@pytest.mark.parametrize("counter", [(math.nan, math.nan), (1000.0, 3.0)])  # none; one that began anew
def test_an_energy_that_cannot_be_known_is_missing(monkeypatch, counter):
    values = iter(counter)
    monkeypatch.setattr(hardware, "_joules", lambda: next(values))
    with hardware.Meter() as meter:
        pass
    assert math.isnan(meter.energy_joules)


@pytest.mark.parametrize(("machine", "units", "precision"), [
    ("x86_64", {"AVX512_BF16"}, "bf16"), ("x86_64", {"AMX", "AVX512_BF16"}, "bf16"), ("x86_64", set(), "no"),
    ("AMD64", {"ARM_BF16"}, "no"), ("aarch64", {"ARM_BF16"}, "bf16"), ("aarch64", set(), "no"),
    ("arm64", {"ARM_BF16", "no oneDNN"}, "no"),
])  # fmt: skip
def test_the_precision_is_that_of_the_processors_units(machine, units, precision, monkeypatch):
    if torch.cuda.is_available():
        monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    monkeypatch.setattr("platform.machine", lambda: machine)
    monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda: "AVX512_BF16" in units)
    monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda: "AMX" in units)
    monkeypatch.setattr("torch.backends.mkldnn.is_available", lambda: "no oneDNN" not in units)
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: "ARM_BF16" in units)
    assert hardware.precision() == precision
    if precision == "bf16":
        assert set(hardware.features().split()[1:]) == units


@pytest.mark.parametrize(("kind", "package", "precision", "chosen"), [
    ("cpu", True, "bf16", ("eager", "sdpa")), ("cuda", False, "bf16", ("sdpa", "sdpa")),
    ("cuda", True, "no", ("sdpa", "sdpa")), ("cuda", True, "bf16", ("flash_attention_2", "flash_attention_2")),
])  # fmt: skip
def test_flash_attention_is_for_accelerators_that_have_it(kind, package, precision, chosen, monkeypatch):
    monkeypatch.setattr(hardware, "device", lambda: torch.device(kind))
    monkeypatch.setattr(hardware, "precision", lambda: precision)
    monkeypatch.setattr("importlib.util.find_spec", lambda name: package or None)
    assert (hardware.attention(training=True), hardware.attention(training=False)) == chosen


def test_a_launcher_changes_no_loss(monkeypatch):
    """`accelerate launch --gradient_accumulation_steps 4` would have each loss divided by four."""
    monkeypatch.setenv("ACCELERATE_GRADIENT_ACCUMULATION_STEPS", "4")
    assert hardware.accelerator().gradient_accumulation_steps == 1
