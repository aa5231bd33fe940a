"""bench/seeds.py: runs that differ in seed and isa alone are put together, from commits; nothing else is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import yaml
from conftest import script
from test_behind import commit, git

from commands.reading import read_json
from stages.files import write_figures

seeds = script("seeds")


def ran(root: Path, seed: int, right: int, **params: object) -> str:
    """Commit what a run of that seed leaves: 20 test images, so many of them right."""
    study = root / "studies/a"
    (study / "metrics").mkdir(parents=True, exist_ok=True)
    (study / "params.yaml").write_text(yaml.safe_dump({"seed": seed, "isa": "avx2", "lr": 0.1} | params))
    write_figures(study / "metrics/scores.csv", {"all": {"n": 20, "accuracy": right / 20}, "clean": {"n": 0}})
    outs = [{"path": path, "md5": f"{seed}{path}"} for path in seeds.OUTPUTS]
    (study / "dvc.lock").write_text(yaml.safe_dump({"stages": {"train": {"outs": outs}}}))
    return commit(root)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    return tmp_path


def asked(root: Path, monkeypatch: pytest.MonkeyPatch, *revs: str) -> Path:
    """Run the script, its results below the clone that it reads; return where they lie."""
    monkeypatch.setattr(seeds, "ROOT", root)
    monkeypatch.setattr(sys, "argv", ["seeds.py", "studies/a", *revs, "--root", str(root)])
    seeds.main()
    return root / "bench/results/seeds-a.json"


def test_runs_of_two_seeds_and_isas_give_mean_and_standard_deviation(root: Path, monkeypatch: pytest.MonkeyPatch):
    first, second = ran(root, 1, 18, isa="avx512"), ran(root, 0, 19)
    (root / "bench/results").mkdir(parents=True)
    found = read_json(asked(root, monkeypatch, first, second))
    assert [(run["seed"], run["isa"], run["wrong"], run["n"]) for run in found["runs"]] == [
        (0, "avx2", 1, 20),
        (1, "avx512", 2, 20),
    ]
    assert found["runs"][0]["md5"] == {path: f"0{path}" for path in seeds.OUTPUTS}
    assert found["over_runs"] == {"all.accuracy": {"mean": 0.925, "sd": 0.035355}}


@pytest.mark.parametrize(
    "second, said",
    [
        ({"seed": 1, "right": 18, "lr": 0.2}, "differ in more than seed and isa"),
        ({"seed": 0, "right": 18}, "give two or more, each once"),
    ],
)
def test_other_recipes_and_a_seed_given_twice_are_refused(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], second: dict, said: str
):
    revs = ran(root, 0, 19), ran(root, **second)
    with pytest.raises(SystemExit):
        asked(root, monkeypatch, *revs)
    assert said in capsys.readouterr().err and not (root / "bench").exists()


def test_a_revision_that_is_none_is_refused_by_name(
    root: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    rev = ran(root, 0, 19)
    with pytest.raises(SystemExit):
        asked(root, monkeypatch, rev, "nothing-like-it")
    assert "'nothing-like-it' is no commit and no experiment" in capsys.readouterr().err
