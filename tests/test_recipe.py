"""bench/recipe.py: settings that the parameters have, runs that are made once and scored on what never trained."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from conftest import ROOT, script, set_params

from stages.files import sha256_file, write_csv
from stages.prepare.schema import Params
from stages.shell.errors import InputError

CHANGES = {"the recipe": {}, "from": {"phantoms": {"train_per_class": 12, "epochs": 40}}}


@pytest.fixture(scope="module")
def recipe() -> Any:
    return script("recipe")


@pytest.fixture
def main(recipe: Any, tiny_study: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the script small, on phantoms of which each two have a patient; what comes back is its file's rows."""
    study = tmp_path / "study"
    study.mkdir()
    shutil.copy(ROOT / "studies/nickparvar-patients/params.yaml", study)
    set_params(study, batch_size=8)
    names = sorted(path.relative_to(tiny_study / "data/raw").as_posix() for path in tiny_study.glob("data/raw/*/*/*"))
    write_csv(
        study / "patients.csv", pd.DataFrame({"path": names, "patient": [f"p{n // 2}" for n in range(len(names))]})
    )
    set_params(study, **{"fetch.patients.sha256": sha256_file(study / "patients.csv"), "split.val_fraction": 0.2})
    monkeypatch.setattr(recipe, "STUDY", study)
    monkeypatch.setattr(recipe, "SETTINGS", CHANGES)

    def run(*words: str) -> list[dict[str, Any]]:
        small = ["--epochs", "1", "--size", "32", "--seeds", "0", "--out", str(tmp_path / "out.json")]
        argv = ["recipe", "--source", str(tiny_study / "data/raw"), "--scratch", str(tmp_path / "scratch"), *small]
        monkeypatch.setattr(sys, "argv", [*argv, *words])
        recipe.main()
        return json.loads((tmp_path / "out.json").read_text())["runs"]

    return run


def test_every_setting_is_one_that_the_study_can_have(recipe: Any):
    from stages.dialect import parse

    for setting in recipe.SETTINGS.values():
        values = parse((ROOT / "studies/nickparvar-patients/params.yaml").read_text())
        recipe.change(values, **{key: value for key, value in setting.items() if key != "phantoms"})
        Params.model_validate({key: values[key] for key in Params.model_fields})


def test_the_script_starts_by_itself():
    command = [sys.executable, str(ROOT / "bench/recipe.py"), "--help"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.startswith("usage: recipe.py")


def test_a_folder_without_training_images_is_one_line(recipe: Any, tmp_path: Path):
    with pytest.raises(InputError, match="Training: expected <class>/"):
        recipe.some(tmp_path, None, tmp_path)


def test_the_table_compares_on_the_seeds_that_both_have(recipe: Any):
    row = {"log_loss": 0.5, "patients": 0.8, "tumours_alone": 0.7, "train_s": 120}
    runs = [row | {"name": "the recipe", "seed": 0, "accuracy": 0.8}]
    runs += [row | {"name": "96 px", "seed": seed, "accuracy": 0.85} for seed in (0, 1)]
    assert recipe.table(runs).splitlines()[3:] == ["| 96 px | 85.0% | +5.0 (+5.0) | 0.500 | 80.0% | 70.0% | 2 | 1 |"]


@pytest.mark.slow
def test_runs_are_made_once_and_score_patients_that_never_trained(main: Any, tiny_study: Path, tmp_path: Path):
    rows = {row["name"]: row for row in main("--together", "2")}
    assert set(rows) == set(CHANGES)
    assert len({(row["n"], row["trained_on"]) for row in rows.values()}) == 1, "one division for all settings of a seed"
    assert all(0 <= row["not_mirrored"] <= 1 for row in rows.values())
    base = tmp_path / "scratch/base-0"
    named = pd.read_csv(base / "data/manifest.csv", keep_default_na=False)
    pixels = {path.read_bytes() for path in tiny_study.glob("data/raw/Training/*/*")}
    assert {path.read_bytes() for path in base.glob("data/raw/*/*/*")} == pixels, "of Testing nothing is read"
    assert (named["patient"] != "").all()
    at = (tmp_path / "out.json").stat().st_mtime_ns
    assert main() == list(rows.values()) and (tmp_path / "out.json").stat().st_mtime_ns == at
    with pytest.raises(
        InputError, match=r"holds figures of other settings \(epochs = 1, not 2\): choose another --out"
    ):
        main("--epochs", "2")
