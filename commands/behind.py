"""Whether a study's results are of the code that lies beside them; if not, which commit made them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from commands import locked, reading
from commands.repository import git
from stages import params
from stages.shell.errors import InputError
from stages.shell.pipeline import expanded
from stages.shell.provenance import dvc_hash

DIGITS = 10  # of a commit's name, whatever Git is set up to show


def changed(study: Path) -> list[str]:
    """Return what a study's dvc.lock has otherwise than its dvc.yaml, parameters, versions and code; empty: nothing.

    Of the data it says nothing: that is what the lock's hashes are for.
    """
    lock = locked.stages(study)
    values = params.read(study / "params.yaml")
    try:
        declared = expanded(reading.stages((study / "dvc.yaml").read_bytes(), str(study / "dvc.yaml")), values)
    except (AttributeError, KeyError, TypeError):
        raise InputError(f"{study}/dvc.yaml: expected stages with cmd, and foreach over a mapping with do") from None
    never = [f"dvc.yaml: stage {name}" for name in declared if name not in lock]
    ran = declared.keys() & lock.keys()
    return never + sorted({what for name in ran for what in _changed(study, declared[name], lock[name], values)})


def _changed(study: Path, entry: dict[str, Any], had: dict[str, Any], values: dict[str, Any]) -> Iterator[str]:
    root = str(values["root"])
    if entry.get("cmd") != had.get("cmd"):
        yield "dvc.yaml: cmd"
    deps = set(entry.get("deps", []))
    hashes = {dep["path"]: dep["md5"] for dep in had.get("deps", [])}
    yield from deps ^ hashes.keys()
    for path in deps & hashes.keys():
        if path.startswith(f"{root}/") and dvc_hash(study / path) != hashes[path]:
            yield path
    now: dict[str, Any] = {key: values.get(key) for key in entry.get("params", []) if isinstance(key, str)}
    yield from (f"params.yaml: {key}" for key in _differing(had.get("params", {}).get("params.yaml", {}), now))
    versions = params.read(study / "versions.yaml")
    files = [each for each in entry.get("params", []) if isinstance(each, dict)]
    named = [name for each in files for name in each.get("versions.yaml", [])]
    before = had.get("params", {}).get("versions.yaml", {})
    yield from (f"versions.yaml: {key}" for key in _differing(before, {name: versions.get(name) for name in named}))


def _differing(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    return [key for key in before | now if key not in before or key not in now or before[key] != now[key]]


def made_by(study: Path) -> str | None:
    """Return the commit that brought the study's dvc.lock, and so its results; None where that cannot be known.

    Nobody knows it where the lock is not committed as it stands, or where a shallow clone's history is cut there.
    """
    try:
        if git(study, "status", "--porcelain", "--", "dvc.lock"):
            return None
        commit = git(study, "log", "-1", "--format=%H", "--", "dvc.lock")
        shallow = Path(git(study, "rev-parse", "--path-format=absolute", "--git-path", "shallow"))
        cut = shallow.read_text().split() if shallow.is_file() else []
    except (InputError, OSError):  # no repository, no commit yet, no Git
        return None
    return None if not commit or commit in cut else commit[:DIGITS]
