"""A clone holds the bytes that were committed, whatever a person's Git does with the ends of lines elsewhere."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from conftest import copy_repository

CRLF = ["-c", "core.autocrlf=true", "-c", "core.eol=crlf", "-c", "core.safecrlf=false"]
NAMED = ["-c", "user.name=t", "-c", "user.email=t@example.org"]


def git(folder: Path, *words: str) -> str:
    return subprocess.run(["git", *words], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture(scope="module")
def committed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The repository as it stands, committed by a Git that rewrites the ends of lines."""
    folder = copy_repository(tmp_path_factory.mktemp("committed") / "repository")
    git(folder, "init", "-q")
    (folder / "tests/faults/corpus/crlf").write_bytes(b"a line\r\nanother\nand a third\r\n")
    git(folder, *CRLF, "add", "-A")
    git(folder, *CRLF, *NAMED, "commit", "-qm", "as it stands")
    return folder


@pytest.mark.parametrize("settings", [CRLF, ["-c", "core.autocrlf=input"], []], ids=["crlf", "input", "as Git comes"])
def test_every_file_of_a_clone_has_the_committed_bytes(committed: Path, tmp_path: Path, settings: list[str]):
    clone = tmp_path / "clone"
    git(tmp_path, "clone", "-q", *settings, str(committed), str(clone))
    names = git(clone, "ls-files", "-z").split("\0")[:-1]
    assert [name for name in names if (clone / name).read_bytes() != (committed / name).read_bytes()] == []
    assert {"dvc.yaml", "docs/audit-scale.png", "plots/roc.csv", "tests/faults/corpus/crlf"} <= set(names)
    assert git(clone, "status", "--porcelain") == ""
