"""Test scores during a training: the training is repeated and its model scored at a few steps, without disturbing it.

A run's history has means over the batches' own documents alone, and weights that it keeps on the way
(`training.snapshots`) are at equal distances and part of its name; here they are closer early on, and the run is the
students' of notebook 04. A shorter run is no snapshot of a longer one, since the learning rate falls to zero at the end
of each.
"""

from pathlib import Path

import numpy as np
import pandas as pd

from lib.machine import processes, store
from lib.study import identity, rankers, runs
from lib.study.experiment import Experiment, TestSet
from lib.training import loop, scoring


def scores(run: Experiment, test: TestSet, *, count: int = 6) -> pd.DataFrame:
    """Scores before the first step and after `count` steps, the last one included; they are closer early on.

    Columns step, query, document, rank, first_stage, grade, score. Kept, so the training is repeated once. Raises
    NotTrained if a run that this one starts from or learns from is not in the store.
    """
    if run.training.adapter is not None or run.peer is not None:
        raise ValueError(f"{run.about}: snapshots are of runs without an adapter and without a peer")
    if processes.count() > 1:
        raise ValueError(f"{run.about}: {processes.count()} processes were launched; snapshots are made in one")
    name = store.key(identity.of_evaluation(run, test), count)
    place = store.keep("snapshots", name, lambda folder: _repeat(run, test, count, folder), of=rankers.made_from(run))
    return pd.read_parquet(place / "scores.parquet")


def _repeat(run: Experiment, test: TestSet, count: int, folder: Path) -> None:
    (trained, groups, tokens), scored = runs.at_start(run), rankers.at_start(run)
    tested, _, ranking = test.candidates()
    inputs = rankers.inputs(scored, tested, run.model)
    asked, candidates = ranking["query"].to_numpy(), ranking["document"].to_numpy()
    total = len(groups) // run.training.batch_size * run.training.epochs
    wanted = {0, *np.ceil(total * np.linspace(0, 1, count + 1)[1:] ** 2).astype(int).tolist()}
    shots = []

    def look(step: int) -> None:
        if step in wanted:
            scored.load_state_dict(trained.state_dict())
            values = scoring.score(scored, inputs, asked, candidates, what=f"scoring step {step}")
            shots.append(ranking.assign(step=step, score=values))

    look(0)
    loop.train(trained, groups, tokens, run.strategy, run.training, seed=run.seed, after=look)
    pd.concat(shots, ignore_index=True).to_parquet(folder / "scores.parquet")
