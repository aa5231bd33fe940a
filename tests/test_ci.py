"""A fork's CI: who may do what, and the scripts that its workflows run."""

from __future__ import annotations

import doctest
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, TINY, copy_repository, dvc_environment, set_params

from stages.dialect import parse

SCRIPTS = ROOT / ".github/scripts"
WORKFLOWS = sorted((ROOT / ".github/workflows").iterdir())


def steps(path: Path) -> list[dict[str, Any]]:
    return [step for job in parse(path.read_text())["jobs"].values() for step in job["steps"]]


def git(folder: Path, *words: str) -> str:
    command = ["git", "-c", "user.name=a", "-c", "user.email=a@b", *words]
    return subprocess.check_output(command, cwd=folder, text=True).strip()


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_code_of_a_pull_request_gets_no_secret_and_may_write_nothing(path: Path):
    text, flow = path.read_text(), parse(path.read_text())
    rights = [flow["permissions"], *(job.get("permissions", {}) for job in flow["jobs"].values())]
    writes = {name for each in rights for name, right in each.items() if right == "write"}
    asked_by_anybody = "workflow_run" not in flow["on"]
    assert writes == (set() if asked_by_anybody else {"pull-requests"})
    assert "secrets" not in text.replace("no secret ", "") and "pull_request_target" not in text
    for step in steps(path):
        if "actions/checkout@" in step.get("uses", ""):
            assert step["with"]["persist-credentials"] is False and "ref" not in step["with"]
        if step.get("run") != "${{ matrix.run }}":  # ours; all else comes by the environment
            assert "${{" not in step.get("run", "")


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda path: path.stem)
def test_actions_are_pinned_by_commit_and_files_that_are_run_are_there(path: Path):
    uses = re.findall(r"uses: (.*)", path.read_text())
    assert uses and all(re.fullmatch(r"actions/[a-z-]+@[0-9a-f]{40}  # v[0-9.]+", each) for each in uses)
    run = " ".join(step.get("run", "") for step in steps(path)) + path.read_text()
    for name in re.findall(r"\.(?:ci|github/scripts)/[a-z.]+", run):
        assert (ROOT / name).is_file() and (name.endswith(".py") or os.access(ROOT / name, os.X_OK))


def test_the_lines_in_the_docstrings_are_true():
    spec = importlib.util.spec_from_file_location("comment", SCRIPTS / "comment.py")
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    assert doctest.testmod(module).failed == 0 and doctest.testmod(module).attempted


def commented(folder: Path, base: str) -> str:
    command = [sys.executable, ".github/scripts/comment.py", base, "HEAD"]
    environment = dvc_environment() | {"PYTHONPATH": str(folder)}
    return subprocess.check_output(command, cwd=folder, text=True, env=environment)


def test_the_comment_shows_what_changed_and_of_which_study(tmp_path: Path):
    folder = copy_repository(tmp_path / "clone")
    git(folder, "init", "-qb", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-qm", "base")
    study = folder / "studies/nickparvar"
    metrics = json.loads((study / "metrics/test.json").read_text())
    (study / "metrics/test.json").write_text(json.dumps(metrics | {"accuracy": 0.5}))
    first, *rows = (study / "plots/confusion.csv").read_text().splitlines()
    rows[rows.index("glioma,glioma")] = "glioma,notumor"
    (study / "plots/confusion.csv").write_text("\n".join([first, *rows]) + "\n")
    git(folder, "commit", "-qam", "change")
    said = commented(folder, "HEAD^")
    assert said.startswith("### Results of `") and "#### studies/nickparvar\n" in said
    assert re.search(r"\| metrics/test.json +\| accuracy +\| 0.98\d+ +\| 0.5 ", said)
    cells = re.search(r"\| \*\*glioma\*\* \| (\d+) → (\d+) \| \d+ \| (\d+) → (\d+) \| ", said)
    assert cells, said
    right, fewer, wrong, more = (int(each) for each in cells.groups())
    assert (fewer, more) == (right - 1, wrong + 1)
    assert "without a copy in training; a row a true class, in images, the same in both:" in said
    assert "brainmri: predictions of HEAD^ (" in said, "what is not in the cache is said, with what to do"
    others = sorted(path.parent.relative_to(ROOT).as_posix() for path in ROOT.glob("studies/*/dvc.yaml"))
    others.remove("studies/nickparvar")
    assert f"Unchanged: {', '.join(f'`{other}`' for other in ['.', *others])}." in said
    assert "Unchanged: `.`, `studies/nickparvar" in commented(folder, "HEAD")


@pytest.mark.slow
def test_predictions_of_both_commits_are_brought_and_compared(tmp_path: Path):
    folder = copy_repository(tmp_path / "clone", ("studies/", "metrics/", "plots/", "dvc.lock"))
    (folder / ".venv").symlink_to(ROOT / ".venv")
    git(folder, "init", "-qb", "main")
    for epochs in (1, 2):
        set_params(folder, **(TINY | {"epochs": epochs}))
        subprocess.run(["dvc", "repro", "-q"], cwd=folder, check=True, env=dvc_environment())
        git(folder, "add", "-A")
        git(folder, "commit", "-qm", f"{epochs} epochs")
    subprocess.run(["rm", "-r", "data", ".dvc/cache"], cwd=folder, check=True)
    subprocess.run([".github/scripts/predictions.sh", "HEAD^"], cwd=folder, check=True, env=dvc_environment())
    assert git(folder, "status", "--short") == "" and git(folder, "worktree", "list").count("\n") == 0
    said = commented(folder, "HEAD^")
    assert "\nall: n = 32, A " in said and "exact McNemar" in said and "<details><summary>" in said


GH = """#!/usr/bin/env bash
echo "$@" >> "$LOG"
case "$1 $2" in
    "run download") [ -d "$LEFT" ] && cp "$LEFT"/* "${@: -1}" ;;
    "pr view") echo "$AT" ;;
    "pr comment") cat "$5" >> "$LOG" ;;
esac
"""


def posted(folder: Path, left: dict[str, str], at: str = "abc") -> tuple[int, str]:
    """Return the status of post.sh and what it asked of GitHub, where the check of commit `abc` left some files."""
    (folder / "gh").write_text(GH)
    (folder / "gh").chmod(0o755)
    if left:
        (folder / "left").mkdir()
    for name, text in left.items():
        (folder / "left" / name).write_text(text)
    known = {"LOG": str(folder / "log"), "LEFT": str(folder / "left"), "AT": at, "RUN": "7", "COMMIT": "abc"}
    known |= {"PATH": f"{folder}:{os.environ['PATH']}", "TMPDIR": str(folder)}
    done = subprocess.run([SCRIPTS / "post.sh"], env=os.environ | known, capture_output=True)
    assert not list(folder.glob("tmp.*"))
    return done.returncode, (folder / "log").read_text()


def test_a_comment_is_posted_once_and_calls_nobody(tmp_path: Path):
    status, asked = posted(tmp_path, {"number": "12\n", "comment.md": "### Results\n@everyone\n"})
    assert status == 0 and "pr comment 12 --body-file " in asked and "--edit-last --create-if-none" in asked
    assert asked.endswith("### Results\n@<!-- -->everyone\n")


@pytest.mark.parametrize(
    ("left", "at", "status"),
    [
        ({}, "abc", 0),
        ({"number": "12 --repo other/one", "comment.md": "x"}, "abc", 1),
        ({"number": "", "comment.md": "x"}, "abc", 1),
        ({"number": "13", "comment.md": "x"}, "another", 0),
    ],
)
def test_what_a_check_leaves_cannot_speak_elsewhere(tmp_path: Path, left: dict[str, str], at: str, status: int):
    found, asked = posted(tmp_path, left, at)
    assert found == status and "pr comment" not in asked


def test_a_comment_that_is_too_long_is_cut(tmp_path: Path):
    status, asked = posted(tmp_path, {"number": "1", "comment.md": "x" * 100_000})
    assert status == 0 and asked.count("x") < 60_100
