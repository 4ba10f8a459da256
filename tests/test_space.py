"""The command that says what takes space removes what nothing refers to, and nothing else."""

import shutil

import pytest

from lib.machine import store
from lib.study import identity, runs, space, tables
from lib.study.experiment import TestSet, vary
from tests import kit


def names(paths):
    return sorted(f"{path.parent.name}/{path.name}" for path in paths)


def test_what_todays_code_reads_stays(experiment, tiny_collection, capsys):
    student = vary(experiment, strategy="kl", teacher=experiment)
    tables.results([student], [TestSet(tiny_collection, queries=8, depth=10)])
    assert space.reviewed()[0] == []
    before = names(space.folders())
    assert space.main(["--remove"]) == 0 and names(space.folders()) == before
    said = capsys.readouterr().out
    assert "runs" in said and "removed 0 folders" in said
    caches = {path.parent.name for path in space.reviewed(caches=True)[0]}
    assert caches and caches <= set(space.CACHES)


@pytest.mark.slow
def test_what_another_recipe_made_goes_with_all_that_was_made_from_it(experiment, tiny_collection, monkeypatch):
    test = TestSet(tiny_collection, queries=8, depth=10)
    student = vary(experiment, strategy="kl", teacher=experiment)
    tables.results([student], [test])
    monkeypatch.setattr(identity, "RECIPE", identity.RECIPE + 1)
    tables.results([student], [test])
    now = {student.key, experiment.key}
    old = space.reviewed()[0]
    kinds = [path.parent.name for path in old]
    assert kinds.count("runs") == 2 and kinds.count("evaluations") == 1 and kinds.count("teacher_scores") == 1
    assert space.main(["--remove"]) == 0
    assert {path.name for path in space.folders() if path.parent.name == "runs"} == now
    assert len([path for path in space.folders() if path.parent.name == "evaluations"]) == 1


def test_what_killed_builders_left_is_removed_and_what_is_being_built_is_not(data_folder):
    (data_folder / "runs" / ".a.xyz.partial").mkdir(parents=True)
    (data_folder / "runs" / ".a.lock").touch()
    seen = []

    def build(folder):
        seen.append(names(space.reviewed()[0]))
        assert space.main(["--remove"]) == 0 and folder.is_dir()
        (folder / "x").write_text("x")

    store.keep("tokens", "b", build)
    assert seen == [["runs/.a.xyz.partial"]]
    assert not list((data_folder / "runs").iterdir())


def test_damage_is_found_in_files_of_any_size(experiment, capsys, monkeypatch):
    kit.history(experiment)
    assert space.main(["--check"]) == 0
    path = next((store.data_folder() / "runs").glob("*/weights.safetensors"))
    path.write_bytes(path.read_bytes()[:-1] + b"\x07")
    monkeypatch.setattr(store, "CHECKED_BYTES", 10)
    assert space.main(["--check"]) == 1
    assert "weights.safetensors is altered" in capsys.readouterr().out


def test_files_of_others_in_the_data_folder_are_left_alone(data_folder):
    (data_folder / "collections" / "mine").mkdir(parents=True)
    (data_folder / "figures" / "laptop").mkdir(parents=True)
    (data_folder / "figures" / "laptop" / "a.png").touch()
    assert space.reviewed(caches=True)[0] == []


@pytest.fixture
def of_a_copy(experiment, tiny_collection, tmp_path, monkeypatch):
    """The folder of a run whose collection has a relative path, called in the folder that has it."""
    shutil.copytree(tiny_collection, tmp_path / "caller" / "own")
    monkeypatch.chdir(tmp_path / "caller")
    run = vary(experiment, collection="own")
    runs.complete([run])
    return store.data_folder() / "runs" / run.key


def test_a_run_whose_text_is_not_found_is_kept_and_named(of_a_copy, tmp_path, monkeypatch, capsys):
    assert space.reviewed() == ([], {})
    monkeypatch.chdir(tmp_path)
    assert space.main(["--remove"]) == 0 and of_a_copy.is_dir()
    said = capsys.readouterr().out
    assert f"cannot be checked, so kept: runs/{of_a_copy.name}: no collection 'own'" in said
    assert "removed 0 folders" in said
    (tmp_path / "own").mkdir()  # an empty mount point, or something else of this name
    assert space.reviewed()[0] == [] and of_a_copy in space.reviewed()[1]


def test_another_folders_text_of_the_same_relative_path_says_nothing(of_a_copy, tmp_path, monkeypatch):
    shutil.copytree("own", tmp_path / "other" / "own")
    monkeypatch.chdir(tmp_path / "other")
    with (tmp_path / "other" / "own" / "qrels" / "test.tsv").open("a") as file:
        file.write("q1\td2\t1\n")
    old, unchecked = space.reviewed()
    assert old == [] and "has other content" in unchecked[of_a_copy]


def test_a_text_that_is_found_and_differs_makes_a_run_outdated(experiment, tiny_collection, tmp_path):
    folder = shutil.copytree(tiny_collection, tmp_path / "own")
    run = vary(experiment, collection=str(folder))
    runs.complete([run])
    before = names(path for path in space.folders() if path.parent.name == "runs")
    with (folder / "qrels" / "test.tsv").open("a") as file:
        file.write("q1\td2\t1\n")
    assert names(space.reviewed()[0]) == before and len(before) == 1


@pytest.mark.parametrize("content", [None, "", "{"])
def test_a_run_without_a_readable_description_is_named_and_kept(content, of_a_copy, capsys):
    path = of_a_copy / runs.ABOUT
    path.unlink()
    if content is not None:
        path.write_text(content)
    assert space.main(["--remove"]) == 0 and of_a_copy.is_dir()
    said = capsys.readouterr().out
    assert f"{path} is missing or damaged. Delete the folder {of_a_copy}: it is made again." in said
