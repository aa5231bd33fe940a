"""JSON and YAML that Git has, read so that what a merge leaves in it is one clear line."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from stages.dialect import parse
from stages.shell.errors import InputError


def read_json(path: Path) -> dict[str, Any]:
    """Return the keys and values of a JSON file."""
    return _parsed(path.read_bytes(), str(path), "JSON", json.loads)


def read_json_if_there(path: Path) -> dict[str, Any]:
    """Return the keys and values of a JSON file, none where it is not there."""
    return read_json(path) if path.is_file() else {}


def stages(data: bytes | str, name: str) -> dict[str, Any]:
    """Return the stages that a dvc.lock has: {stage: its command, dependencies, parameters and outputs}."""
    found = _parsed(data, name, "YAML", parse).get("stages")
    if not isinstance(found, dict) or not all(isinstance(entry, dict) for entry in found.values()):
        raise InputError(f"{name} has no stages: expected what `dvc repro` writes; take it from Git, or run that")
    return found


def _parsed(data: bytes | str, name: str, kind: str, parse: Callable[[bytes | str], Any]) -> dict[str, Any]:
    try:
        found = parse(data)
    except (ValueError, RecursionError) as error:
        line = getattr(error, "lineno", None)
        raise InputError(
            f"{name} is no {kind}{f' (line {line})' if line else ''}: is it in the middle of a merge? "
            "Finish that, or take the whole file from Git, then run `dvc repro`"
        ) from None
    if not isinstance(found, dict):
        raise InputError(f"{name}: expected keys and values, found {type(found).__name__}: take it from Git")
    return found
