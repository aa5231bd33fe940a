"""The committed table of faults says that nothing was lost; and a table is made of outcomes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT
from reliability import Reliability, figures

PAGE = ROOT / "docs/reliability.md"
CASES = """import pytest

@pytest.fixture
def torn():
    yield
    assert False

@pytest.fixture
def broken(torn):
    assert False

@pytest.mark.fault("call and teardown")
def test_one(torn):
    assert False

@pytest.mark.fault("setup and teardown")
def test_two(broken):
    pass

@pytest.mark.fault("teardown")
def test_three(torn):
    pass
"""


def test_the_committed_table_has_hundreds_of_cases_and_none_lost():
    rows = figures(PAGE.read_text(encoding="utf-8"))
    tried, wrong = rows.pop("**all**")
    assert tried == sum(n for n, _ in rows.values()) >= 400
    assert wrong == 0
    for kind in ("a stage, killed at a random moment", "dvc alone, killed at a random moment", "a hostile archive"):
        assert rows[kind][0] > 0


def test_a_run_replaces_the_rows_that_it_tried_and_keeps_the_others(tmp_path: Path):
    page = tmp_path / "page.md"
    first = Reliability(page)
    first.tried.update({"a": 1500, "b": 2})
    first.wrong.update({"b": 1})
    first.pytest_sessionfinish()
    assert figures(page.read_text()) == {"a": (1500, 0), "b": (2, 1), "**all**": (1502, 1)}
    second = Reliability(page)
    second.tried.update({"b": 3})
    second.pytest_sessionfinish()
    assert figures(page.read_text()) == {"a": (1500, 0), "b": (3, 0), "**all**": (1503, 0)}


def test_a_case_that_fails_twice_is_wrong_once(tmp_path: Path):
    (tmp_path / "test_cases.py").write_text(CASES)
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = fault(kind)\n")
    counts = Reliability(tmp_path / "page.md")
    words = ["-q", "-p", "no:cacheprovider", "-p", "no:faulthandler", "--rootdir", str(tmp_path), str(tmp_path)]
    assert pytest.main(words, plugins=[counts]) == pytest.ExitCode.TESTS_FAILED
    assert counts.tried == {"call and teardown": 1, "setup and teardown": 1, "teardown": 1}
    assert counts.wrong == {"call and teardown": 1, "setup and teardown": 1, "teardown": 1}


def test_pytest_takes_the_command_of_make_faults(tmp_path: Path):
    """Given apart from its option, the page is a path to collect tests from, and the option is unknown."""
    line = next(line for line in (ROOT / "Makefile").read_text().splitlines() if "--reliability" in line)
    page = tmp_path / "page.md"
    page.write_text("a page that is there, as the committed one is")
    words = line.replace("docs/reliability.md", str(page)).split()
    command = [sys.executable, "-m", *words[words.index("pytest") :], "--collect-only", "--ignore-glob=*/test_*.py"]
    done = subprocess.run(command, cwd=ROOT, text=True, capture_output=True, timeout=120)
    assert done.returncode == 5, done.stderr  # no tests were left
