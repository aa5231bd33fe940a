"""bench/train_throughput.py and bench/exactness.py: that the ways of training take turns and are written down."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

WORDS = ["--sizes", "32", "--steps", "1", "--repeats", "1", "--batch-size", "8", "--threads", "1"]


def measured(script: str, output: Path, *words: str) -> tuple[dict, str]:
    """Run a script of bench/ at its smallest; return what it wrote and what it printed."""
    done = subprocess.run(
        [sys.executable, str(ROOT / "bench" / script), *WORDS, *words, "--out", str(output)],
        text=True,
        capture_output=True,
        timeout=500,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(output.read_text()), done.stdout


@pytest.mark.slow
def test_all_ways_are_compared_and_written_down(tmp_path: Path):
    found, printed = measured("train_throughput.py", tmp_path / "out.json", "--most", "32")
    (row,) = found["sizes"]
    assert row["size"] == 32 and found["settings"]["images"] == 32 and found["machine"]["cpu"]
    assert all(row["images_per_second"][way] > 0 and len(row["turns"][way]) == 1 for way in row["images_per_second"])
    speeds = row["images_per_second"]
    assert row["trainer_to_limit"] == pytest.approx(speeds["trainer"] / speeds["limit"], abs=1e-3)
    assert printed.startswith("| px |")


@pytest.mark.slow
def test_the_pinned_step_is_compared_with_the_free_one(tmp_path: Path):
    found, _ = measured("exactness.py", tmp_path / "out.json")
    (row,) = found["sizes"]
    speeds = row["images_per_second"]
    assert min(speeds.values()) > 0
    assert row["pinned_to_free"] == pytest.approx(speeds["pinned"] / speeds["free"], abs=1e-3)
