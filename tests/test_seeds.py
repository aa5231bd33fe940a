"""bench/seeds.py: runs that differ in seed and isa alone are put together, from commits; nothing else is."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml
from conftest import script
from test_behind import commit, git

from stages.files import write_figures
from stages.shell.errors import InputError
from stages.shell.provenance import dvc_hash

seeds = script("seeds")
KEPT = ["models/folds/0/model.safetensors", "models/folds/1/model.safetensors", "data/predictions.csv"]
VALUES = {"root": "../..", "seed": 0, "isa": "avx2", "lr": 0.1}
STAGE = {
    "cmd": "PYTHONPATH=${root} python -m stages.make",
    "deps": ["${root}/make.py"],
    "params": ["seed", "isa", "lr", {"versions.yaml": ["torch"]}],
    "outs": [*KEPT, "models/trail"],
}


def write(root: Path, right: int, code: str = "1\n", torch: str = "2.14.1", **changed: object) -> Path:
    """Write what a run leaves, of 20 test images so many right; return the study's folder."""
    study, values = root / "studies/a", VALUES | changed
    (study / "metrics").mkdir(parents=True, exist_ok=True)
    (root / "make.py").write_text(code)
    (study / "dvc.yaml").write_text(yaml.safe_dump({"stages": {"make": STAGE}}))
    (study / "params.yaml").write_text(yaml.safe_dump(values))
    (study / "versions.yaml").write_text(f"torch: {torch}\n")
    write_figures(study / "metrics/scores.csv", {"all": {"n": 20, "accuracy": right / 20}, "clean": {"n": 0}})
    entry = {
        "cmd": "PYTHONPATH=../.. python -m stages.make",
        "deps": [{"path": "../../make.py", "md5": dvc_hash(root / "make.py")}],
        "params": {
            "params.yaml": {key: values[key] for key in ("seed", "isa", "lr")},
            "versions.yaml": {"torch": torch},
        },
        "outs": [{"path": path, "md5": f"{values['seed']}{path}"} for path in STAGE["outs"]],
    }
    dead = {"train": {"outs": [{"path": KEPT[0], "md5": "of another pipeline"}]}}  # which DVC leaves in the file
    (study / "dvc.lock").write_text(yaml.safe_dump({"stages": {"make": entry} | dead}, sort_keys=False))
    return study


def ran(root: Path, right: int, **changed: object) -> str:
    """Commit a run."""
    write(root, right, **changed)  # type: ignore[arg-type]
    return commit(root)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    git(tmp_path, "init", "-q")
    return tmp_path


def test_runs_of_two_seeds_and_isas_give_mean_and_standard_deviation(root: Path):
    first, second = ran(root, 18, seed=1, isa="avx512"), ran(root, 19)
    found = seeds.of_all(root, "studies/a", [first, second])
    assert [(run["seed"], run["isa"], run["wrong"], run["n"]) for run in found["runs"]] == [
        (0, "avx2", 1, 20),
        (1, "avx512", 2, 20),
    ]
    assert found["runs"][0]["md5"] == {path: f"0{path}" for path in KEPT}, "of each network, and of no other stage"
    assert found["over_runs"] == {"all.accuracy": {"mean": 0.925, "sd": 0.035355}}


@pytest.mark.parametrize(
    "other, said",
    [
        ({"seed": 1, "lr": 0.2}, "other params.yaml of stage make than"),
        ({"seed": 1, "code": "2\n"}, "other ../../make.py of stage make than"),
        ({"seed": 1, "torch": "2.15.0"}, "other versions.yaml of stage make than"),
        ({"seed": 0}, r"of seeds \[0, 0\]: give two runs or more, of each seed one"),
    ],
)
def test_other_recipes_and_a_seed_given_twice_are_refused(root: Path, other: dict[str, object], said: str):
    revs = [ran(root, 19), ran(root, 18, **other)]
    with pytest.raises(InputError, match=said):
        seeds.of_all(root, "studies/a", revs)


def test_one_run_alone_a_name_of_nothing_and_parameters_that_never_ran_are_refused(root: Path):
    rev = ran(root, 19)
    with pytest.raises(InputError, match="give two runs or more"):
        seeds.of_all(root, "studies/a", [rev])
    with pytest.raises(InputError, match="'nothing-like-it' is no commit and no experiment"):
        seeds.of_all(root, "studies/a", [rev, "nothing-like-it"])
    study = write(root, 19)
    (study / "params.yaml").write_text(yaml.safe_dump(VALUES | {"seed": 1}))
    with pytest.raises(InputError, match=r"was run with another params\.yaml: seed than the commit has"):
        seeds.of_all(root, "studies/a", [rev, commit(root)])
