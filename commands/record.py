"""`brainmri record`: write metrics/provenance.json: on which machine, and with which packages, the outputs were made.

It is made of the stages' logs, names a machine only for outputs that a log here speaks of (what came from DVC's cache
is nobody's new work), and stays as it is where the same bits came out again.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from commands import locked, reading
from stages.files import write_json
from stages.shell.errors import InputError

LOCK, PROVENANCE = Path("dvc.lock"), Path("metrics/provenance.json")
Hashes = dict[str, dict[str, str]]  # stage -> output -> hash


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "record", help="write metrics/provenance.json from the logs of the stages", description=__doc__
    )
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write the file for the study in whose folder one stands."""
    if not LOCK.is_file():
        raise InputError(f"no {LOCK} in {Path.cwd().name}/: stand in a study's folder and run `dvc repro` first")
    lock = locked.stages(Path(), str(LOCK))
    known = reading.read_json_if_there(PROVENANCE)
    outputs = {stage: {out["path"]: out["md5"] for out in entry.get("outs", [])} for stage, entry in lock.items()}
    described = {stage for entry in known.get("environments", []) for stage in entry["stages"]}
    still = adopted(known, lock)
    if known.get("outputs") == outputs and described == set(outputs) and known.get("adopted", {}) == still:
        return 0
    # `dvc repro fetch` alone, or a run that failed half-way, leaves a lock without this stage
    trained = next(iter(locked.trainings(lock)), "")
    settings = lock.get(trained, {}).get("params", {}).get("params.yaml", {})
    write_json(
        PROVENANCE,
        {
            "outputs": outputs,
            "environments": environments(outputs, known, logs(outputs)),
            "settings": {key: settings[key] for key in ("device", "precision", "threads") if key in settings},
        }
        | ({"adopted": still} if still else {}),
    )
    return 0


def adopted(known: dict[str, Any], lock: dict[str, Any]) -> dict[str, Any]:
    """Return what `known`, the file so far, says was adopted, of the stages that `dvc.lock` has with just that code.

    So it counts for nothing once a stage was run with other code, or where an adoption was killed before its end.
    """
    entries = known.get("adopted", {})
    return {stage: entry for stage, entry in entries.items() if entry.get("code") == code(lock.get(stage, {}), lock)}


def code(entry: dict[str, Any], lock: dict[str, Any]) -> dict[str, str]:
    """Return {path: hash} of what a stage depends on that no stage makes."""
    return {dep["path"]: dep["md5"] for dep in entry.get("deps", []) if not locked.makers(lock, dep["path"])}


def logs(outputs: Hashes) -> dict[str, dict[str, Any]]:
    """Return the environment of each stage whose log speaks of just the outputs that `dvc.lock` has."""
    found = {}
    for stage, hashes in outputs.items():
        log = reading.read_json_if_there(Path(f"logs/{stage}.json"))
        if log.pop("outputs", None) == hashes:
            log.pop("seconds", None)
            found[stage] = log
    return found


def environments(outputs: Hashes, known: dict[str, Any], logged: dict[str, dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the environments, each with the stages that it made.

    What `known`, the file so far, says of a stage is kept where its outputs are still those.
    """
    made = dict(logged)
    for entry in known.get("environments", []):
        kept = {key: value for key, value in entry.items() if key != "stages"}
        made |= {s: kept for s in entry["stages"] if known.get("outputs", {}).get(s) == outputs.get(s)}
    found: list[dict[str, Any]] = []
    for stage in outputs:
        if stage not in made:
            continue
        entry = next((each for each in found if made[stage] == {k: v for k, v in each.items() if k != "stages"}), None)
        if entry is None:
            found.append(entry := made[stage] | {"stages": []})
        entry["stages"].append(stage)
    return found
