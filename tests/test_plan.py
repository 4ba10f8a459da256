"""The plan of a study: the grids of notebooks without running them, what is here, and what the rest costs."""

import socket
from pathlib import Path

import pytest

from lib.study import forecast, grids, papers, plan, profiles, runs
from lib.study.derived import Pretrained
from lib.study.experiment import Experiment, TestSet, Untrained, fields, vary
from tests.test_batch import write

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("[0-9]*.ipynb"))
IMPORTS = (
    "import pandas as pd\nfrom lib.study import profiles, runs, tables, tuning\nfrom lib.study.experiment import vary"
)


@pytest.fixture
def offline(monkeypatch):
    def refused(*_, **__):
        raise AssertionError("a plan needs no network")

    monkeypatch.setattr(socket, "getaddrinfo", refused)


def grid(folder, *cells, profile="smoke"):
    return grids.of_notebook(write(folder / "a.ipynb", IMPORTS, *cells), {"profile": profile})


def test_a_grid_is_what_the_cells_ask_for(tmp_path, data_folder):
    settings = profiles.named("smoke")
    found = grid(
        tmp_path,
        "settings = profiles.named(profile)\ntable = tables.results(settings.students(), settings.tests[:1])",
        "means = table[table['query'] != ''].groupby('ranker').mean()\nassert means.max() > 0\nfor x in means:\n    x.y",
        "runs.complete([settings.teacher])\ntables.complete([settings.start], [settings.dev])",
    )  # fmt: skip
    assert {run for run, _ in found.scorings} == {*settings.students(), settings.start}
    assert {test for _, test in found.scorings} == {settings.tests[0], settings.dev}
    assert set(found.runs) >= {*settings.students(), settings.start, settings.teacher, settings.cropped}
    assert not found.left_out and not data_folder.exists()  # nothing was trained or read


def test_a_choice_that_results_make_is_counted_and_a_number_is_told(tmp_path):
    found = grid(
        tmp_path,
        "settings = profiles.named(profile)\ngrid = dict(enumerate(settings.students()))",
        "scores = {name: tables.values(run, settings.dev, 'RR@10').mean() for name, run in grid.items()}",
        "runs.complete([grid[max(scores, key=scores.get)]])",
        "runs.complete([vary(settings.student, group_count=tables.costs(settings.student)['pairs'])])",
    )  # fmt: skip
    assert sum(isinstance(run, Experiment) and run in profiles.named("smoke").students() for run in found.runs) >= 1
    (line,) = found.left_out
    assert line.startswith("runs.complete([vary(settings.student, group_count=")


def test_a_best_run_is_looked_for_among_all(tmp_path):
    settings = profiles.named("smoke")
    first = "settings = profiles.named(profile)\nbest = tables.best(settings.students(), [settings.dev], 'RR@10')"
    found = grid(tmp_path, first, "tables.complete([vary(settings.student, strategy='kl', teacher=best)])")
    assert {run for run, _ in found.scorings} == {*settings.students()} and not found.left_out
    assert vary(settings.student, strategy="kl", teacher=settings.students()[0]) in found.runs


def test_a_module_that_computes_is_not_run_wherever_it_was_imported_before(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr("lib.losses.descent.descend", lambda *given: calls.append(given))
    found = grid(tmp_path, "from lib.losses import descent\ndescent.descend(1)")
    assert not calls and not found.left_out


def test_tuning_is_counted(tmp_path):
    found = grid(
        tmp_path, "s = profiles.named(profile)",
        "table = tuning.tuned({'a': s.student}, 'learning_rate', [1e-5, 1e-4, 1e-3], s.dev)",
    )  # fmt: skip
    assert len(found.scorings) == 3 and not found.left_out


@pytest.mark.slow
@pytest.mark.parametrize("profile", sorted(profiles.PROFILES))
def test_every_profile_can_be_planned_without_network(profile, offline, monkeypatch, capsys, data_folder):
    monkeypatch.setattr(forecast, "probe", lambda: 2.0)
    plan.main([profile, *map(str, NOTEBOOKS)])
    said = capsys.readouterr().out
    left_out = [line for line in said.splitlines() if line.startswith("not counted")]
    assert all("17_adapting" in line for line in left_out)  # the target's splits decide what is trained there
    known = "hub:BeIR/msmarco: to fetch from the hub, about 8,840,000 documents" in said
    assert known == profile.startswith("paper")
    assert "hub:BeIR" not in said or "of a size that is not known" not in said
    assert ("the kit's choice" in said) == profile.startswith("paper")
    assert " 0 of them in the store" in said and "nan" not in said
    assert not data_folder.exists()  # nothing was built for it


@pytest.mark.parametrize("name", ["paper", "paper-2010.02666"])
def test_settings_of_the_papers_are_those_of_the_table(name):
    profile = profiles.named(name)
    architectures = {run.model.architecture: run for run in profile.architectures}
    assert list(architectures) == list(papers.ARCHITECTURES)
    expected = [(profile.margins, papers.OWN_MARGINS)]
    expected += [(run, papers.CROSS_ARCHITECTURE + papers.ARCHITECTURES[name]) for name, run in architectures.items()]
    if name == "paper":
        expected += [(profile.student, papers.RERANKER), (profile.teacher, papers.RERANKER + papers.TEACHER)]
    for run, settings in expected:
        values = dict(fields(run))
        wanted = papers.values(*settings)  # a later setting of a field replaces an earlier one
        assert {field: values[field] for field in wanted} == wanted
    assert [run.model.backbone for run in (profile.teacher, *profile.assistants)][-3:] == list(papers.ENSEMBLE)


def test_every_setting_has_a_mark_and_only_the_papers_own_have_their_source():
    table = papers.table()
    assert set(table["mark"]) == {papers.PAPER, papers.STAND_IN, papers.INFERRED, papers.OURS}
    assert (table.loc[table["mark"] == papers.PAPER, "source"].str.len() > 5).all()


def test_what_is_stored_is_recognised(experiment):
    test = TestSet(experiment.data.collection, queries=4, depth=5)
    assert not plan.is_stored(experiment) and not plan.is_stored(experiment, test)
    runs.complete([experiment])
    assert plan.is_stored(experiment) and not plan.is_stored(experiment, test)
    assert not plan.is_stored(vary(experiment, collection="hub:BeIR/none"))


def test_costs_follow_the_sizes(experiment):
    minilm = plan.size("minilm")
    assert (minilm.layers, minilm.width, minilm.of_layer) == (6, 384, 12 * 384**2 + 13 * 384)
    assert plan.size("Qwen/Qwen2.5-7B").parameters == pytest.approx(7.07e9, rel=0.01)
    assert plan.size("nobody/unknown") is None
    run = profiles.named("laptop").student
    assert plan.training(run) == 6 * 3 * minilm.of_layer * 96 * 2800 * 3
    assert plan.training(vary(run, epochs=2)) == 2 * plan.training(run)
    taught = [vary(run, strategy="kl", teacher=Untrained(), seed=seed) for seed in (0, 1)]
    assert plan.teaching(taught) == 2 * 6 * minilm.of_layer * 96 * 2800 * 3  # once for both seeds
    other = vary(taught[0], teacher=Untrained(seed=1))
    assert plan.teaching([*taught, other]) == 2 * plan.teaching(taught)  # two teachers of one size
    named = vary(run, strategy="kl", teacher="msmarco-minilm-l12")
    assert plan.teaching([named]) == 2 * 12 * minilm.of_layer * run.model.max_length * 2800 * 3
    assert plan.teaching([vary(named, teacher="scores.tsv"), vary(named, teacher="nobody/unknown")]) == 0
    assert plan.memory(vary(run, batch_size=16)) > plan.memory(run) > minilm.parameters * 16 / 2**30
    assert plan.memory(run) > plan.memory(vary(run, gradient_checkpointing=True)) > minilm.parameters * 16 / 2**30


def test_pre_training_is_counted_and_an_unknown_size_is_named(experiment, tmp_path, offline, monkeypatch, capsys):
    monkeypatch.setattr(forecast, "probe", lambda: 2.0)
    imports = "from lib.study import profiles, runs\nfrom lib.study.derived import Pretrained\nfrom lib.study.run import Model"
    cells = (
        "from lib.study.experiment import Experiment, vary",
        "runs.complete([vary(Experiment('info_nce'), backbone='nobody/unknown')])",
        "runs.complete([Pretrained(Model(layers=(0, 1)), 'pydocs', document_count=100000)])",
    )
    plan.main(["smoke", str(write(tmp_path / "a.ipynb", imports, *cells))])
    said = capsys.readouterr().out
    assert "2 trainings" in said and "1 info_nce, 1 masked_language_model" in said
    assert "in no number below, since their size is not known here: nobody/unknown" in said
    assert "GiB for minilm, the largest training" in said and "nan" not in said
    (run,) = (one for one in grids.of_notebook(tmp_path / "a.ipynb", {}).runs if isinstance(one, Pretrained))
    assert plan.training(run) == 6 * 2 * plan.size("minilm").of_layer * 96 * 100000
    assert plan.memory(run) > plan.size("minilm").parameters * 16 / 2**30


def test_a_notebook_that_is_not_there_is_one_clear_error(capsys):
    with pytest.raises(SystemExit):
        plan.main(["smoke", "nowhere.ipynb"])
    assert capsys.readouterr().err.splitlines()[-1].endswith("error: nowhere.ipynb: no such notebook")
