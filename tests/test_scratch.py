"""Temporary folders of commands: gone with the command, and those that killed ones left gone with the next."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from conftest import ROOT

from commands import scratch as module
from commands.scratch import scratch

HOLDING = """
import sys
from commands.scratch import scratch
with scratch("held") as folder:
    (folder / "file").write_text("1")
    print(folder, flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return tmp_path


def held() -> tuple[subprocess.Popen[str], Path]:
    """Return a process that holds a folder, and that folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLDING], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdout
    return process, Path(process.stdout.readline().strip())


def test_a_folder_goes_with_its_block_also_where_that_fails(temporary: Path):
    with pytest.raises(ZeroDivisionError), scratch("x") as folder:
        (folder / "deep").mkdir()
        (folder / "deep/file").write_text("1")
        assert folder.parent == temporary
        raise ZeroDivisionError
    assert list(temporary.iterdir()) == []


@pytest.mark.fault("a command, killed, and its temporary folder", commands=2)
def test_what_a_killed_command_left_goes_with_the_next_and_what_is_in_use_stays(temporary: Path):
    killed, left = held()
    killed.send_signal(signal.SIGKILL)
    killed.communicate()
    assert (left / "file").exists()
    living, in_use = held()
    assert not left.exists()
    with scratch("x") as folder:
        assert (in_use / "file").exists() and folder.exists()
    living.communicate("")
    assert list(temporary.iterdir()) == []


def test_what_is_not_ours_stays(temporary: Path):
    (temporary / "elsewhere").mkdir()
    (temporary / "elsewhere/file").write_text("1")
    (temporary / f"brainmri-x{module.SUFFIX}").symlink_to("elsewhere")
    (temporary / f"brainmri-file{module.SUFFIX}").write_text("1")
    (temporary / "brainmri-x").mkdir()
    before = sorted(temporary.rglob("*"))
    with scratch("x"):
        pass
    assert sorted(temporary.rglob("*")) == before


def test_a_folder_that_another_swept_before_it_was_locked_is_made_again(temporary: Path, monkeypatch):
    flock, swept = module.fcntl.flock, []

    def first_swept(lock: int, how: int) -> None:
        if not swept:
            swept.append(Path(f"/proc/self/fd/{lock}").readlink())
            swept[0].rmdir()
        flock(lock, how)

    monkeypatch.setattr(module.fcntl, "flock", first_swept)
    with scratch("x") as folder:
        assert folder.exists() and folder != swept[0]
