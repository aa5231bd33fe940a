"""What a study's dvc.lock says: its stages, who makes what another needs, and which of them trained a network."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from commands import reading
from stages.shell import pipeline

Lock = dict[str, Any]  # stage -> its command, dependencies, parameters and outputs


def stages(study: Path, name: str | None = None) -> Lock:
    """Return the stages of a study's dvc.lock that its dvc.yaml has; of all, where that cannot be read.

    DVC leaves in the file what stages with other names have written, `train` before there were folds, or folds that
    are no more, and passes over it. `name` is what a person is told instead of the path.
    """
    path = study / "dvc.lock"
    found, declared = reading.stages(path.read_bytes(), name or str(path)), pipeline.declared(study)
    return {stage: entry for stage, entry in found.items() if stage in declared or not declared}


def outputs(lock: Lock) -> dict[str, dict[str, Any]]:
    """Return {path: entry} of all outputs."""
    return {out["path"]: out for entry in lock.values() for out in entry.get("outs", [])}


def makers(lock: Lock, path: str) -> list[str]:
    """Return the stages with an output that is `path`, lies in it or holds it, as data/prepared holds a fold's images.

    Examples
    --------
    >>> lock = {"prepare": {"outs": [{"path": "data/prepared"}]}, "train@0": {"outs": [{"path": "models/folds/0/a"}]}}
    >>> makers(lock, "data/prepared/folds/0"), makers(lock, "models/folds"), makers(lock, "models/folds/0/ab")
    (['prepare'], ['train@0'], [])
    """
    return [stage for stage, entry in lock.items() if any(_touch(out["path"], path) for out in entry.get("outs", []))]


def given(lock: Lock, stage: str) -> list[dict[str, Any]]:
    """Return the dependencies of a stage that stages make: not its code."""
    return [dep for dep in lock[stage].get("deps", []) if makers(lock, dep["path"])]


def holding(lock: Lock, path: str) -> list[dict[str, Any]]:
    """Return the outputs that are `path`, lie in it or hold it."""
    return [out for name, out in outputs(lock).items() if _touch(name, path)]


def trainings(lock: Lock) -> dict[str, str]:
    """Return {stage: its folder} of those that train a network; of one alone the folder is nothing.

    Examples
    --------
    >>> trainings({"prepare": {}, "train": {"outs": [{"path": "plots/trail.csv"}]}})
    {'train': ''}
    >>> trainings({"train@1": {"outs": [{"path": "models/curves/folds/1"}, {"path": "plots/folds/1/trail.csv"}]}})
    {'train@1': '/folds/1'}
    """
    trained = {stage: entry.get("outs", []) for stage, entry in lock.items() if stage.partition("@")[0] == "train"}
    folders = {stage: [_folder(out["path"]) for out in outs] for stage, outs in trained.items()}
    return {stage: folder for stage, each in folders.items() for folder in each if folder is not None}


def fold(folder: str) -> str:
    """Return a fold's name: 3 of /folds/3; nothing of one network alone."""
    return folder.rpartition("/")[2]


def _folder(path: str) -> str | None:
    match = re.fullmatch(r"(?:plots|models)(/folds/\d+)?/(?:trail\.csv|model\.safetensors)", path)
    return (match[1] or "") if match else None


def _touch(one: str, other: str) -> bool:
    return one == other or one.startswith(f"{other}/") or other.startswith(f"{one}/")
