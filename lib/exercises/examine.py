"""How a learner's function is examined: against the right one, then against named slips, then for what must hold.

A check says what is wrong, in one sentence. Values and gradients on a few small inputs are compared with those of the
right function. Where they differ, the sentence is that of the slip that has the same wrong values; of two slips at
once; of a sign, factor or constant; of a property that is violated; or, last, one input with both values.
"""

import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from lib.exercises import outcome
from lib.exercises.outcome import Outcome

Function = Callable[..., object]

_VALUES_ALONE = "The values are right and the gradients are not: something is detached, or is not, on the wrong side."
_MAX = "max and min along a dimension give values and positions, of which you need .values (amax gives them alone)."
_PLACES = ("first", "second", "third", "fourth")


class NotYet(AssertionError):
    """A solution does not pass; the message is one sentence that says what is wrong."""

    def _render_traceback_(self) -> list[str]:
        """In a notebook: the sentence alone, without the lines of the check."""
        return [f"Not yet: {self}"]


@dataclass(frozen=True)
class Exercise:
    """A check: `exercise(yours)` prints a line of praise, or raises NotYet with a sentence that names the error."""

    task: str  # what is to be written, with shapes
    praise: str
    cases: tuple[tuple, ...] = ()  # arguments
    right: Function | None = None  # None: an open exercise, in which whatever meets the demands is right
    returns: str = "one number"
    slips: dict[str, Function] = field(default_factory=dict)  # what is wrong -> a function with that error
    wraps: dict[str, Callable[[Function], Function]] = field(default_factory=dict)  # what is wrong -> adds that error
    demands: dict[str, Callable[[Function], bool]] = field(default_factory=dict)  # what is wrong -> whether it is not
    gradients: tuple[int, ...] = ()  # arguments whose gradients count
    sizes: Callable[..., dict[str, int]] = lambda *_: {}  # what a sum or mean may have been taken over, by name

    def __call__(self, yours: Function) -> None:
        """Examine a function."""
        if not callable(yours):
            raise NotYet(f"Give the function itself, without calling it, and not a {type(yours).__name__}.")
        if fault := next(self._faults(yours), None):
            raise NotYet(fault)
        print(f"Right. {self.praise}")

    def wrong(self) -> dict[str, Function]:
        """Every named error and a function that makes it."""
        return self.slips | {says: wrap(self.right) for says, wrap in self.wraps.items()}

    def _faults(self, yours: Function) -> Iterator[str]:
        """What is wrong, the most specific first."""
        found = [outcome.of(yours, case, self.gradients) for case in self.cases]
        yield from _not_written(found, self.task)
        if self.right is not None:
            wanted = [outcome.of(self.right, case, self.gradients) for case in self.cases]
            right, values_right = _all(outcome.same, found, wanted), _all(outcome.same_value, found, wanted)
            if not right:
                yield from self._named(found, values_right=values_right)
                yield from _unusable(found, wanted, self.cases, self.returns)
                if values_right:
                    yield from _unreached(found, wanted, self.gradients)
                else:
                    yield from _relations(found, wanted, [self.sizes(*case) for case in self.cases])
        else:
            yield from _raised(found, self.cases)
        for says, holds in self.demands.items():
            try:
                with warnings.catch_warnings(action="ignore"):
                    held = holds(yours)
            except Exception as error:
                yield f"{says[:-1]}; there your function raises {type(error).__name__}: {error}."
            else:
                if not held:
                    yield says
        if self.right is not None and not right:
            yield _VALUES_ALONE if values_right else _example(found, wanted, self.cases)

    def _named(self, found: list[Outcome], *, values_right: bool) -> Iterator[str]:
        """The slip, or the two at once, whose outcomes these are."""
        like = outcome.same if values_right else outcome.same_value

        def made(function: Function) -> bool:
            return all(like(one, outcome.of(function, case, self.gradients))
                       for one, case in zip(found, self.cases, strict=True))  # fmt: skip

        wrong = self.wrong()
        yield from (says for says, function in wrong.items() if made(function))
        for second, wrap in self.wraps.items():
            yield from (f"Two things at once: {_clause(first)}; and {_clause(second)}."
                        for first, function in wrong.items() if first != second and made(wrap(function)))  # fmt: skip


def _not_written(found: list[Outcome], task: str) -> Iterator[str]:
    if any(isinstance(one.error, NotImplementedError) for one in found):
        yield f"The function is not written yet; in place of its last line it needs: {task}"
    if found and all(one.error is None and one.value is None for one in found):
        yield "Your function returns nothing (None): let it end in a return."


def _raised(found: list[Outcome], cases: tuple[tuple, ...]) -> Iterator[str]:
    for one, case in zip(found, cases, strict=True):
        if one.error is not None:
            hint = f": {_MAX}" if "torch.return_types" in str(one.error) else "."
            yield f"Your function raises {type(one.error).__name__} ({one.error}) for {outcome.shown(case)}{hint}"


def _unusable(found: list[Outcome], wanted: list[Outcome], cases: tuple[tuple, ...], returns: str) -> Iterator[str]:
    """Errors, changed arguments, and results of another kind or shape."""
    yield from _raised(found, cases)
    for one, right, case in zip(found, wanted, cases, strict=True):
        if one.changed:
            yield "Your function changes its arguments in place: whoever calls it needs them again, so change a copy."
        if one.value is None:
            yield f"Your function returns nothing (None) for {outcome.shown(case)}: let every branch end in a return."
        if type(one.value).__module__ == "torch.return_types":
            yield f"Your function returns a pair: {_MAX}"
        if type(one.value) is not type(right.value):
            yield f"Your function returns a {type(one.value).__name__}; it should return {returns}."
        elif not isinstance(one.value, np.ndarray):
            continue  # a word
        elif one.value.shape != right.value.shape:
            yield _shapes(one.value.shape, right.value.shape, returns, case)
        elif not np.isfinite(one.value[np.isfinite(right.value)]).all():
            yield f"Your result is not finite for {outcome.shown(case)}; by hand it is {outcome.shown(right.value)}."


def _unreached(found: list[Outcome], wanted: list[Outcome], arguments: tuple[int, ...]) -> Iterator[str]:
    """Arguments that no gradient reaches."""
    without = [_PLACES[place] for number, place in enumerate(arguments)
               if not any(np.any(one.gradients[number]) for one in found)
               and any(np.any(one.gradients[number]) for one in wanted)]  # fmt: skip
    if without:
        which = "arguments" if len(without) == len(arguments) else f"{' and the '.join(without)} argument"
        yield (f"The values are right, but no gradient reaches the {which}: compute with torch alone, without "
               "detach(), item(), numpy() or no_grad().")  # fmt: skip


def _shapes(yours: tuple[int, ...], wanted: tuple[int, ...], returns: str, case: tuple) -> str:
    hint = ""
    if yours == () and len(wanted) == 1:
        hint = ": the mean or sum is taken over the first dimension too, and should be over the last alone"
    elif len(yours) == 2 and yours == wanted[::-1]:
        hint = ": rows and columns are swapped"
    elif yours == (*wanted, 1):
        hint = ": a dimension of 1 is left over, from keepdim=True or a slice such as [:, :1] where [:, 0] is due"
    elif len(wanted) == 1 and yours == (*wanted, *wanted):
        hint = (": each is combined with every other, because a column (n, 1) meets a row (n,), or because a matrix "
                "product stands where each row has its own sum")  # fmt: skip
    elif len(yours) == len(wanted) == 1 and any(yours[0] in np.shape(one) for one in case):
        hint = ": it is reduced along the wrong axis (the last dimension, -1, is the one to reduce)"
    elif len(yours) == len(wanted) + 1:
        hint = ": one reduction (a sum, mean or maximum) is missing"
    return f"Your result has the shape {yours} where {returns}, {wanted}, is due{hint}."


def _relations(found: list[Outcome], wanted: list[Outcome], sizes: list[dict[str, int]]) -> Iterator[str]:
    """A sign, a constant factor, a factor that is a size of the input, or a constant."""
    if not all(isinstance(one.value, np.ndarray) for one in (*found, *wanted)):
        return
    ratios = [outcome.ratio(one.value, right.value) for one, right in zip(found, wanted, strict=True)]
    known = [ratio for ratio in ratios if ratio is not None]
    if len(known) == len(ratios) and known:
        if np.allclose(known, 0):
            yield "Your result is always 0."
        if np.allclose(known, -1):
            yield "Your result has the wrong sign: it is minus the right one."
        for name in sizes[0]:
            for power, says in ((1, f"too large by the number of {name}: take the mean over them, not the sum"),
                                (-1, f"too small by the number of {name}: do not divide by it")):  # fmt: skip
                if np.allclose(known, [one[name] ** power for one in sizes]):
                    yield f"Your result is {says}."
        if np.allclose(known, known[0]):
            yield f"Your result is always {known[0]:.4g} times the right one: a factor is missing or too much."
    differences = np.concatenate([np.ravel(one.value - right.value) for one, right in zip(found, wanted, strict=True)])
    if len(differences) > 1 and np.allclose(differences, differences[0]) and abs(differences[0]) > 1e-9:
        yield f"Your result is always the right one plus {differences[0]:.4g}: a term is missing or too much."


def _example(found: list[Outcome], wanted: list[Outcome], cases: tuple[tuple, ...]) -> str:
    """The smallest input on which the two differ."""
    apart = [(one, right, case) for one, right, case in zip(found, wanted, cases, strict=True)
             if not outcome.same(one, right)]  # fmt: skip
    one, right, case = min(apart, key=lambda these: len(outcome.shown(these[2])))
    values = f"your function gives {outcome.shown(one.value)}; right is {outcome.shown(right.value)}"
    return f"For {outcome.shown(case)} {values}."


def _all(like: Callable[[Outcome, Outcome], bool], found: list[Outcome], wanted: list[Outcome]) -> bool:
    return all(like(one, right) for one, right in zip(found, wanted, strict=True))


def _clause(sentence: str) -> str:
    """A sentence as a part of another."""
    return sentence[0].lower() + sentence[1:].rstrip(".")


def draw(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers in float64, the same for the same seed."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
