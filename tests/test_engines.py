"""Tasks on this machine, on a local Ray cluster and by submitit's local executor: all end, each failure is told."""

import nbformat
import pytest

from lib.machine import store
from lib.study import batch, engines, runs
from lib.study.engines import Resources
from lib.study.experiment import vary
from tests import engine_tasks
from tests.test_batch import names, printed, write

pytestmark = pytest.mark.workers

OPTIONAL = "pip install --constraint constraints.txt --editable '.[cluster]'"


@pytest.fixture
def submitit():
    pytest.importorskip("submitit", reason=f"needs submitit: {OPTIONAL}")


@pytest.mark.parametrize("wrong", [{"retries": -1}, {"cpus": 0}, {"gpus": -1}, {"gpus": float("nan")}])
def test_resources_that_are_none_are_refused(wrong):
    """With a negative number of retries a task would never run, and count as done."""
    with pytest.raises(ValueError, match=f"{next(iter(wrong))}="):
        Resources(**wrong)


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["here", "submitit"])
def test_every_task_ends_and_a_failure_stops_no_other(engine, tmp_path, data_folder):
    if engine != "here":
        pytest.importorskip(engine, reason=f"needs {engine}: {OPTIONAL}")
    tasks = [(tmp_path, name) for name in ("bad", "first", "second")]
    outcomes = dict(engines.each(engine, engine_tasks.note, tasks, engines.Resources(retries=1)))
    assert {task[1]: outcome.error for task, outcome in outcomes.items()} == {
        "bad": "ValueError: bad is bad", "first": "", "second": "",
    }  # fmt: skip
    found = {path.name: path.read_text() for path in tmp_path.iterdir() if path.is_file()}
    assert set(found) == {"bad-0", "bad-1", "first-0", "second-0", "second-1"}  # a second try where the first failed
    assert set(found.values()) == {str(data_folder)}
    assert all(outcome.seconds >= 0 for outcome in outcomes.values())


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # Ray's, about later versions
@pytest.mark.parametrize("engine", ["ray", "submitit"])
def test_each_task_may_have_resources_of_its_own(engine, tmp_path, data_folder):
    pytest.importorskip(engine, reason=f"needs {engine}: {OPTIONAL}")
    tasks = [(tmp_path, name) for name in ("one", "two", "three")]
    given = lambda _, name: engines.Resources(cpus=2 if name == "two" else 1)  # noqa: E731
    outcomes = dict(engines.each(engine, engine_tasks.threads, tasks, given))
    assert [outcomes[task].error for task in tasks] == ["", "", ""]
    found = {task[1]: (tmp_path / task[1]).read_text() for task in tasks}
    assert found == {"one": "1", "two": "2", "three": "1"}


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::FutureWarning")  # Ray's, about later versions
@pytest.mark.parametrize("name", ["ray", "submitit"])
def test_a_batch_on_workers_finishes_what_does_not_fail(name, tmp_path, monkeypatch, capsys):
    pytest.importorskip(name, reason=f"needs {name}: {OPTIONAL}")
    monkeypatch.chdir(tmp_path)
    for stem, cell in (("a", "print(seed)"), ("b", "1 / 0"), ("c", "print(seed)")):
        write(tmp_path / f"{stem}.ipynb", cell, parameters="seed = 3")
    command = ["a.ipynb", "b.ipynb", "c.ipynb", "--out", "out", "--engine", name, "-p", "seed", "4"]
    assert batch.main(command) == 1
    said = capsys.readouterr()
    assert "error: b.ipynb: cell 3: ZeroDivisionError: division by zero" in said.err
    assert "2 of 3 notebooks" in said.out and "failed: b.ipynb" in said.err
    assert names(tmp_path / "out") == ["a.ipynb", "b.failed.ipynb", "c.ipynb"]
    assert printed(tmp_path / "out" / "c.ipynb") == "4\n"
    write(tmp_path / "b.ipynb", "print(seed)", parameters="seed = 3")
    before = (tmp_path / "out" / "a.ipynb").stat().st_mtime_ns
    assert batch.main([*command[:5], "--missing", "-p", "seed", "4"]) == 0  # here: one notebook is left
    assert names(tmp_path / "out") == ["a.ipynb", "b.ipynb", "c.ipynb"]
    assert (tmp_path / "out" / "a.ipynb").stat().st_mtime_ns == before


@pytest.mark.slow
def test_two_workers_train_one_run_once(submitit, experiment, tmp_path):
    folder = tmp_path / "trained"
    folder.mkdir()
    outcomes = [outcome for _, outcome in engines.each("submitit", engine_tasks.train, [(experiment, folder)] * 2)]
    assert [outcome.error for outcome in outcomes] == ["", ""]
    assert len(list(folder.iterdir())) == 1
    assert store.is_whole(store.data_folder() / "runs" / experiment.key)


@pytest.mark.slow
def test_a_grid_on_workers_trains_teachers_first(submitit, experiment):
    student = vary(experiment, strategy="kl", teacher=experiment)
    runs.complete([student], engine="submitit")
    assert all(store.is_whole(store.data_folder() / "runs" / run.key) for run in (experiment, student))


def test_a_grid_is_given_to_an_engine_in_rounds(experiment, monkeypatch):
    each, rounds = engines.each, []

    def noted(_, work, tasks, resources):
        rounds.append([run for (run,) in tasks])
        return each("here", work, tasks, resources)

    monkeypatch.setattr(engines, "each", noted)
    student = vary(experiment, strategy="kl", teacher=experiment)
    for _ in range(2):  # the second time nothing is left to do
        runs.complete([student], engine="ray")
        assert rounds == [[experiment], [student]]


def test_trainings_that_failed_on_an_engine_are_told(experiment, monkeypatch):
    failing = lambda _, __, tasks, ___: [(task, engines.Outcome(1.0, "no")) for task in tasks]  # noqa: E731
    monkeypatch.setattr(engines, "each", failing)
    with pytest.raises(RuntimeError, match="1 of 2 trainings failed: .* no; not trained, since they need these: 1"):
        runs.complete([vary(experiment, strategy="kl", teacher=experiment)], engine="ray")


def test_a_worker_that_trains_under_another_name_has_failed(experiment, monkeypatch):
    """Of another precision, for one: the caller would train the run again."""
    monkeypatch.setattr(engines, "each", lambda _, __, tasks, ___: [(task, engines.Outcome(1.0)) for task in tasks])
    with pytest.raises(RuntimeError, match="1 of 1 trainings failed: .* another precision"):
        runs.complete([experiment], engine="ray")


@pytest.mark.slow
def test_resources_that_a_machine_lacks_are_refused_at_once(data_folder, monkeypatch):
    pytest.importorskip("ray", reason="an optional package: pip install -e '.[cluster]'")
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    with pytest.raises(ValueError, match="a task asks for 10000 CPUs, and this machine has"):
        list(engines.each("ray", print, [("a",)], engines.Resources(cpus=10_000)))


def test_an_engine_that_is_unknown_or_not_installed_is_refused(monkeypatch, tmp_path, capsys):
    with pytest.raises(ValueError, match="engine='slurm': give one of here, ray, submitit"):
        engines.each("slurm", print, [])
    monkeypatch.setitem(__import__("sys").modules, "submitit", None)
    notebook = write(tmp_path / "a.ipynb", parameters="seed = 3")
    assert batch.main([str(notebook), "--out", str(tmp_path / "out"), "--engine", "submitit"]) == 2
    assert "pip install --constraint constraints.txt --editable '.[cluster]'" in capsys.readouterr().err


@pytest.mark.slow
def test_kernels_listen_on_no_port(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write(tmp_path / "a.ipynb", "import json, ipykernel\nprint(json.load(open(ipykernel.get_connection_file()))['transport'])",
          parameters="seed = 3")  # fmt: skip
    assert batch.main(["a.ipynb", "--out", "out"]) == 0
    assert printed(tmp_path / "out" / "a.ipynb") == "ipc\n"
    assert nbformat.read(tmp_path / "out" / "a.ipynb", as_version=4).metadata["study"]


def test_tasks_share_an_accelerator_on_ray_alone(submitit):
    engines._check({"CPU": 2, "GPU": 1}, [engines.Resources(gpus=0.25)])
    with pytest.raises(ValueError, match="a task asks for 0.5 GPUs, and this machine has 0"):
        engines._check({"CPU": 2}, [engines.Resources(gpus=0.5)])
    with pytest.raises(ValueError, match="gpus=0.25: submitit gives whole accelerators"):
        list(engines.each("submitit", engine_tasks.train, [()], engines.Resources(gpus=0.25)))
