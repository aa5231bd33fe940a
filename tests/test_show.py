"""`brainmri show`: what an unfinished merge leaves in its files is one line, and never a wrong table."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import yaml
from conftest import ROOT

from commands import behind, record
from commands.__main__ import main
from stages.files import write_figures, write_json

GROUP = {"accuracy": 0.5, "accuracy_low": 0.1, "accuracy_high": 0.9, "f1": 0.5, "auc": None}
METRICS = {"all": GROUP | {"n": 2}, "clean": GROUP | {"n": 2}, "leaked": {"n": 0}}
ROWS = "glioma,glioma\nglioma,notumor\n"
CONFUSION = f"actual,predicted\n{ROWS}"
MERGED = f"actual,predicted\n<<<<<<< HEAD\n{ROWS}=======\n{ROWS}>>>>>>> other\n"


@pytest.fixture
def study(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    shutil.copy(ROOT / "params.yaml", tmp_path)
    write_figures("metrics/scores.csv", METRICS)
    (tmp_path / "plots").mkdir()
    (tmp_path / "plots/confusion.csv").write_text(CONFUSION)
    return tmp_path


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("metrics/scores.csv", "figure,value\n<<<<<<< HEAD\nall.n,2\n", "is no table of figure and value: "),
        ("metrics/scores.csv", "<<<<<<< HEAD\nfigure,value\nall.n,2\n", "is no table of figure and value: "),
        ("metrics/scores.csv", "", "is no table of figure and value: "),
        ("metrics/scores.csv", "figure,value\nall,1\nall.n,2\n", "is no table of figure and value: "),
        ("metrics/scores.csv", "figure,value\nall.n,2x\n", "is no table of figure and value: "),
        ("metrics/scores.csv", "figure,value\n", "not of one run of this code"),
        ("metrics/scores.csv", "figure,value\nall.n,2\nclean,1\n", "not of one run of this code"),
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


def test_damaged_scores_are_not_handed_on(study: Path, capsys: pytest.CaptureFixture[str]):
    (study / "metrics/scores.csv").write_text("<<<<<<< HEAD\n")
    assert main(["show", "--json"]) == 1 and capsys.readouterr().out == ""


def test_what_was_adopted_is_said_until_its_stage_runs_with_other_code(
    study: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(behind, "changed", lambda _: [])
    lock = {"train": {"deps": [{"path": "train.py", "md5": "a" * 32}], "outs": []}}
    (study / "dvc.lock").write_text(yaml.safe_dump({"schema": "2.0", "stages": lock}))
    entry = {"from": "0123456789abcdef", "code": record.code(lock["train"], lock), "stretches": [[25, 50], [75, 100]]}
    write_json("metrics/provenance.json", {"adopted": {"train": entry}})
    assert main(["show"]) == 0
    assert "train: adopted, not run again, from commit 0123456789; equal with this code: steps 25 to 50, 75 to 100" in (
        capsys.readouterr().out
    )
    (study / "dvc.lock").write_text((study / "dvc.lock").read_text().replace("a" * 32, "b" * 32))
    assert main(["show"]) == 0 and "adopted" not in capsys.readouterr().out
