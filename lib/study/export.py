"""A trained run for use elsewhere: `python -m lib.study.export kl --to my-ranker`.

The folder is in the hub's layout, which sentence-transformers opens as it is, with a model card (`lib.study.card`). On
request graphs for ONNX Runtime and OpenVINO are added, rankings are written as TREC runs, and the folder is sent to the
hub. Nothing leaves the machine without `--push`.
"""

import argparse
import logging
import re
import sys
import tempfile
from collections.abc import Iterable
from pathlib import Path

import huggingface_hub
import pandas as pd
import scipy.stats

from lib.analysis import measures, significance, style
from lib.data import hub
from lib.machine import hardware, store
from lib.models import backbone, graphs, weights
from lib.study import card, evening, identity, profiles, rankers, tables
from lib.study.experiment import Experiment, Run, TestSet, lineage
from lib.training import scoring


def write(run: Run, place: Path | str, tests: Iterable[TestSet] = (), *, dev: TestSet | None = None) -> Path:
    """Write a run's model and its card, with its measures on those of `tests` that it is scored on; returns the path.

    With `dev` graphs are written too, and what they change on these queries is printed and told in the card. The folder
    is whole or absent. Raises FileExistsError if it is not empty, NotTrained if the run is not in the store, StoreError
    if the place cannot be written, and as `lib.models.graphs.write`.
    """
    place = Path(place).absolute()
    if place.exists() and (not place.is_dir() or any(place.iterdir())):
        raise FileExistsError(f"{place} is not an empty folder: give another one, so that nothing is overwritten")
    ranker, tokenizer = rankers.ranker(run), backbone.tokenizer(run.model.backbone)
    place.parent.mkdir(parents=True, exist_ok=True)
    beside = tempfile.TemporaryDirectory(prefix=f".{place.name}.", dir=place.parent)
    with store.clear_write_errors(place.parent), beside as partial:
        folder, section = Path(partial, place.name), ""
        ranker.save(folder, tokenizer, run.model.max_length)
        if dev is not None:
            section = _section(compared(run, graphs.write(ranker, tokenizer, folder), dev), dev)
            print(section)
        card.card(run, tests, section).save(folder / "README.md")
        for path in filter(Path.is_file, folder.rglob("*")):
            path.chmod(0o644)  # safetensors writes private files
        folder.rename(place)
    return place


def compared(run: Run, paths: dict[str, Path], test: TestSet) -> pd.DataFrame:
    """One row per graph of a run (name -> file): how far its scores and its nDCG@10 are from the kit's own.

    Columns: largest and mean absolute difference of a score; tau: Kendall's tau-b of the two rankings, mean over
    queries; change: mean difference of nDCG@10; low, high: its 95 % interval over queries; pairs_per_second of the
    graph and kit_pairs_per_second, each timed once with torch's number of threads.
    """
    collection, queries, ranking = test.candidates()
    ranker, scores, values, rates = rankers.ranker(run), {}, {}, {}
    tokens = rankers.inputs(ranker, collection, run.model)
    for name, path in {"kit": None, **paths}.items():
        if path is not None:
            ranker.transformer = graphs.opened(path)
        with hardware.Meter() as meter:
            scores[name] = scoring.score(ranker, tokens, ranking["query"].to_numpy(), ranking["document"].to_numpy())
        rates[name] = len(ranking) / meter.seconds
        table = measures.measure(ranking.assign(score=scores[name]), collection, test.split, queries)
        values[name] = table[table["measure"] == "nDCG@10"].set_index("query")["value"]
    frame = pd.DataFrame(scores, dtype=float)
    drift, by_query = frame.sub(frame["kit"], axis=0).abs(), frame.groupby(ranking["query"].to_numpy())
    table = (
        significance.compare(pd.DataFrame(values), "kit").set_index("ranker").rename(columns={"difference": "change"})
    )
    for name in paths:
        taus = by_query.apply(lambda part, name=name: scipy.stats.kendalltau(part["kit"], part[name]).statistic)
        row = [drift[name].max(), drift[name].mean(), taus.mean(), rates[name], rates["kit"]]
        table.loc[name, ["largest", "mean", "tau", "pairs_per_second", "kit_pairs_per_second"]] = row
    columns = ["largest", "mean", "tau", "change", "low", "high", "pairs_per_second", "kit_pairs_per_second"]
    return table[columns].rename_axis("graph")


def _section(table: pd.DataFrame, test: TestSet) -> str:
    """What `compared` found, in Markdown, with the conditions."""
    given, rows = hardware.description(), list(table.itertuples())
    count = len(test.candidates()[1])
    shown = pd.DataFrame({
        "file": [graphs.FILES[row.Index] for row in rows],
        "drift of scores: largest (mean)": [f"{row.largest:.1e} ({row.mean:.1e})" for row in rows],
        "Kendall's tau": [f"{row.tau:.3f}" for row in rows],
        "change of nDCG@10 [95 % interval]": [f"{row.change:+.3f} [{row.low:+.3f}, {row.high:+.3f}]" for row in rows],
        "pairs/s (the kit's)": [f"{row.pairs_per_second:.0f} ({row.kit_pairs_per_second:.0f})" for row in rows],
    }, table.index)  # fmt: skip
    of = f"{card.public(test.collection)} ({test.split}), top {test.depth or 'all'}"
    asked = f"{card.queries(test, count)} of {of}"
    return (f"{style.markdown(shown)}\nAgainst the kit's own scores (precision {given['precision']}) on {asked}; "
            f"{given['threads']} threads each, {given['device']}.")  # fmt: skip


def trec(run: Run, test: TestSet, folder: Path | str) -> Path:
    """Write a run's ranking of a test set, and its judgements, as TREC files (`measures.write_trec`); returns its path.

    Raises NotTrained if the run is not scored on the test set.
    """
    ranking, (collection, queries, _) = tables.scores(run, test), test.candidates()
    judged = collection.judgements[test.split]
    which = f"{len(queries)}-after{test.skip}" if test.skip else f"{len(queries)}"
    what = f"{collection.name}-{test.split}-{which}-{test.ranked_by}-top{test.depth or 'all'}-{run.key}"
    about = identity.evaluation(run, test)[:8]  # two sets, or two stored runs, may share the rest
    path = Path(folder, re.sub(r"[^\w.-]+", "_", f"{what}-{about}.trec"))
    measures.write_trec(ranking, judged[judged["query"].isin(set(queries))], path, run.key)
    return path


def check_push(repository: str) -> None:
    """Raise ValueError unless it is owner/name, and ConnectionError if there is no token for the hub."""
    huggingface_hub.utils.validate_repo_id(repository)
    if "/" not in repository:
        raise ValueError(f"repository {repository!r}: give owner/name")
    if huggingface_hub.get_token() is None:
        raise ConnectionError("there is no token for the hub: call `hf auth login`, or set HF_TOKEN")


def push(folder: Path | str, repository: str) -> str:
    """Send a folder to owner/name on the hub, which is made where it is missing; returns its address.

    Raises as `check_push`, and ConnectionError if the hub does not take it.
    """
    check_push(repository)
    api = huggingface_hub.HfApi()
    try:
        address = api.create_repo(repository, exist_ok=True)
        api.upload_folder(repo_id=repository, folder_path=folder)
    except hub.NETWORK as error:
        raise ConnectionError(f"the hub does not take {repository}: {error}") from error
    return str(address)


def find(name: str, seed: int, profile: profiles.Profile) -> Experiment:
    """A profile's run by its name and seed, or by its key; raises ValueError if there is none."""
    runs = [(entry.ranker, entry.run) for entry in evening.plan(profile) if isinstance(entry.run, Experiment)]
    runs += [(run.strategy.name, run.with_seed(seed)) for run in profile.students()]
    runs += [(run.model.architecture, run.with_seed(seed)) for run in (*profile.architectures, *profile.assistants)]
    needed = [(one.key, one) for _, run in runs for one in lineage(run)]
    for own, run in [*((own, run) for own, run in runs if run.seed == seed), *needed]:
        if own == name:
            return run
    names = ", ".join(dict.fromkeys(own for own, _ in runs))
    fix = "a run of your own is exported in Python: lib.study.export.write(run, folder)"
    raise ValueError(f"no run {name!r} of seed {seed}: profile {profile.name} has {names}; {fix}")


def main(arguments: list[str] | None = None) -> int:
    """The command; returns its exit status: 0, or 1 after an error."""
    parser = argparse.ArgumentParser(prog="python -m lib.study.export", description=__doc__.splitlines()[0])
    parser.add_argument("run", help="a run of the profile: its name, such as kl, teacher or start, or its key")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--profile", default="laptop", choices=profiles.PROFILES)
    parser.add_argument("--to", type=Path, metavar="FOLDER", help="write the model and its card")
    parser.add_argument("--graphs", action="store_true", help="with --to: graphs for ONNX Runtime and OpenVINO too")
    parser.add_argument("--push", metavar="OWNER/NAME", help="with --to: send the folder to the hub")
    parser.add_argument("--trec", type=Path, metavar="FOLDER", help="write its rankings of the test sets as TREC runs")
    given = parser.parse_args(arguments)
    if not given.to and (given.graphs or given.push or not given.trec):
        parser.error("give --to FOLDER, or --trec FOLDER alone")
    try:
        profile = profiles.named(given.profile)
        run = find(given.run, given.seed, profile)
        if given.push:
            check_push(given.push)
        tests = dict.fromkeys((*profile.tests, profile.architecture_test, *evening.tests(profile)))
        if given.to:
            print(write(run, given.to, tests, dev=profile.dev if given.graphs else None))
        if given.trec:
            if not (scored := [test for test in tests if tables.is_scored(run, test)]):
                fix = f"run `make study PROFILE={given.profile}` first"
                raise rankers.NotTrained(f"{run.about} is scored on no test set of profile {given.profile}; {fix}")
            for test in scored:
                print(trec(run, test, given.trec))
        if given.push:
            print(push(given.to, given.push))
    except (OSError, ValueError, LookupError, ImportError, store.StoreError, weights.WeightsError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    logging.disable(logging.WARNING)  # ONNX Runtime's advice on quantisation
    sys.exit(main())
