"""`brainmri replay --spot K`: hold a commit's trail against its files, and train K stretches of it again."""

from __future__ import annotations

import argparse
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from commands import cause, stored
from commands.clone import end, lock_of, nobodys_settings, status, study_in
from commands.retrain import STORED, TRAIL, WEIGHTS, Rows, differing, read_trail
from commands.stretches import chains, chance_missed, draw
from stages.shell.errors import InputError
from stages.train import trail

CHILD = Path(__file__).with_name("retrain.py")


def add_arguments(parser: argparse.ArgumentParser, default: int | None) -> None:
    """Register --spot and --seed."""
    parser.add_argument("--spot", type=_positive, default=default, metavar="K", help="stretches of training, at random")
    parser.add_argument("--seed", type=int, metavar="N", help="of the draw (default: one that nobody knows before)")


def replayed(root: Path, clone: Path, name: str, count: int, seed: int | None, console: Any) -> dict[str, Any]:
    """Check the trail of a commit, given its clone; return what is to be said of it."""
    study = study_in(clone, name)
    lock = lock_of(study)
    made = outputs(lock)
    changed = cause.changed_code(status(study)).get("train", [])
    needed = [dep for dep in lock["train"]["deps"] if dep["path"] in made]
    changed += [f"{dep['path']} is another now" for dep in needed if dep["md5"] != made[dep["path"]]["md5"]]
    result: dict[str, Any] = {"changed_code": changed, "faults": [], "stretches": []}
    if not changed:
        stored.place(root, name, [*needed, made[str(WEIGHTS)], made[str(STORED)]], clone)
        result |= checked(clone, name, count, seed, console)
    return result | {"same": not changed and holds(result)}


def outputs(lock: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return {path: entry} of all outputs that a dvc.lock names; InputError where it names no trail."""
    found = {out["path"]: out for entry in lock.values() for out in entry.get("outs", [])}
    if not {str(TRAIL), str(STORED), str(WEIGHTS)} <= set(found):
        raise InputError("the commit's training wrote no trail: nothing less than a whole replay can check it")
    return found


def checked(clone: Path, name: str, count: int, seed: int | None, console: Any) -> dict[str, Any]:
    """Hold the trail against its files, which lie in the clone, and train `count` stretches again."""
    study, seed = clone / name, secrets.randbelow(2**31) if seed is None else seed
    steps = sorted(read_trail(study / TRAIL))
    starts = [0, *sorted(int(path.stem) for path in (study / STORED).glob("*.safetensors") if path.stem.isdecimal())]
    behind = chains(steps, starts)
    drawn = draw([len(ends) for ends in behind], count, seed)
    chosen = {start: ends[:some] for start, ends, some in zip(starts, behind, drawn, strict=True) if some}
    found = []
    for each in _run(clone, study, chosen):
        found.append(each)
        if "differs" in each:
            console.write(f"step {each['begin']} to {each['end']}: {'DIFFERS' if each['differs'] else 'same'}\n")
            console.flush()
    return {
        "faults": [each["fault"] for each in found if "fault" in each],
        "stretches": [each for each in found if "differs" in each],
        "seed": seed,
        "drawn": sum(drawn),
        "all_stretches": len(steps) - 1,
        "all_steps": steps[-1],
        "starts": starts,
        "chance_missed": chance_missed(len(starts), 1, sum(drawn)),
    }


def holds(result: dict[str, Any]) -> bool:
    """Whether all that was checked is as the trail has it."""
    return not result["faults"] and not any(stretch["differs"] for stretch in result["stretches"])


def trail_of(study: Path) -> Rows:
    """Return the trail's rows in a study's folder; none where it has no trail, or a damaged one."""
    try:
        return read_trail(study / TRAIL)
    except InputError:
        return {}


def parting(one: Rows, other: Rows) -> dict[str, Any] | None:
    """Return the first step whose rows differ in two trails that both have rows, and in which columns."""
    for step in sorted({*one, *other}) if one and other else []:
        if found := differing(one.get(step, {}), other.get(step, {}), trail.COLUMNS):
            return {"step": step, "differs": found}
    return None


def first_differing(result: dict[str, Any]) -> dict[str, Any] | None:
    """Return the stretch whose difference comes first in the run."""
    found = [stretch for stretch in result["stretches"] if stretch["differs"]]
    return min(found, key=lambda stretch: int(stretch["end"]), default=None)


def said(result: dict[str, Any]) -> list[str]:
    """Return the lines that a person reads."""
    lines = [f"changed without running train again: {what}" for what in result["changed_code"]] + result["faults"]
    if result["changed_code"] or result["faults"]:
        return lines
    steps = sum(stretch["end"] - stretch["begin"] for stretch in result["stretches"])
    lines.append(
        f"trained again: {len(result['stretches'])} of {result['all_stretches']} stretches, {steps} of "
        f"{result['all_steps']} steps, behind starting points {', '.join(map(str, result['starts']))}; "
        f"--seed {result['seed']}"
    )
    lines.append(f"made-up rows behind any one starting point go unseen with chance {result['chance_missed']:.3g}")
    if first := first_differing(result):
        lines.append(f"the first differing step: {first['end']} ({', '.join(first['differs'])})")
    return lines


def exit_status(result: dict[str, Any]) -> int:
    """Return 0 for the same, 1 for other bits, as another CPU may give them, and 2 for what no hardware explains."""
    return 2 if result["changed_code"] or result["faults"] else int(not result["same"])


def _run(clone: Path, study: Path, chosen: dict[int, list[int]]) -> Iterator[dict[str, Any]]:
    """Yield what `retrain` finds, run in the study's folder of the clone on the clone's stages."""
    command = [sys.executable, "-P", str(CHILD), json.dumps(chosen)]
    with nobodys_settings() as environment:
        process = subprocess.Popen(
            command,
            cwd=study,
            env=environment | {"PYTHONPATH": str(clone.resolve())},
            text=True,
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None
        try:
            for found in map(json.loads, process.stdout):
                if "error" in found:
                    raise InputError(found["error"])
                yield found
            if process.wait():
                raise InputError("the trainer failed, as it says above: the trail is not checked")
        finally:
            end(process)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number of stretches, at least 1")
    return int(text)
