"""The Git repository in which a person stands: its root, its commits, the study there, and DVC's cache."""

from __future__ import annotations

import re
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
    """Return the study in which a person stands, or below which, from the root; the root itself where it is none."""
    at, root = Path.cwd().resolve(), root.resolve()
    for folder in (at, *at.parents):
        if folder == root or (folder / "dvc.yaml").is_file():
            return folder.relative_to(root).as_posix()
    return "."


def commit(root: Path, rev: str) -> str:
    """Return the full name of a commit: of a branch, tag or hash, or else of an experiment's name.

    Raises
    ------
    InputError
        If nothing has that name, or experiments on several commits do.
    """
    try:
        return git(root, "rev-parse", "--verify", "--quiet", f"{rev}^{{commit}}")
    except InputError:
        pass
    found = experiments(root, rev)
    if not found:
        raise InputError(
            f"{rev!r} is no commit and no experiment of {root.name}: give a branch, tag or hash, or a name that "
            "`dvc exp list --all-commits` prints"
        )
    if len(found) > 1:
        each = ", ".join(f"{name[:7]} on {baseline[:7]}" for baseline, name in sorted(found.items()))
        raise InputError(f"{len(found)} experiments are called {rev!r}: {each}; give the hash of the one you mean")
    return next(iter(found.values()))


def experiments(root: Path, name: str) -> dict[str, str]:
    """Return the commits of DVC's experiments of that name, {commit on which it was made: its own}.

    They are Git's refs/exps/<2 digits>/<38 digits>/<name>; what else DVC keeps below refs/exps is no experiment.
    """
    found = {}
    for line in git(root, "for-each-ref", "--format=%(objectname) %(refname)", "refs/exps").splitlines():
        digest, ref = line.split(" ", 1)
        place = re.fullmatch(r"refs/exps/([0-9a-f]{2})/([0-9a-f]{38})/([^/]+)", ref)
        if place and place[3] == name:
            found[place[1] + place[2]] = digest
    return found


def cached(study: Path, digest: str) -> Path:
    """Return where the cache of a study's DVC project has the file of that MD5, if it has it."""
    return cache_folder(study) / "files/md5" / digest[:2] / digest[2:]


def cache_folder(study: Path) -> Path:
    """Return the cache of a study's DVC project: of the nearest one above, where the study is none, as DVC has it."""
    from dvc.config import Config, ConfigError

    project = next((folder for folder in (study, *study.parents) if (folder / ".dvc").is_dir()), study)
    try:
        folder = Config(str(project / ".dvc"))["cache"].get("dir", project / ".dvc/cache")
    except ConfigError as error:
        raise InputError(
            f"{project}/.dvc/config: {' '.join(str(error).split())}: mend it, or take it from Git"
        ) from None
    return Path(folder)
