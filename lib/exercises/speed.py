"""Checks of notebook 11 on speed: what a faster part brings, how much padding is left, batches of your own."""

import numpy as np

from lib.exercises.examine import Exercise, Function

PARTS = ((0.5, 2.0), (0.8, 4.0), (0.1, 10.0), (0.3, 1.5))  # share of the time, factor

speed_up = Exercise(
    task="How many times as fast the whole is when the part that takes `share` of its time becomes `factor` times as "
    "fast.",
    praise="What is left decides: however fast the part becomes, the whole is at most 1 / (1 - share) times as fast.",
    cases=PARTS,
    right=lambda share, factor: 1 / (1 - share + share / factor),
    slips={
        "The part vanishes here, as if its factor were infinite: it still takes share / factor.": (
            lambda share, factor: 1 / (1 - share)
        ),
        "This is the time that is left; the speed is 1 divided by it.": lambda share, factor: (
            1 - share + share / factor
        ),
        "This is the time that is saved; the speed is 1 divided by the time that is left.": (
            lambda share, factor: share - share / factor
        ),
        "Speeds are averaged by their share of the time; add up times, and take 1 divided by the sum.": (
            lambda share, factor: 1 - share + share * factor
        ),
        "The part's time is multiplied by the factor: divide it.": lambda share, factor: (
            1 / (1 - share + share * factor)
        ),
        "The other part is made faster: share and 1 - share are swapped.": lambda share, factor: (
            1 / (share + (1 - share) / factor)
        ),
        "Only the part counts: the rest takes its time too.": lambda share, factor: factor,
        "The factor is multiplied by the share; add up the times of both parts.": lambda share, factor: share * factor,
        "The part's old time is left out of what it saves: share / factor is its new time, not what is saved.": (
            lambda share, factor: 1 / (1 - share / factor)
        ),
        "The rest is left out: this is the speed of the part, over its share.": lambda share, factor: factor / share,
        "1 is added: twice as fast is a factor of 2, and so is the result.": lambda share, factor: (
            1 / (1 - share + share / factor) - 1
        ),
    },
)

TEXTS = (
    (np.array([9, 2, 5, 7, 3, 8, 4]), 3),
    (np.array([12, 30, 7, 7, 25, 14, 3, 18, 40, 22]), 4),
    (np.array([6, 1, 5, 2, 9]), 2),
)  # tokens of the texts, texts of a batch


def _cut(lengths: np.ndarray, size: int) -> list[np.ndarray]:
    return [lengths[start : start + size] for start in range(0, len(lengths), size)]


def _places(batches: list[np.ndarray]) -> int:
    return sum(len(batch) * batch.max() for batch in batches)


def _left(lengths: np.ndarray, batches: list[np.ndarray]) -> float:
    return 1 - lengths.sum() / _places(batches)


padding_share = Exercise(
    task="The share of padding among all places if texts with `lengths` tokens are sorted from short to long and cut "
    "into batches of `size`; a batch is as wide as its longest text, and the last one may hold fewer texts.",
    praise="Sorting costs nothing, and packing removes what it leaves.",
    cases=TEXTS,
    right=lambda lengths, size: _left(lengths, _cut(np.sort(lengths), size)),
    slips={
        "The texts are not sorted by length first.": lambda lengths, size: _left(lengths, _cut(lengths, size)),
        "The texts are sorted from long to short, which leaves other texts to the last batch.": (
            lambda lengths, size: _left(lengths, _cut(np.sort(lengths)[::-1], size))
        ),
        "Every batch is as wide as the longest text of all; it is as wide as its own.": (
            lambda lengths, size: 1 - lengths.sum() / (len(lengths) * lengths.max())
        ),
        "This is the share of tokens; 1 minus it is padding.": lambda lengths, size: (
            1 - _left(lengths, _cut(np.sort(lengths), size))
        ),
        "Padding is divided by the tokens; divide it by all places, padding included.": lambda lengths, size: (
            _places(_cut(np.sort(lengths), size)) / lengths.sum() - 1
        ),
        "The places of padding are counted; divide them by all places.": lambda lengths, size: float(
            _places(_cut(np.sort(lengths), size)) - lengths.sum()
        ),
        "The shares of the batches are averaged: a wide batch has more places, so add up places first.": (
            lambda lengths, size: np.mean([1 - part.sum() / _places([part]) for part in _cut(np.sort(lengths), size)])
        ),
        "The last batch is filled with empty texts; it holds fewer.": lambda lengths, size: (
            1 - lengths.sum() / sum(size * part.max() for part in _cut(np.sort(lengths), size))
        ),
        "The last batch is left out where it is not full.": lambda lengths, size: _left(
            (kept := np.sort(lengths)[: len(lengths) // size * size]), _cut(kept, size)
        ),
        "A batch is as wide as its shortest text here, which cuts the others; it is as wide as its longest.": (
            lambda lengths, size: (
                1 - lengths.sum() / sum(len(part) * part.min() for part in _cut(np.sort(lengths), size))
            )
        ),
        "The size is taken for the number of batches; it is the number of texts in one.": (
            lambda lengths, size: _left(lengths, np.array_split(np.sort(lengths), size))
        ),
    },
)

_LENGTHS = np.random.default_rng(3).integers(5, 200, 203)


def _batches(yours: Function, seed: int = 0, size: int = 8) -> list[np.ndarray]:
    return [np.asarray(batch) for batch in yours(_LENGTHS.copy(), size, np.random.default_rng(seed))]


def _padding(batches: list[np.ndarray]) -> float:
    return _left(_LENGTHS, [_LENGTHS[batch] for batch in batches])


def _plain(batches: list[np.ndarray]) -> list[list[int]]:
    return [batch.tolist() for batch in batches]


_RANDOM = _padding(_cut(np.random.default_rng(0).permutation(len(_LENGTHS)), 8))

length_batches = Exercise(
    task="Batches of at most `size` texts of similar `lengths` (texts,), as a list of arrays of the texts' places, by "
    "a rule of your own that draws from the numpy generator `random`.",
    praise="Little padding, and no two epochs alike.",
    cases=((_LENGTHS[:9], 4, np.random.default_rng(0)),),
    demands={
        "A text is missing, or is in two batches.": lambda f: (
            sorted(np.concatenate(_batches(f)).tolist()) == list(range(len(_LENGTHS)))
        ),
        "A batch holds more than `size` texts.": lambda f: max(map(len, _batches(f))) <= 8,
        "There are more batches than needed: only one of them may hold fewer than `size` texts.": (
            lambda f: len(_batches(f)) == -(-len(_LENGTHS) // 8)
        ),
        "There is more than half as much padding as in random batches: put texts of similar length together.": (
            lambda f: max(_padding(_batches(f, seed)) for seed in range(5)) < _RANDOM / 2
        ),
        "The same state of the generator gives other batches: draw from `random` alone.": lambda f: (
            _plain(_batches(f)) == _plain(_batches(f))
        ),
        "The batches come in the order of their length: a training would see long texts last, so shuffle them.": (
            lambda f: all(
                abs(np.corrcoef(np.arange(26), [_LENGTHS[batch].mean() for batch in _batches(f, seed)])[0, 1]) < 0.8
                for seed in range(5)
            )
        ),
        "The same texts share a batch in every epoch: only the order of the batches is drawn.": lambda f: (
            {tuple(sorted(batch)) for batch in _plain(_batches(f, 1))}
            != {tuple(sorted(batch)) for batch in _plain(_batches(f, 2))}
        ),
        "A single text fails.": lambda f: (
            [np.asarray(batch).tolist() for batch in f(np.array([7]), 8, np.random.default_rng(0))] == [[0]]
        ),
    },
)
