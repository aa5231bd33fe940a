"""Killed at any moment, a stage leaves the old outputs or none, and run again it makes the same bits and tidies up.

The exception: where DVC then restores an output from its cache the stage does not run, and a `.part` that it left stays
until it does. Git and DVC ignore it.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import ROOT, STAGES, dvc_environment
from faulting import differing, listing, locked, run

from stages.dialect import parse

KILLS = int(os.environ.get("BRAINMRI_KILLS", "3"))  # a stage; `make faults` has 25
PIPELINE = parse((ROOT / "dvc.yaml").read_text())["stages"]
NUMBERS = range(KILLS)
SLOWEST_END = 5.0  # seconds in which what a killed process started must be gone
ATTEMPTS = 8  # to kill a command before it ends by itself
SEVERAL = ATTEMPTS + 4  # commands of a case, at most
WORKERS = "2"  # of what is killed, so that there is something to be left behind


def outputs(name: str) -> list[str]:
    entries = [e for kind in ("outs", "metrics", "plots") for e in PIPELINE[name].get(kind, [])]
    return [entry if isinstance(entry, str) else next(iter(entry)) for entry in entries]


def alive(folder: Path) -> list[int]:
    """Return the processes that work in a folder."""
    found = []
    for link in Path("/proc").glob("[0-9]*/cwd"):
        try:
            where = link.readlink()
        except OSError:
            continue
        if where == folder or folder in where.parents:
            found.append(int(link.parent.name))
    return found


def wait_for_silence(folder: Path) -> None:
    """Wait until no process works in a folder; a failure where one stays."""
    end = time.monotonic() + SLOWEST_END
    while alive(folder):
        assert time.monotonic() < end, "a process was left behind"
        time.sleep(0.05)


def killed(words: list[str], folder: Path, after: float) -> bool:
    """Start a command, kill it with SIGKILL after so many seconds; return whether it still ran.

    It must leave no file where programs put temporary ones, which nothing would ever remove.
    """
    elsewhere = folder.parent / "temporary"
    elsewhere.mkdir(exist_ok=True)
    environment = dvc_environment() | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    child = subprocess.Popen(
        words,
        cwd=folder,
        env=environment | {"BRAINMRI_WORKERS": WORKERS, "TMPDIR": str(elsewhere)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        stdin=subprocess.DEVNULL,
    )
    try:
        child.wait(after)
        return False
    except subprocess.TimeoutExpired:
        child.send_signal(signal.SIGKILL)
        child.wait()
        assert [path for path in elsewhere.rglob("*") if path.is_file()] == []
        return True


@pytest.fixture(scope="module")
def seconds() -> dict[str, float]:
    """How long each command takes when it is left alone, measured at its first use."""
    return {}


def kill(
    key: str, number: int, seconds: dict[str, float], words: list[str], folder: Path, prepare: Callable[[], object]
) -> None:
    """Kill a command at the case's own random moment; from the start again, and sooner, where it had ended before."""
    if key not in seconds:
        begun = time.monotonic()
        assert run(words, folder, PATH=dvc_environment()["PATH"], BRAINMRI_WORKERS=WORKERS).status == 0
        seconds[key] = time.monotonic() - begun
    after = random.Random(f"{key} {number}").uniform(0.02, 1.0) * seconds[key]
    for _ in range(ATTEMPTS):
        prepare()
        if killed(words, folder, after):
            wait_for_silence(folder)
            return
        after *= 0.7
    pytest.fail(f"{' '.join(words)} ended before it could be killed, {ATTEMPTS} times")


@pytest.mark.fault("a stage, killed at a random moment", commands=SEVERAL)
@pytest.mark.parametrize("number", NUMBERS[: (KILLS + 1) // 2])
@pytest.mark.parametrize("name", STAGES)
def test_a_killed_stage_leaves_nothing_half_written(tiny_study: Path, tmp_path: Path, name: str, number: int, seconds):
    folder, words, expected = tmp_path / "study", [sys.executable, "-m", f"stages.{name}"], listing(tiny_study)
    shutil.copytree(tiny_study, folder)

    def prepare() -> None:
        shutil.rmtree(folder)
        shutil.copytree(tiny_study, folder)
        if number % 2:  # as DVC does it, which takes a stage's outputs away first
            for path in outputs(name):
                shutil.rmtree(folder / path) if (folder / path).is_dir() else (folder / path).unlink()

    kill(name, number, seconds, words, folder, prepare)
    torn = [path for path in differing(expected, listing(folder)) if (folder / path).exists() and not is_part(path)]
    assert torn == []
    assert run(words, folder).status == 0
    assert differing(expected, listing(folder)) == []  # so no part is left either


def is_part(path: str) -> bool:
    return path.endswith(".part") or ".part/" in path


def all_outputs(folder: Path) -> dict[str, bytes | str]:
    """Return every file where stages write, with its bytes."""
    found = listing(folder)
    return {path: data for path, data in found.items() if path.split("/")[0] in WRITTEN}


WRITTEN = ("data", "models", "metrics", "plots", "report")


@pytest.mark.fault("dvc alone, killed at a random moment", commands=SEVERAL)
@pytest.mark.parametrize("number", NUMBERS[: KILLS // 2])
@pytest.mark.parametrize("name", STAGES)
def test_a_killed_dvc_leaves_no_stage_behind_and_goes_on(repository: Path, name: str, number: int, seconds):
    words, path = ["dvc", "repro", "--quiet", "--single-item", "--force", name], dvc_environment()["PATH"]
    expected, files, lock = locked(repository), all_outputs(repository), (repository / "dvc.lock").read_bytes()
    assert set(WRITTEN) == {file.split("/")[0] for file in files} and not any(map(is_part, files))
    kill(f"dvc {name}", number, seconds, words, repository, lambda: None)
    done = run(["dvc", "repro"], repository, PATH=path)
    if "'./dvc.lock' validation failed" in done.err:  # DVC writes its lock file in place: docs/reliability.md
        (repository / "dvc.lock").write_bytes(lock)  # as `git checkout dvc.lock` does
        done = run(["dvc", "repro"], repository, PATH=path)
    assert done.status == 0, done.err
    assert locked(repository) == expected
    changed = differing(files, all_outputs(repository))
    if f"Running stage '{name}'" not in done.out and all(map(is_part, changed)) and changed:
        done = run(words, repository, PATH=path)  # restored from the cache: the stage tidies up when it does run
        assert done.status == 0, done.err
        changed = differing(files, all_outputs(repository))
    assert changed == []
