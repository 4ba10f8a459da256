"""A reader's own loss is what it computes: its code and all that it uses, in every process, and no file or address."""

import functools
import importlib
import shutil
import subprocess
import sys

import pytest
import torch

from lib import losses
from lib.machine import store
from lib.study.functions import of_function
from lib.training.strategies import bind, named


def key(function):
    return store.key(of_function(function))


def in_a_notebook(source, **known):
    """The function `loss` of a cell."""
    names = {"torch": torch, "losses": losses, "bind": bind, "functools": functools, "__name__": "__main__", **known}
    exec(source, names)
    return names["loss"]


BODY = "torch.relu(1 - scores[:, :1] + scores[:, 1:]).mean(1)"
LOSS = f"def loss(scores, targets): return {{}} * {BODY}"
MAKE = f"def make(factor):\n    {LOSS.format('factor')}\n    return loss\n"
SCALED = """
def scaled(factor):
    def decorate(inner):
        @functools.wraps(inner)
        def outer(*given, **named): return factor * inner(*given, **named)
        return outer
    return decorate
"""

PAIRS = {
    "a number": (LOSS.format("1.0"), LOSS.format("2.0")),
    "a closure": (MAKE + "loss = make(1.0)", MAKE + "loss = make(2.0)"),
    "a default": tuple(f"def loss(scores, targets, factor={one}): return factor * {BODY}" for one in (1.0, 2.0)),
    "a global": tuple(f"FACTOR = {one}\n{LOSS.format('FACTOR')}" for one in (1.0, 2.0)),
    "a set": tuple(f"FACTOR = {one}\n{LOSS.format('len(FACTOR)')}" for one in ({1}, {2})),
    "another function": tuple(f"def two(x): return x * {one}\n{LOSS.format('two(2)')}" for one in (1, 2)),
    "a function in a function": tuple(f"{LOSS.format(f'(lambda: {one})()')}" for one in (1, 2)),
    "a bound function": tuple(
        f"half = bind(losses.hinge, margin={one})\ndef loss(scores, targets): return half(scores, targets)"
        for one in (1.0, 2.0)
    ),
    "a partial": tuple(
        f"half = functools.partial(losses.hinge, margin={one})\ndef loss(scores, targets): return half(scores, targets)"
        for one in (1.0, 2.0)
    ),
    "a decorator": tuple(f"{SCALED}\n@scaled({one})\n{LOSS.format('1')}" for one in (1.0, 2.0)),
    "a decorator of the kit's": (f"{SCALED}\nloss = scaled(2.0)(losses.hinge)", "loss = losses.hinge"),
    "two lambdas on one line": tuple(
        f"a, b = lambda s, t: s.mean(1), lambda s, t: s.sum(1)\nloss = {one}" for one in "ab"
    ),
}


@pytest.mark.parametrize("change", PAIRS)
def test_what_a_loss_uses_tells_runs_apart(change):
    one, other = (in_a_notebook(source) for source in PAIRS[change])
    assert key(one) != key(other)
    assert key(one) == key(in_a_notebook(PAIRS[change][0]))


def test_what_computes_the_same_is_one_function():
    loss = in_a_notebook(LOSS.format("1.0"))
    moved = in_a_notebook("\n\n# moved, and commented\n" + LOSS.format("1.0"))
    assert key(loss) == key(moved)
    margin = "def loss(scores, targets, *, margin: float = 1.0): return torch.relu(margin - scores).mean(1)"
    assert key(in_a_notebook(margin)) == key(bind(in_a_notebook(margin), margin=1))
    assert key(in_a_notebook(margin)) != key(bind(in_a_notebook(margin), margin=2))


def test_a_function_of_the_kit_is_its_name_and_parameters():
    assert of_function(losses.hinge) == ["lib.losses.pairwise.hinge", {"margin": 1.0}]
    assert of_function(named("triplet").terms[0].loss) == ["lib.losses.pairwise.hinge", {"margin": 0.3}]


def test_a_function_may_call_itself():
    source = "def loss(scores, targets, n=2): return scores.mean(1) if n == 0 else {} * loss(scores, targets, n - 1)"
    assert key(in_a_notebook(source.format(1))) != key(in_a_notebook(source.format(2)))


def test_a_value_that_cannot_be_compared_is_refused_by_name():
    with pytest.raises(ValueError, match=r"loss: it uses WEIGHTS=tensor.*a Tensor.*: use numbers, texts"):
        key(in_a_notebook(LOSS.format("WEIGHTS"), WEIGHTS=torch.ones(2)))


def test_a_readers_module_counts_by_its_content_and_a_loss_by_what_was_imported(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "readers_own_losses.py"
    file.write_text("def two(x): return x * 1\ndef loss(scores, targets): return two(scores).mean(1)\n")
    module = importlib.import_module("readers_own_losses")
    before = key(module.loss), key(in_a_notebook("loss = lambda s, t: module.two(s)", module=module))
    file.write_text("def two(x): return x * 2\ndef loss(scores, targets): return two(scores).mean(1)\n")
    calls = in_a_notebook("loss = lambda s, t: module.two(s)", module=module)
    assert (key(module.loss), key(calls)) == before  # the old one still computes
    shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)  # of a file of the same size and second
    importlib.reload(module)
    assert key(module.loss) != before[0] and key(calls) != before[1]


def test_a_value_of_a_readers_module_counts_as_it_is_now(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    source = "MARGIN, UNUSED = 1.0, open\ndef margin(): return MARGIN\n"
    (tmp_path / "readers_margins.py").write_text(source)
    module = importlib.import_module("readers_margins")
    calls = in_a_notebook("loss = lambda s, t: s.mean(1) - module.margin()", module=module)
    reads = in_a_notebook("loss = lambda s, t: s.mean(1) - module.MARGIN", module=module)
    before = key(calls), key(reads)
    monkeypatch.setattr(module, "MARGIN", 5.0)
    assert key(calls) != before[0] and key(reads) != before[1]
    monkeypatch.setattr(module, "MARGIN", torch.ones(2))
    with pytest.raises(ValueError, match=r"it uses module.MARGIN=tensor.*a Tensor"):
        key(reads)


def test_a_readers_module_that_is_imported_inside_a_loss_counts_by_its_content(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(tmp_path)
    file = tmp_path / "readers_inner_losses.py"
    source = "def loss(scores, targets):\n    from readers_inner_losses import two\n    return two(scores).mean(1)"
    keys = []
    for factor in (1, 2):
        file.write_text(f"def two(x): return x * {factor}\n")
        sys.modules.pop("readers_inner_losses", None)  # as after a restart
        importlib.invalidate_caches()
        shutil.rmtree(tmp_path / "__pycache__", ignore_errors=True)
        keys.append(key(in_a_notebook(source)))
    assert keys[0] != keys[1]
    plain = "def loss(scores, targets):\n    import math\n    return math.pi * scores.mean(1)"
    assert key(in_a_notebook(plain)) == key(in_a_notebook(plain))


def test_a_key_is_the_same_in_another_process_whatever_the_order_of_its_sets():
    script = """
import torch
from lib.losses.signature import ranking_loss
from lib.machine import store
from lib.study.functions import of_function
from lib.training.strategies import bind
NAMES = {"a", "b", "c", "d"}
def loss(scores, targets): return scores.mean(1) * len(NAMES) if "a" in {"a", "b", "c"} else (lambda: scores)()
print(store.key(of_function(loss)))
@ranking_loss
def margin_loss(scores, targets, *, margin: float = 1.0): return torch.relu(margin - scores).mean(1)
keys = [store.key(of_function(one)) for one in (margin_loss, bind(margin_loss, margin=1), bind(margin_loss, margin=2))]
assert keys[0] == keys[1] != keys[2]
"""
    run = [subprocess.run([sys.executable, "-W", "ignore", "-c", script], capture_output=True, text=True, check=True,
                          env={"PYTHONHASHSEED": seed, "PATH": ""}).stdout for seed in "12"]  # fmt: skip
    assert run[0] == run[1] != ""
