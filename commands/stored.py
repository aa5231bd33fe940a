"""Outputs of a commit, taken from DVC's cache or from the study's folder into a clone, each held against its hash."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

from commands.repository import cached
from stages.shell.errors import InputError
from stages.shell.provenance import dvc_hash


def place(root: Path, study: str, outs: list[dict[str, Any]], clone: Path) -> None:
    """Copy outputs, as a dvc.lock names them, into a study's folder of a clone.

    Raises
    ------
    InputError
        Where neither DVC's cache nor the study's folder has one with its hash.
    """
    for out in outs:
        target = clone / study / out["path"]
        target.parent.mkdir(parents=True, exist_ok=True)
        if not (_from_cache(root / study, out["md5"], target) or _from_folder(root / study, out, target)):
            raise InputError(
                f"{out['path']} with hash {out['md5'][:12]} is neither in DVC's cache nor in {study}/: "
                "get it with `dvc pull`, or make it with `dvc repro`"
            )


def _from_cache(study: Path, digest: str, target: Path) -> bool:
    """Copy a file or a folder out of the study's cache; whether it was there, whole and sound."""
    found = cached(study, digest)
    if not found.is_file():
        return False
    if digest.endswith(".dir"):
        if f"{dvc_hash(found)}.dir" != digest:
            return False
        target.mkdir(exist_ok=True)
        for entry in json.loads(found.read_text()):
            source, file = cached(study, entry["md5"]), target / entry["relpath"]
            if not file.resolve().is_relative_to(target.resolve()):
                raise InputError(f"{found} lists {entry['relpath']}, which lies outside its folder: remove that file")
            file.parent.mkdir(parents=True, exist_ok=True)
            if source.is_file():
                shutil.copyfile(source, file)
    else:
        shutil.copyfile(found, target)
    return _sound(target, digest)


def _from_folder(study: Path, out: dict[str, Any], target: Path) -> bool:
    source = study / out["path"]
    if not source.exists() or dvc_hash(source) != out["md5"]:
        return False
    shutil.copytree(source, target) if source.is_dir() else shutil.copyfile(source, target)
    return _sound(target, out["md5"])


def _sound(target: Path, digest: str) -> bool:
    """Whether what was copied has its hash; if not, it is removed."""
    if dvc_hash(target) == digest:
        return True
    shutil.rmtree(target) if target.is_dir() else target.unlink()
    return False
