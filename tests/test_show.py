"""`brainmri show`: what an unfinished merge leaves in its files is one line, and never a wrong table."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
from conftest import ROOT

from commands.__main__ import main

GROUP = {"accuracy": 0.5, "accuracy_low": 0.1, "accuracy_high": 0.9, "f1": 0.5, "auc": None}
METRICS = {"all": GROUP | {"n": 2}, "clean": GROUP | {"n": 2}, "leaked": {"n": 0}}
ROWS = "glioma,glioma\nglioma,notumor\n"
CONFUSION = f"actual,predicted\n{ROWS}"
MERGED = f"actual,predicted\n<<<<<<< HEAD\n{ROWS}=======\n{ROWS}>>>>>>> other\n"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    for name, text in {"metrics/test.json": json.dumps(METRICS), "plots/confusion.csv": CONFUSION}.items():
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("metrics/test.json", '{\n<<<<<<< HEAD\n  "all": {}\n}', "metrics/test.json is no JSON (line 2): "),
        ("metrics/test.json", "[1]", "metrics/test.json: expected keys and values"),
        ("metrics/test.json", "{}", "not of one run of this code"),
        ("metrics/test.json", json.dumps(METRICS | {"clean": 1}), "not of one run of this code"),
        ("plots/confusion.csv", MERGED, "not of one run of this code"),
        ("plots/confusion.csv", "<<<<<<< HEAD\n" + CONFUSION, "not of one run of this code"),
        ("plots/confusion.csv", "", "not of one run of this code"),
    ],
)
def test_damaged_files_are_one_line(study: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, said: str):
    assert main(["show"]) == 0
    capsys.readouterr()
    (study / name).write_text(text)
    assert main(["show"]) == 1
    found = capsys.readouterr()
    assert said in found.err and found.err.count("\n") == 1 and found.out == ""


def test_damaged_json_is_not_handed_on(study: Path, capsys: pytest.CaptureFixture[str]):
    (study / "metrics/test.json").write_text("<<<<<<< HEAD\n{}\n")
    assert main(["show", "--json"]) == 1 and capsys.readouterr().out == ""
