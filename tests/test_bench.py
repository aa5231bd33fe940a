"""bench/: an ablation's runs are never mixed with those of other settings, and every result is written whole."""

from __future__ import annotations

import argparse
import ast
import doctest
import importlib
import json
import re
import subprocess
import sys
from importlib import util
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, script, set_params
from training import make_study

from stages.files import write_json
from stages.shell.errors import InputError

RESULTS = sorted((ROOT / "bench/results").glob("*.json"))
RUN = {"val_accuracy": 0.5, "val_loss": 1.0}


@pytest.fixture
def ablation(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The script as a module, with two changes, which trains nothing."""
    module = script("ablation")
    monkeypatch.setattr(module, "CHANGES", {"the recipe": {}, "dropout 0.2": {"train.dropout": 0.2}})
    monkeypatch.setattr(module, "pictures", lambda *_: (None, None))
    monkeypatch.setattr(module.runtime, "exact", lambda *_: None)
    return module


@pytest.fixture
def run(ablation: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Run the script on a study; what comes back is the dropout of each training, in order."""
    (tmp_path / "params.yaml").write_bytes((ROOT / "studies/nickparvar/params.yaml").read_bytes())
    made: list[float] = []
    monkeypatch.setattr(ablation, "run", lambda _pool, _groups, chosen, *_: made.append(chosen.train.dropout) or RUN)

    def again(*words: str) -> list[float]:
        made.clear()
        words = ("ablation", "--study", str(tmp_path), "--out", str(tmp_path / "out.json"), "--seeds", "0", *words)
        monkeypatch.setattr(sys, "argv", list(words))
        ablation.main()
        return made

    return again


def test_an_ablation_goes_on_with_the_runs_that_are_missing(run: Any, tmp_path: Path):
    assert run("--only", "the recipe") == [0.0]
    assert run() == [0.2]
    assert run() == []
    assert run("--seeds", "0", "1") == [0.0, 0.2]
    runs = json.loads((tmp_path / "out.json").read_text())["runs"]
    assert [(row["name"], row["seed"]) for row in runs] == [
        ("the recipe", 0),
        ("dropout 0.2", 0),
        ("the recipe", 1),
        ("dropout 0.2", 1),
    ]


def test_a_change_that_was_edited_is_run_again_and_tabled_alone(ablation: Any, run: Any, tmp_path: Path):
    run()
    ablation.CHANGES["dropout 0.2"] = {"train.dropout": 0.25}
    assert run() == [0.25]
    runs = json.loads((tmp_path / "out.json").read_text())["runs"]
    assert [row["change"] for row in runs] == [{}, {"train.dropout": 0.2}, {"train.dropout": 0.25}]
    assert ablation.table(runs).splitlines()[-1] == "| dropout 0.2 | 50.0% | +0.0 (+0.0) | +0.000 | 1 |"


def test_of_a_cross_validation_the_first_folds_images_are_taken(ablation: Any, tmp_path: Path):
    make_study(tmp_path / "study", **{"split.folds": {"0": "/folds/0", "1": "/folds/1"}})
    (tmp_path / "study/data/prepared").rename(tmp_path / "away")
    (tmp_path / "study/data/prepared/folds").mkdir(parents=True)
    (tmp_path / "away").rename(tmp_path / "study/data/prepared/folds/0")
    train, val = ablation.arrays(tmp_path / "study")
    assert (len(train.images), len(train.labels), len(val.images)) == (25, 25, 8)


@pytest.mark.parametrize("key, value", [("lr", 0.01), ("train.weight_decay", 0.2), ("augment.rotate", 7)])
def test_runs_of_another_recipe_are_neither_mixed_nor_overwritten(run: Any, tmp_path: Path, key: str, value: float):
    run()
    before = (tmp_path / "out.json").read_bytes()
    was = json.loads(before)["settings"][key]
    set_params(tmp_path, **{key: value})
    with pytest.raises(InputError) as error:
        run("--seeds", "1")
    said = f"out.json holds figures of other settings ({key} = {was}, not {float(value)}): choose another --out"
    assert str(error.value).endswith(said)
    assert (tmp_path / "out.json").read_bytes() == before


@pytest.mark.parametrize("text", ["{", "{}", "[]"])
def test_a_file_that_holds_no_such_figures_is_refused_in_one_line(tmp_path: Path, text: str):
    (tmp_path / "out.json").write_text(text)
    with pytest.raises(InputError, match=r"out\.json"):
        script("growing").so_far(tmp_path / "out.json", {})
    assert (tmp_path / "out.json").read_text() == text


def test_the_example_of_differing_settings_is_true():
    assert doctest.testmod(script("growing")) == (0, 1)


def test_other_settings_are_named_in_one_line_before_images_are_read(tmp_path: Path):
    write_json(tmp_path / "out.json", {"settings": {"size": 48}, "runs": []})
    (tmp_path / "params.yaml").write_bytes((ROOT / "studies/nickparvar/params.yaml").read_bytes())
    words = ["--study", str(tmp_path), "--out", str(tmp_path / "out.json"), "--size", "32"]
    done = subprocess.run([sys.executable, ROOT / "bench/ablation.py", *words], text=True, capture_output=True)
    assert done.returncode == 1 and done.stderr.startswith("ablation: ") and done.stderr.count("\n") == 1
    assert "size = 48, not 32" in done.stderr and "choose another --out" in done.stderr


@pytest.mark.parametrize("name", ["ablation", "ablation_longer"])
def test_a_committed_ablation_names_all_settings_that_a_run_is_held_against(ablation: Any, name: str):
    found = json.loads((ROOT / f"bench/results/{name}.json").read_text())["settings"]
    asked = argparse.Namespace(**found | {"study": ROOT / "studies/nickparvar"})
    assert set(ablation.settings(asked)) == set(found)


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.name)
def test_committed_results_are_as_write_json_writes_them(path: Path, tmp_path: Path):
    write_json(tmp_path / "again.json", json.loads(path.read_text()))
    assert path.read_bytes() == (tmp_path / "again.json").read_bytes()


@pytest.mark.parametrize("script", sorted((ROOT / "bench").glob("*.py")), ids=lambda path: path.name)
def test_no_script_writes_a_result_that_could_be_half_a_file(script: Path):
    assert re.findall(r"write_text\((?!written\()|json\.dump\(", script.read_text()) == []


@pytest.mark.parametrize("path", sorted((ROOT / "bench").glob("*.py")), ids=lambda path: path.stem)
def test_a_script_imports_nothing_that_the_project_no_longer_has(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] in ("stages", "commands"):
            module = importlib.import_module(str(node.module))
            for name in (alias.name for alias in node.names):
                assert hasattr(module, name) or util.find_spec(f"{node.module}.{name}"), f"{node.module}.{name}"
