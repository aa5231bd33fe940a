"""Why a replay's outputs are not the committed ones: what is known, most likely first."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import yaml

from stages.provenance import dvc_hash

COMPARED = ("cpu", "isa", "pins", "python", "gpu")  # of an environment, beside the packages
Lock = dict[str, Any]  # stage -> its entry in dvc.lock


def changed_code(study: Path, lock: Lock) -> dict[str, list[str]]:
    """Return {stage: dependencies in Git that are not as `dvc.lock` says}: changed without running the stage again.

    Ask before anything is run: the dependencies that lie in the folder then are those that Git has.
    """
    found = {}
    for stage, entry in lock.items():
        deps = [dep for dep in entry.get("deps", []) if (study / dep["path"]).exists()]
        behind = [dep["path"] for dep in deps if dvc_hash(study / dep["path"]) != dep["md5"]]
        if behind:
            found[stage] = behind
    return found


def environment_changes(study: Path, stage: str) -> list[str]:
    """Return how the environment in which `stage` just ran is not the one that metrics/provenance.json names for it."""
    before: dict[str, Any] = next(
        (each for each in _json(study / "metrics/provenance.json").get("environments", []) if stage in each["stages"]),
        {},
    )
    after = _json(study / f"logs/{stage}.json")
    return settings_changes(study, stage) + [
        f"{key}: {_short(before[key])} -> {_short(after[key])}"
        for key in COMPARED
        if key in before and key in after and before[key] != after[key]
    ]


def settings_changes(study: Path, stage: str) -> list[str]:
    """Return which of device, precision and threads `stage` had otherwise when provenance.json was written."""
    recorded = _json(study / "metrics/provenance.json")
    before = recorded.get("settings", {}) if stage in recorded.get("outputs", {}) else {}
    lock = yaml.safe_load((study / "dvc.lock").read_text(encoding="utf-8")) if before else {"stages": {}}
    now = lock["stages"].get(stage, {}).get("params", {}).get("params.yaml", {})
    return [f"{key}: {before[key]} -> {now[key]}" for key in before if key in now and now[key] != before[key]]


def cause(stage: str, changed: dict[str, list[str]], versions: dict[str, str], environment: list[str]) -> str:
    """Return the likeliest cause of the first stage whose outputs differ, as one line."""
    if stage in changed:
        return f"its code was changed without running it again: {', '.join(changed[stage])}"
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


def _json(path: Path) -> dict[str, Any]:
    return dict(json.loads(path.read_text(encoding="utf-8"))) if path.is_file() else {}
