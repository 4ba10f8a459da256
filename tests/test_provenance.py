"""Provenance: what cannot be had is "unknown" and never costs a result; tables that mix conditions say so."""

import subprocess
import warnings

import pandas as pd
import pytest

from lib.machine import hardware, provenance


def test_without_git_the_commit_is_unknown(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert provenance.commit() == "unknown"
    assert provenance.conditions()["commit"] == "unknown"


@pytest.mark.parametrize("error", [PermissionError(13, "denied"), OSError(8, "exec format error")])
def test_a_git_that_cannot_be_started_is_no_error(error, monkeypatch):
    def run(*_, **__):
        raise error

    monkeypatch.setattr(subprocess, "run", run)
    assert provenance.commit() == "unknown"


def test_the_commit_of_a_repository_around_the_project_is_not_its_own(monkeypatch, tmp_path):
    (tmp_path / "outer" / "lib").mkdir(parents=True)
    (tmp_path / "outer" / "kit" / "lib").mkdir(parents=True)
    git = ["git", "-C", str(tmp_path / "outer"), "-c", "user.name=a", "-c", "user.email=a@b"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "commit", "-q", "--allow-empty", "-m", "x"], check=True)
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "outer" / "kit" / "lib" / "machine" / "provenance.py"))
    assert provenance.commit() == "unknown"
    monkeypatch.setattr(provenance, "__file__", str(tmp_path / "outer" / "lib" / "machine" / "provenance.py"))
    assert len(provenance.commit()) == 12


def test_the_processors_features_are_recorded(monkeypatch):
    said = hardware.description()
    assert {"device", "features", "precision", "threads", "torch", "bm25s"} <= set(said)
    assert all(isinstance(value, str) and value for value in said.values())
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    for amx, avx, expected in [(True, True, "AVX512_BF16 AMX"), (False, True, "AVX512_BF16"), (False, False, "")]:
        monkeypatch.setattr("torch.cpu._is_amx_tile_supported", lambda amx=amx: amx)
        monkeypatch.setattr("torch.cpu._is_avx512_bf16_supported", lambda avx=avx: avx)
        assert hardware.precision() == ("bf16" if expected else "no")
        assert hardware.features().partition(" ")[2] == expected


def rows(**conditions):
    return pd.DataFrame(
        [{"measure": name, "text": value, "query": "", "value": 0.0} for name, value in conditions.items()]
    )


@pytest.mark.parametrize("name", ["precision", "features", "device", "torch"])
def test_a_table_that_mixes_conditions_says_so(name):
    one = {"precision": "bf16", "features": "AVX512 AMX", "device": "a", "torch": "2.13.0", "commit": "abc"}
    same, other = rows(**one), rows(**one | {name: "other", "commit": "def"})
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        provenance.warn_if_mixed(pd.concat([same, same]))  # says nothing
    both = " | ".join(sorted([one[name], "other"])).replace("|", r"\|")
    with pytest.warns(UserWarning, match=rf"conditions \({name}: {both}\)"):
        provenance.warn_if_mixed(pd.concat([same, other]))


def test_the_rankers_of_each_condition_are_named():
    one, two = rows(device="a", threads="2"), rows(device="b", threads="2")
    table = pd.concat([one.assign(ranker="one"), two.assign(ranker="two")])
    assert provenance.mixed(table) == {"device": {"a": ["one"], "b": ["two"]}}
    assert provenance.mixed(one.assign(ranker="one")) == provenance.mixed(table[["measure", "value"]]) == {}
