"""bench/train_throughput.py and bench/exactness.py: that the ways of training take turns and are written down."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT


@pytest.mark.slow
def test_the_three_ways_are_compared_and_written_down(tmp_path: Path):
    words = ["--sizes", "32", "--steps", "1", "--repeats", "1", "--batch-size", "8", "--most", "32", "--threads", "1"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench/train_throughput.py"), *words, "--output", str(tmp_path / "out.json")],
        text=True,
        capture_output=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "out.json").read_text())
    (row,) = found["sizes"]
    assert row["size"] == 32 and found["settings"]["images"] == 32 and found["machine"]["cpu"]
    assert all(row["images_per_second"][way] > 0 and len(row["turns"][way]) == 1 for way in row["images_per_second"])
    speeds = row["images_per_second"]
    assert row["trainer_to_limit"] == pytest.approx(speeds["trainer"] / speeds["limit"], abs=1e-3)
    assert done.stdout.startswith("| px |")


@pytest.mark.slow
def test_the_pinned_step_is_compared_with_the_free_one(tmp_path: Path):
    words = ["--sizes", "32", "--steps", "1", "--repeats", "1", "--batch-size", "8", "--threads", "1"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench/exactness.py"), *words, "--output", str(tmp_path / "out.json")],
        text=True,
        capture_output=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "out.json").read_text())["sizes"]
    speeds = row["images_per_second"]
    assert min(speeds.values()) > 0
    assert row["pinned_to_free"] == pytest.approx(speeds["pinned"] / speeds["free"], abs=1e-3)
