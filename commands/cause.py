"""Why a replay's outputs are not the committed ones: what is known, most likely first."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from commands import locked, reading

COMPARED = ("cpu", "isa", "pins", "python", "gpu")  # of an environment, beside the packages


def changed_code(status: dict[str, list[Any]]) -> dict[str, list[str]]:
    """Return {stage: what Git has of it otherwise than `dvc.lock`}: changed without running the stage again.

    Code, parameters, the command, and outputs that lie in Git. `status` is what `dvc status --json` says before
    anything is run: what lies in the folder then is what Git has, and all that is missing is data.

    Examples
    --------
    >>> changed_code({"train": [{"changed deps": {"data": "deleted", "params.yaml": {"lr": "modified"}}}]})
    {'train': ['params.yaml: lr']}
    >>> changed_code({"dvc.yaml:train": [{"changed deps": {"train.py": "modified"}}, "changed command"]})
    {'train': ['train.py', 'dvc.yaml: cmd']}
    """
    found = {name: [what for entry in entries for what in _behind(entry)] for name, entries in status.items()}
    return {name.rpartition(":")[2]: behind for name, behind in found.items() if behind}


def _behind(entry: Any) -> Iterator[str]:
    """Yield what one entry of a stage's status names, of all that Git has."""
    if entry == "changed command":
        yield "dvc.yaml: cmd"
    elif isinstance(entry, dict):
        for path, how in (entry.get("changed deps", {}) | entry.get("changed outs", {})).items():
            if isinstance(how, dict):
                yield from (f"{path}: {key}" for key in how)
            elif how in ("modified", "new"):
                yield path


def recorded(study: Path) -> dict[str, Any]:
    """Return what metrics/provenance.json has; nothing where it is not there."""
    return reading.read_json_if_there(study / "metrics/provenance.json")


def environment_changes(study: Path, stage: str) -> list[str]:
    """Return how the environment in which `stage` just ran is not the one that metrics/provenance.json names for it."""
    before: dict[str, Any] = next(
        (each for each in recorded(study).get("environments", []) if stage in each["stages"]), {}
    )
    after = reading.read_json_if_there(study / f"logs/{stage}.json")
    return settings_changes(study, stage) + [
        f"{key}: {_short(before[key])} -> {_short(after[key])}"
        for key in COMPARED
        if key in before and key in after and before[key] != after[key]
    ]


def settings_changes(study: Path, stage: str) -> list[str]:
    """Return which of device, precision and threads `stage` had otherwise when provenance.json was written."""
    then = recorded(study)
    before = then.get("settings", {}) if stage in then.get("outputs", {}) else {}
    lock = locked.stages(study, "the commit's dvc.lock") if before else {}
    now = lock.get(stage, {}).get("params", {}).get("params.yaml", {})
    return [f"{key}: {before[key]} -> {now[key]}" for key in before if key in now and now[key] != before[key]]


def cause(stage: str, changed: dict[str, list[str]], versions: dict[str, str], environment: list[str]) -> str:
    """Return the likeliest cause of the first stage whose outputs differ, as one line."""
    if stage in changed:
        return f"changed without running {stage} again: {', '.join(changed[stage])}"
    if versions:
        return "other package versions than requirements.lock: " + ", ".join(f"{n} {v}" for n, v in versions.items())
    if environment:
        return "another environment than metrics/provenance.json names: " + "; ".join(environment)
    if stage == "fetch":
        return "same code, same environment: the source gave other bytes"
    return "same inputs, same environment, other bits: a hidden input, or a committed hash that no run gave"


def _short(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, sort_keys=True)
    return text if len(text) < 80 else f"{text[:77]}..."
