"""A JSON file of results to which each call adds what it lacks; what was made with other settings is never mixed in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from commands.reading import read_json
from stages.shell.errors import InputError


def so_far(path: Path, settings: dict[str, Any]) -> dict[str, Any]:
    """Return what is in the file already, or its beginning: `settings`, what all its figures have in common.

    Raises
    ------
    InputError
        If the file's figures were made with others, or it is no such file.
    """
    if not path.is_file():
        return {"settings": settings}
    result = read_json(path)
    if not isinstance(result.get("settings"), dict):
        raise InputError(f"{path} does not say with which settings its figures were made: choose another --out")
    if others := differing(result["settings"], settings):
        raise InputError(f"{path} holds figures of other settings ({'; '.join(others)}): choose another --out")
    return result


def differing(there: dict[str, Any], here: dict[str, Any]) -> list[str]:
    """Return in which settings a result that is there is not one of those asked for here.

    Examples
    --------
    >>> differing({"lr": 0.1, "size": 64}, {"lr": 0.2, "size": 64, "isa": "avx2"})
    ['isa = None, not avx2', 'lr = 0.1, not 0.2']
    """
    keys = sorted(there | here)
    return [f"{key} = {there.get(key)}, not {here.get(key)}" for key in keys if there.get(key) != here.get(key)]
