"""Files are written whole or not at all."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pandas as pd
import pytest

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
