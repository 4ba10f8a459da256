"""What a block cost: its own time and peak, not those of what ran before."""

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
