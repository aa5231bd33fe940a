"""Files are written whole or not at all."""

from __future__ import annotations

import json
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from conftest import ROOT

from stages import files


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_written_file_replaces_the_old_one_and_leaves_nothing_beside_it(tmp_path: Path):
    files.atomic_write(tmp_path / "deep" / "a.txt", "old")
    files.atomic_write(tmp_path / "deep" / "a.txt", "näw")
    assert (tmp_path / "deep" / "a.txt").read_bytes() == "näw".encode()
    assert names(tmp_path / "deep") == ["a.txt"]


def test_a_written_file_can_be_read_by_others_whatever_the_umask(tmp_path: Path):
    files.atomic_write(tmp_path / "a", b"x")
    with files.atomic_folder(tmp_path / "b"):
        pass
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o644
    assert stat.S_IMODE((tmp_path / "b").stat().st_mode) == 0o755


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("x")])
def test_a_failure_in_the_middle_leaves_the_old_file(tmp_path: Path, error: BaseException):
    (tmp_path / "a").write_text("old")
    with pytest.raises(type(error)), files.replacing(tmp_path / "a") as part:
        part.write_text("half")
        raise error
    assert (tmp_path / "a").read_text() == "old"
    assert names(tmp_path) == ["a"]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("x")])
def test_a_failure_in_the_middle_leaves_the_old_folder(tmp_path: Path, error: BaseException):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").write_text("old")
    with pytest.raises(type(error)), files.atomic_folder(tmp_path / "a") as part:
        (part / "new").write_text("half")
        raise error
    assert names(tmp_path / "a") == ["old"]
    assert names(tmp_path) == ["a"]


def test_a_folder_is_replaced_as_a_whole_and_parts_of_killed_runs_are_removed(tmp_path: Path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "old").write_text("old")
    (tmp_path / ".a.killed.part").mkdir()
    with files.atomic_folder(tmp_path / "a") as part:
        (part / "new").write_text("new")
        assert names(tmp_path / "a") == ["old"]
    assert names(tmp_path / "a") == ["new"]
    assert names(tmp_path) == ["a"]


WRITES_AND_WAITS = """
import sys, time
from stages.files import replacing
with replacing(sys.argv[1]) as part:
    part.write_text("half")
    print("written", flush=True)
    time.sleep(60)
"""


def writer(path: Path) -> subprocess.Popen[str]:
    """Start a process that writes `path` and does not end; return when it has begun to."""
    words = [sys.executable, "-c", WRITES_AND_WAITS, str(path)]
    run = subprocess.Popen(words, env=os.environ | {"PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True)
    assert run.stdout and run.stdout.readline() == "written\n"
    return run


def end(run: subprocess.Popen[str]) -> None:
    run.send_signal(signal.SIGKILL)
    run.communicate()


def test_the_part_of_a_killed_writer_is_swept_by_the_next_write_and_that_of_a_live_one_stays(tmp_path: Path):
    path = tmp_path / "a[1].txt"  # a name that is a pattern
    dead, living = writer(path), writer(path)
    end(dead)
    try:
        assert len(names(tmp_path)) == 2, "a writer that lives leaves another's part alone"
        files.atomic_write(path, "whole")
        assert path.read_text() == "whole"
        (part,) = (name for name in names(tmp_path) if name.endswith(".part"))
        assert (tmp_path / part).read_text() == "half"
    finally:
        end(living)
    files.atomic_write(path, "again")
    assert names(tmp_path) == ["a[1].txt"] and path.read_text() == "again"


def test_parts_of_other_files_are_not_swept(tmp_path: Path):
    (tmp_path / ".ab.x.part").write_text("another file's")
    files.atomic_write(tmp_path / "a", "x")
    assert names(tmp_path) == [".ab.x.part", "a"]


def test_two_writers_at_once_leave_one_whole_file_and_nothing_else(tmp_path: Path):
    with files.replacing(tmp_path / "a") as part:
        part.write_text("first")
        files.atomic_write(tmp_path / "a", "second")
    assert (tmp_path / "a").read_text() == "first"
    assert names(tmp_path) == ["a"]


def test_json_is_sorted_ends_with_a_newline_and_refuses_nan(tmp_path: Path):
    files.write_json(tmp_path / "a.json", {"b": 1, "a": [0.1]})
    assert (tmp_path / "a.json").read_text() == '{\n  "a": [\n    0.1\n  ],\n  "b": 1\n}\n'
    for bad in (float("nan"), float("inf")):
        with pytest.raises(ValueError, match="JSON"):
            files.write_json(tmp_path / "a.json", {"b": bad})
    assert json.loads((tmp_path / "a.json").read_text())["b"] == 1


def test_csv_has_no_index_and_plain_line_ends(tmp_path: Path):
    files.write_csv(tmp_path / "a.csv", pd.DataFrame({"x": [1, 2], "y": ["a,b", ""]}))
    assert (tmp_path / "a.csv").read_bytes() == b'x,y\n1,"a,b"\n2,\n'


def test_digest_is_the_one_of_sha256sum(tmp_path: Path):
    (tmp_path / "a").write_bytes(b"abc")
    assert files.sha256_file(tmp_path / "a") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_figures_come_back_as_they_were_and_a_row_each_is_sorted(tmp_path: Path):
    figures = {"b": {"n": 2, "of": {"1": 0.5, "NA": 1.0, "a,b": 0.25}}, "a": 1.0, "empty": {}, "none": {"n": 0}}
    files.write_figures(tmp_path / "a.csv", figures)
    text = (tmp_path / "a.csv").read_text()
    assert text.splitlines()[:3] == ["figure,value", "a,1.0", "b.n,2"] and text.endswith("\n")
    assert files.read_figures(tmp_path / "a.csv") == figures
    with pytest.raises(ValueError):
        files.write_figures(tmp_path / "a.csv", {"a": float("nan")})
    assert (tmp_path / "a.csv").read_text() == text
