"""A disk that is full, or may not be written: one line, no part of a file, and the next run succeeds."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import STAGES
from faulting import NO_OVERRIDE, differing, listing, refused, stage

# Where each stage's own outputs lie, and sizes in bytes at which its files end before they are whole. All stages write
# through the same few functions; by default a folder, tables and weights are tried, at one size.
WRITES = {
    "fetch": ("data", [400, 1000, 4000]),
    "verify": ("data", [400, 2000, 20_000]),
    "prepare": ("data", [400, 700, 20_000]),
    "backbone": ("models", [400, 100_000, 50_000_000]),
    "train": ("models", [400, 100_000, 50_000_000]),
    "evaluate": ("plots", [400, 700, 5000]),
    "report": ("report", [400, 5000, 50_000]),
    "card": ("models", [400, 1000, 3000]),
}
assert [*WRITES] == STAGES  # also where those of a stage that is new here are slow
DEFAULT = ("fetch", "verify", "prepare", "train")


def case(name: str, *values: object, default: bool = True) -> Any:
    return pytest.param(name, *values, marks=() if default and name in DEFAULT else pytest.mark.slow)


CASES = [case(name, size, default=size == sizes[1]) for name, (_, sizes) in WRITES.items() for size in sizes]


def copy(tiny_study: Path, folder: Path) -> Path:
    shutil.copytree(tiny_study, folder)
    return folder


@pytest.mark.fault("a disk that is full in mid-write", commands=2)
@pytest.mark.parametrize(("name", "size"), CASES)
def test_a_full_disk_is_one_line_and_leaves_the_old_outputs(tiny_study: Path, tmp_path: Path, name: str, size: int):
    folder = copy(tiny_study, tmp_path / "study")
    done = stage(name, folder, file_bytes=size)
    assert "cannot write" in refused(done, f"{name}: ")
    changed = differing(listing(tiny_study), listing(folder))
    assert [path for path in changed if not path.startswith(("metrics", "plots", "models/predictor"))] == []
    assert stage(name, folder).status == 0
    assert differing(listing(tiny_study), listing(folder)) == []


@pytest.fixture
def small_disk(tiny_study: Path, tmp_path: Path):
    """A file system with room for a study and little else."""
    folder = tmp_path / "disk"
    folder.mkdir()
    size = 1.05 * sum(path.stat().st_size for path in tiny_study.rglob("*") if path.is_file()) + 600 * 2**20
    words = ["mount", "-t", "tmpfs", "-o", f"size={int(size)}", "none", str(folder)]
    if shutil.which("mount") is None or subprocess.run(words, capture_output=True).returncode:
        pytest.skip("may not mount a small file system here")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


@pytest.mark.slow
@pytest.mark.fault("a disk that is full in mid-write", commands=2)
@pytest.mark.parametrize("name", STAGES)
def test_a_small_disk_is_one_line_and_after_making_room_all_is_well(tiny_study: Path, small_disk: Path, name: str):
    folder = copy(tiny_study, small_disk / "study")
    with (small_disk / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
        while file.write(b"\0" * 4096):
            pass
    done = stage(name, folder)
    assert "cannot write" in refused(done, f"{name}: ")
    assert differing(listing(tiny_study), listing(folder)) == []
    (small_disk / "filler").unlink()
    assert stage(name, folder).status == 0
    assert differing(listing(tiny_study), listing(folder)) == []


@pytest.mark.fault("an output folder that may not be written", commands=2)
@pytest.mark.parametrize("name", [case(name) for name in STAGES])
def test_a_read_only_folder_is_one_line(tiny_study: Path, tmp_path: Path, name: str):
    if shutil.which("setpriv") is None:
        pytest.skip("needs setpriv, so that root is bound by permissions")
    folder = copy(tiny_study, tmp_path / "study")
    place = folder / WRITES[name][0]
    place.chmod(0o555)
    try:
        done = stage(name, folder, prefix=NO_OVERRIDE)
        line = refused(done, f"{name}: ", "cannot write")
        assert "denied" in line.lower()
    finally:
        place.chmod(0o755)
    assert differing(listing(tiny_study), listing(folder)) == []
    assert stage(name, folder).status == 0
    assert differing(listing(tiny_study), listing(folder)) == []
