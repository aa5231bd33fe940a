"""Replay on repositories of one small stage, made by hand."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT

from commands import cause


def git(folder: Path, *words: str) -> str:
    named = dict.fromkeys(("GIT_AUTHOR_NAME", "GIT_COMMITTER_NAME"), "test")
    named |= dict.fromkeys(("GIT_AUTHOR_EMAIL", "GIT_COMMITTER_EMAIL"), "test@example.org")
    words = ("git", *words)
    return subprocess.run(words, cwd=folder, env=os.environ | named, check=True, capture_output=True, text=True).stdout


def repository(folder: Path, code: str) -> Path:
    """Make a repository whose one stage runs `code`, run it, and commit."""
    folder.mkdir()
    git(folder, "init", "-q")
    (folder / "make.py").write_text(code)
    (folder / "dvc.yaml").write_text(
        "stages:\n  make:\n    cmd: python make.py\n    deps: [make.py]\n    outs: [out.txt]\n"
    )
    (folder / "requirements.lock").write_text("")
    (folder / ".gitignore").write_text("/out.txt\n")
    for words in (["init", "-q"], ["config", "core.analytics", "false"], ["repro", "-q"]):
        subprocess.run([sys.executable, "-m", "dvc", *words], cwd=folder, check=True, env=path())
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "made")
    return folder


def path() -> dict[str, str]:
    return os.environ | {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"}


def start(folder: Path, *words: str, scratch: Path | None = None) -> subprocess.Popen[str]:
    environment = path() | {"PYTHONPATH": str(ROOT)} | ({"TMPDIR": str(scratch)} if scratch else {})
    command = [sys.executable, "-m", "commands", "replay", *words]
    return subprocess.Popen(
        command, cwd=folder, env=environment, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def replay(folder: Path, *words: str) -> tuple[int, str, str]:
    process = start(folder, *words)
    out, err = process.communicate(timeout=120)
    return process.returncode, out, err


def test_a_true_commit_is_the_same(tmp_path: Path):
    folder = repository(tmp_path / "one", "open('out.txt', 'w').write('1')")
    status, out, _ = replay(folder)
    assert status == 0 and "every output is the same" in out


def test_code_changed_without_running_it_is_named_even_where_the_output_is_the_same(tmp_path: Path):
    folder = repository(tmp_path / "one", "open('out.txt', 'w').write('1')")
    (folder / "make.py").write_text("open('out.txt', 'w').write('1')  # faster")
    git(folder, "commit", "-qam", "faster")
    status, out, _ = replay(folder)
    assert status == 1 and "changed without running make again: make.py" in out


def test_a_hidden_input_is_called_one(tmp_path: Path):
    folder = repository(tmp_path / "one", "import time; open('out.txt', 'w').write(str(time.time_ns()))")
    status, out, _ = replay(folder, "--json")
    found = json.loads(out)
    assert status == 1 and not found["same"] and "a hidden input" in found["cause"]


@pytest.mark.parametrize("study", ["/tmp", "..", "studies/none"])
def test_a_study_outside_the_commit_is_refused_and_nothing_is_run(tmp_path: Path, study: str):
    folder = repository(tmp_path / "one", "open('out.txt', 'w').write('1')")
    status, _, err = replay(folder, "--study", study)
    assert status == 1 and err.startswith("brainmri: ") and "expected" in err


def test_an_unknown_commit_and_an_unknown_stage_are_one_line(tmp_path: Path):
    folder = repository(tmp_path / "one", "open('out.txt', 'w').write('1')")
    assert "is no commit" in replay(folder, "nowhere")[2]
    assert "--stages bake: no such stage" in replay(folder, "--stages", "bake")[2]


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
def test_interrupted_it_leaves_nothing_behind_and_nothing_running(tmp_path: Path, how: signal.Signals):
    slow = "import os, time\nif 'SLOW' in os.environ:\n    time.sleep(60)\nopen('out.txt', 'w').write('1')"
    folder = repository(tmp_path / "one", slow)
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    os.environ["SLOW"] = "1"
    try:
        process = start(folder, scratch=scratch)
    finally:
        del os.environ["SLOW"]
    until = time.monotonic() + 60
    while not sleeping(scratch) and time.monotonic() < until:
        time.sleep(0.1)
    assert sleeping(scratch), "the stage never began"
    process.send_signal(how)
    process.communicate(timeout=60)
    assert process.returncode != 0
    assert list(scratch.iterdir()) == [] and not sleeping(scratch)
    assert git(folder, "status", "--porcelain") == "" and git(folder, "worktree", "list").count("\n") == 1


def sleeping(scratch: Path) -> list[str]:
    """Return the processes that work below `scratch`."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            words, where = (entry / "cmdline").read_text(), str((entry / "cwd").readlink())
        except OSError:
            continue
        if "make.py" in words and where.startswith(str(scratch)):
            found.append(words)
    return found


def test_causes_are_told_the_likeliest_first():
    code, versions, elsewhere = {"train": ["x.py"]}, {"torch": "1 -> 2"}, ["cpu: a -> b"]
    assert "x.py" in cause.cause("train", code, versions, elsewhere)
    assert "torch 1 -> 2" in cause.cause("evaluate", code, versions, elsewhere)
    assert "cpu: a -> b" in cause.cause("evaluate", code, {}, elsewhere)
    assert "the source gave other bytes" in cause.cause("fetch", {}, {}, [])
    assert "hidden input" in cause.cause("train", {}, {}, [])


def test_another_environment_than_recorded_is_told(tmp_path: Path):
    (tmp_path / "metrics").mkdir()
    (tmp_path / "logs").mkdir()
    recorded = {"environments": [{"cpu": "one", "isa": ["avx2"], "stages": ["train"]}]}
    (tmp_path / "metrics/provenance.json").write_text(json.dumps(recorded))
    (tmp_path / "logs/train.json").write_text(json.dumps({"cpu": "another", "isa": ["avx2"], "gpu": None}))
    assert cause.environment_changes(tmp_path, "train") == ["cpu: one -> another"]
    assert cause.environment_changes(tmp_path, "fetch") == []
