"""Killed at any moment, a stage leaves the old outputs or none, and run again it makes the same bits."""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, STAGES, set_params
from faulting import differing, listing, run

KILLS = int(os.environ.get("BRAINMRI_KILLS", "3"))  # a stage; `make faults` has 25
PIPELINE = yaml.safe_load((ROOT / "dvc.yaml").read_text())["stages"]
NUMBERS = range(KILLS)
SLOWEST_END = 5.0  # seconds in which what a killed process started must be gone


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
    """Start a command, kill it with SIGKILL after so many seconds; return whether it still ran."""
    environment = os.environ | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"}
    child = subprocess.Popen(
        words,
        cwd=folder,
        env=environment,
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
        return True


@pytest.fixture(scope="module")
def seconds() -> dict[str, float]:
    """How long each command takes when it is left alone, measured at its first use."""
    return {}


def moment(key: str, number: int, seconds: dict[str, float], words: list[str], folder: Path) -> float:
    if key not in seconds:
        begun = time.monotonic()
        assert run(words, folder).status == 0
        seconds[key] = time.monotonic() - begun
    return random.Random(f"{key} {number}").uniform(0.02, 1.0) * seconds[key]


@pytest.mark.fault("a stage, killed at a random moment")
@pytest.mark.parametrize("number", NUMBERS[: (KILLS + 1) // 2])
@pytest.mark.parametrize("name", STAGES)
def test_a_killed_stage_leaves_nothing_half_written(tiny_study: Path, tmp_path: Path, name: str, number: int, seconds):
    folder = tmp_path / "study"
    shutil.copytree(tiny_study, folder)
    words = [sys.executable, "-m", f"stages.{name}"]
    after = moment(name, number, seconds, words, folder)
    expected = listing(tiny_study)
    if number % 2:  # as DVC does it, which takes a stage's outputs away first
        for path in outputs(name):
            shutil.rmtree(folder / path) if (folder / path).is_dir() else (folder / path).unlink()
    killed(words, folder, after)
    wait_for_silence(folder)
    torn = [
        path
        for path in differing(expected, listing(folder))
        if (folder / path).exists() and not path.endswith(".part") and ".part/" not in path
    ]
    assert torn == []
    assert run(words, folder).status == 0
    assert differing(expected, listing(folder)) == []


@pytest.fixture(scope="module")
def repository(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A clone with tiny parameters, run once by DVC."""
    folder = tmp_path_factory.mktemp("killed") / "clone"
    for name in subprocess.check_output(
        ["git", "ls-files", "-co", "--exclude-standard"], cwd=ROOT, text=True
    ).splitlines():
        if not name.startswith(("studies/", "metrics/", "plots/")) and (ROOT / name).is_file() and name != "dvc.lock":
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    from conftest import TINY

    set_params(folder, **TINY)
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    done = subprocess.run(
        ["dvc", "repro", "--quiet"], cwd=folder, capture_output=True, text=True, env=dvc_environment()
    )
    assert done.returncode == 0, done.stderr
    return folder


def dvc_environment() -> dict[str, str]:
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def locked(folder: Path) -> dict[str, list[tuple[str, str]]]:
    lock = yaml.safe_load((folder / "dvc.lock").read_text())["stages"]
    return {name: [(out["path"], out["md5"]) for out in entry["outs"]] for name, entry in lock.items()}


@pytest.mark.fault("dvc alone, killed at a random moment")
@pytest.mark.parametrize("number", NUMBERS[: KILLS // 2])
@pytest.mark.parametrize("name", STAGES)
def test_a_killed_dvc_leaves_no_stage_behind_and_goes_on(
    repository: Path, name: str, number: int, seconds, monkeypatch
):
    monkeypatch.setenv("PATH", dvc_environment()["PATH"])
    words = ["dvc", "repro", "--quiet", "--single-item", "--force", name]
    expected, files = locked(repository), set(listing(repository / "data")) | set(listing(repository / "models"))
    after = moment(f"dvc {name}", number, seconds, words, repository)
    killed(words, repository, after)
    wait_for_silence(repository)
    done = run(["dvc", "repro", "--quiet"], repository)
    assert done.status == 0, done.err
    assert locked(repository) == expected
    found = set(listing(repository / "data")) | set(listing(repository / "models"))
    # where DVC brings an output back from its cache the stage does not run, so a part that it left stays until it does
    assert files <= found and all(".part" in name for name in found - files)
