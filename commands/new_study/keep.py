"""A new study in Git: staged, so that nothing of it can be lost, or committed by itself."""

from __future__ import annotations

from pathlib import Path

from commands.repository import git
from stages.shell.errors import InputError


def in_git(root: Path) -> bool:
    """Say whether a folder belongs to a Git repository."""
    try:
        return git(root, "rev-parse", "--is-inside-work-tree") == "true"
    except (InputError, FileNotFoundError):  # no repository; no Git
        return False


def stage(study: Path) -> None:
    """Put the study's files into Git's index, from which they come back.

    `dvc exp run --queue` puts params.yaml there, runs `git reset --hard`, then brings back what was changed: so a file
    that Git did not know before is deleted (DVC 3.67).
    """
    _take(study, "add", "--", study.name)


def commit(study: Path) -> None:
    """Commit the study's files and nothing else, whatever is staged."""
    _take(study, "commit", "--quiet", "-m", f"Study {study.name}", "--", study.name)


def _take(study: Path, *words: str) -> None:
    try:
        git(study.parent, *words)
    except InputError as error:
        raise InputError(f"studies/{study.name} is made, but Git does not take it: {error}") from None
