"""The Git repository in which a person stands: its root, its commits, the study there, and DVC's cache."""

from __future__ import annotations

import subprocess
from pathlib import Path

from stages.shell.errors import InputError


def git(folder: Path, *words: str) -> str:
    """Return what Git prints; an InputError with its own words where it refuses."""
    done = subprocess.run(["git", *words], cwd=folder, capture_output=True, encoding="utf-8", errors="surrogateescape")
    if done.returncode:
        raise InputError(" ".join(done.stderr.split()) or f"git {words[0]} failed with status {done.returncode}")
    return done.stdout.rstrip("\n")  # no more: the lines of `git status --porcelain` may begin with a space


def find_root() -> Path:
    """Return the root of the repository in which a person stands."""
    try:
        return Path(git(Path.cwd(), "rev-parse", "--show-toplevel"))
    except InputError as error:
        raise InputError(f"{error}: {Path.cwd()}: stand in a clone of the project, or below") from None


def here(root: Path) -> str:
    """Return the study in which a person stands, from the root; the root itself where it is none."""
    inside = (Path.cwd() / "dvc.yaml").is_file()
    return Path.cwd().resolve().relative_to(root.resolve()).as_posix() if inside else "."


def commit(root: Path, rev: str) -> str:
    """Return the full name of a commit."""
    try:
        return git(root, "rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}")
    except InputError:
        raise InputError(
            f"{rev!r} is no commit of {root.name}: give a branch, tag or hash (`dvc exp show` has those of experiments)"
        ) from None


def cached(study: Path, digest: str) -> Path:
    """Return where the cache of a study's DVC project has the file of that MD5, if it has it."""
    from dvc.config import Config, ConfigError

    try:
        folder = Config(str(study / ".dvc"))["cache"].get("dir", study / ".dvc/cache")
    except ConfigError as error:
        raise InputError(f"{study}/.dvc/config: {' '.join(str(error).split())}: mend it, or take it from Git") from None
    return Path(folder) / "files/md5" / digest[:2] / digest[2:]
