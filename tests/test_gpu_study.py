"""bench/gpu_study.py, on a CPU and phantoms: that its parts work and its errors are one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from conftest import ROOT

SCRIPT = ROOT / "bench/gpu_study.py"
PHANTOMS = ["train_per_class=8", "test_per_class=4", "copies={byte: 1, recoded: 1, contrast: 1, mirrored: 1}"]
SMALL = ["--device", "cpu", "--precision", "fp32", "--size", "32", "--epochs", "1", "--short-epochs", "1"]
SMALL += ["--batch-size", "8", "--batch-sizes", "8", "--steps", "1", "--repeats", "1", "--seeds", "1", "--kills", "1"]
SMALL += ["--set", *(f"fetch.phantom.{each}" for each in PHANTOMS), "split.val_fraction=0.25"]


def gpu_study(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(SCRIPT), *words]
    return subprocess.run(command, cwd=folder, text=True, capture_output=True, timeout=500)


def test_a_run_alone_again_and_killed_has_one_digest_and_is_written_down(tmp_path: Path):
    done = gpu_study(tmp_path, *SMALL, "--parts", "determinism,throughput", "--out", str(tmp_path / "out.json"))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    assert len(set(found["determinism"]["alone"])) == 1
    assert (found["determinism"]["kills"], found["determinism"]["same_after_kill"]) == (1, 1)
    assert found["throughput"]["fp32, batch 8"]["trainer"] > 0
    assert found["environment"]["cpu"] and "study" not in found


def test_mistakes_are_one_line_and_nothing_is_written(tmp_path: Path):
    for words, said in {
        ("--device", "cpu", "--parts", "coffee"): "--parts has 'coffee'",
        ("--device", "cpu", "--set", "train.none=1"): "params.yaml has no such key",
        ("--device", "cpu", "--source", str(tmp_path / "none.zip")): "none.zip",
    }.items():
        done = gpu_study(tmp_path, *words, "--out", str(tmp_path / "out.json"))
        assert done.returncode == 1 and said in done.stderr and done.stderr.startswith("gpu_study: "), done.stderr
        assert not (tmp_path / "out.json").exists()
