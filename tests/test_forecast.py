"""A forecast scales what was measured by the machine's probe, and batches say it before they start."""

import json

import pytest

from lib.study import forecast, notebooks, runs


@pytest.fixture
def measured(tmp_path, monkeypatch):
    about = {"probe": 2.0, "device": "a reference"}
    times = {
        "smoke": about | {"notebooks": {"01_data": {"cold": 20.0, "warm": 10.0}}},
        "laptop": about
        | {"notebooks": {"01_data": {"cold": 110.0, "warm": 10.0}, "02_more": {"cold": 3000.0, "warm": 20.0}}},
    }
    monkeypatch.setattr(forecast, "TIMES", tmp_path / "times.json")
    forecast.TIMES.write_text(json.dumps(times))


def test_only_what_computes_is_scaled(measured):
    assert forecast.forecast("laptop", ["01_data", "other"], 6.0) == {"01_data": 10.0 + 100.0 * 3}
    assert forecast.forecast("workstation", ["01_data"], 6.0) == {}


def test_the_announcement_names_times_what_is_unknown_and_what_fits(measured, monkeypatch, capsys):
    monkeypatch.setattr(forecast, "SHORT", 0)
    monkeypatch.setattr(forecast, "probe", lambda: 4.0)
    forecast.announce("laptop", ["01_data", "02_more", "11_new"])
    said = capsys.readouterr().out
    assert "probe in 4.00 s; a reference took 2.00 s" in said
    assert "01_data" in said and "3 min 30 s" in said
    assert "no forecast: 11_new" in said
    assert "fit half an hour: smoke\n" in said
    forecast.announce("laptop", ["11_new"])
    assert "fit half an hour: none that was measured\n" in capsys.readouterr().out
    forecast.announce("laptop", ["01_data"])  # what is not asked for costs nothing
    assert "fit half an hour: smoke, laptop\n" in capsys.readouterr().out


def test_the_announcement_names_every_machine_that_measured_these_notebooks(measured, monkeypatch, capsys):
    times = json.loads(forecast.TIMES.read_text())
    times["laptop"]["notebooks"]["02_more"] |= {"probe": 1.0, "device": "another"}
    forecast.TIMES.write_text(json.dumps(times))
    monkeypatch.setattr(forecast, "probe", lambda: 4.0)
    forecast.announce("laptop", ["01_data", "02_more"])
    assert "probe in 4.00 s; a reference took 2.00 s; another took 1.00 s. So" in capsys.readouterr().out
    forecast.announce("laptop", ["02_more"])
    assert "probe in 4.00 s; another took 1.00 s. So" in capsys.readouterr().out


def test_a_short_study_is_announced_without_a_probe(measured, monkeypatch, capsys):
    monkeypatch.setattr(forecast, "probe", lambda: pytest.fail("the probe takes longer than it is worth"))
    forecast.announce("laptop", ["01_data"])
    assert capsys.readouterr().out == "From an empty data folder a reference took about 1 min 50 s.\n"


def test_nothing_measured_is_said(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(forecast, "TIMES", tmp_path / "none.json")
    monkeypatch.setattr(forecast, "probe", lambda: 4.0)
    forecast.announce("laptop", ["01_data"])
    assert "Not measured with profile laptop, so no forecast: 01_data" in capsys.readouterr().out


def test_a_notebook_says_what_its_trainings_take_before_the_first(experiment, monkeypatch, capsys):
    monkeypatch.setattr(
        forecast, "probe", lambda: 256 * 3 * 2 / (16 * 3 * 2) * 90
    )  # 16 groups of 3 in two layers: 90 s
    monkeypatch.setattr("lib.machine.progress._in_notebook", lambda: True)
    monkeypatch.setattr("lib.machine.progress.say", lambda line: None)
    said = "Models to train first: 1, about 1 min 30 s on this machine, without scoring"
    monkeypatch.setattr("lib.training.loop.train", lambda *_, **__: pytest.fail(capsys.readouterr().out))
    assert experiment.work == 16 * 3 * 2
    with pytest.raises(pytest.fail.Exception, match=said):
        runs.complete([experiment])
    monkeypatch.setenv("STUDY_PROGRESS", "/dev/null")  # the batch command has said it
    with pytest.raises(pytest.fail.Exception, match="^$"):
        runs.complete([experiment])


def test_the_probe_takes_time_and_is_measured_once():
    assert 0 < forecast.probe() == forecast.probe()


def test_times_that_no_study_left_are_asked_for(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STUDY_DATA", str(tmp_path))
    monkeypatch.setattr("sys.argv", ["forecast", "smoke"])
    with pytest.raises(SystemExit):
        forecast.main()
    said = capsys.readouterr().err
    assert "executed/smoke/times.json does not exist: run `make study PROFILE=smoke` twice" in said


@pytest.mark.parametrize("name", ["laptop", "smoke", "09_other"])
def test_a_part_that_was_not_measured_is_refused(name, measured, tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("STUDY_DATA", str(tmp_path))
    monkeypatch.setattr(forecast, "probe", lambda: 3.0)
    notebooks.record(tmp_path / "executed" / "smoke", {"01_data": 30.0})
    before = forecast.TIMES.read_text()
    monkeypatch.setattr("sys.argv", ["forecast", "smoke", "--only", "01_data", name])
    with pytest.raises(SystemExit):
        forecast.main()
    assert f"--only: {name} was not measured" in capsys.readouterr().err and forecast.TIMES.read_text() == before


def test_times_are_kept_from_the_first_run_and_the_last_and_published(tmp_path, monkeypatch):
    monkeypatch.setenv("STUDY_DATA", str(tmp_path))
    monkeypatch.setattr(forecast, "TIMES", tmp_path / "published.json")
    monkeypatch.setattr(forecast, "probe", lambda: 3.0)
    folder = tmp_path / "executed" / "smoke"
    notebooks.record(folder, {"01_data": 30.0})
    notebooks.record(folder, {"01_data": 9.04, "02_more": 5.0})
    monkeypatch.setattr("sys.argv", ["forecast", "smoke"])
    forecast.main()
    found = json.loads(forecast.TIMES.read_text())
    assert found["smoke"]["notebooks"] == {
        "01_data": {"cold": 30.0, "warm": 9.0},
        "02_more": {"cold": 5.0, "warm": 5.0},
    }
    assert found["smoke"]["probe"] == 3.0 and "threads" in found["smoke"]["device"]

    monkeypatch.setattr(forecast, "probe", lambda: 6.0)  # on another machine, a notebook that has more to do
    (folder / notebooks.TIMES).write_text(json.dumps({"02_more": {"first": 25.0, "last": 5.0}}))
    monkeypatch.setattr("sys.argv", ["forecast", "smoke", "--only", "02_more"])
    forecast.main()
    assert json.loads(forecast.TIMES.read_text())["smoke"]["notebooks"]["01_data"] == {"cold": 30.0, "warm": 9.0}
    assert forecast.forecast("smoke", ["01_data", "02_more"], 12.0) == {"01_data": 9 + 21 * 4, "02_more": 5 + 20 * 2}
