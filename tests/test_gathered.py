"""Rows of several processes; with two real ones: tests/test_several_processes.py."""

import accelerate
import pytest
import torch

from lib.machine import processes
from lib.models import gathered


@pytest.mark.parametrize("values", [torch.tensor([[True, False]]), torch.tensor([[3, 4]]), torch.tensor([[0.5, 1.0]])])
def test_filling_up_keeps_the_type(values, monkeypatch):
    """Accelerate makes whole numbers of a mask that it fills up, so one process would gather another type."""
    monkeypatch.setattr(processes, "count", lambda: 2)
    wider = lambda given, dim: torch.cat([given, given.new_zeros(1, 1) + 0], dim)  # noqa: E731 - as it does
    monkeypatch.setattr(accelerate.utils, "pad_across_processes", wider)
    monkeypatch.setattr(accelerate.utils, "gather", lambda given: torch.cat([given, given]))
    found = gathered.gathered(values, 1)
    assert found.dtype == values.dtype and found.tolist() == 2 * [[*values[0].tolist(), 0]]
