"""`brainmri replay --spot K`: hold a commit's trails against their files, and train K stretches of them again.

One network has one trail; the networks of a cross-validation have one each, and stretches are drawn over all of them.
"""

from __future__ import annotations

import argparse
import json
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from commands import cause, locked, stored
from commands.clone import end, lock_of, nobodys_settings, status, study_in
from commands.retrain import Rows, differing, files, read_trail
from commands.stretches import chains, chance_missed, draw
from stages.shell.errors import InputError
from stages.shell.provenance import dvc_hash
from stages.train import trail

CHILD = Path(__file__).with_name("retrain.py")


def add_arguments(parser: argparse.ArgumentParser, default: int | None) -> None:
    """Register --spot and --seed."""
    parser.add_argument("--spot", type=_positive, default=default, metavar="K", help="stretches of training, at random")
    parser.add_argument("--seed", type=int, metavar="N", help="of the draw (default: one that nobody knows before)")


def replayed(root: Path, clone: Path, name: str, count: int, seed: int | None, console: Any) -> dict[str, Any]:
    """Check the trails of a commit, given its clone; return what is to be said of them."""
    study = study_in(clone, name)
    lock = lock_of(study)
    trained = trainings(lock)
    found = cause.changed_code(status(study))
    changed = changes({stage: [*found.get(stage, []), *_other_outputs(lock, stage)] for stage in trained})
    result: dict[str, Any] = {"changed_code": changed, "faults": [], "stretches": []}
    if not changed:
        stored.place(root, name, needed(lock, trained), clone)
        result["changed_code"] = changed = changes({stage: other_inputs(study, lock, stage) for stage in trained})
    if not changed:
        result |= checked(clone, name, list(trained.values()), count, seed, console)
    return result | {"same": not changed and holds(result)}


def trainings(lock: locked.Lock) -> dict[str, str]:
    """Return {stage: its fold's folder} of those that trained a network; InputError where one wrote no trail."""
    found, made = locked.trainings(lock), locked.outputs(lock)
    if not found or not {str(path) for fold in found.values() for path in files(fold)} <= made.keys():
        raise InputError(
            "the commit's training wrote no trail, or its dvc.lock has no training of its dvc.yaml: nothing less than "
            "a whole replay can check it (of the commit that `brainmri show` names, where the study is behind)"
        )
    return found


def needed(lock: locked.Lock, trained: dict[str, str]) -> list[dict[str, Any]]:
    """Return the outputs that Git does not have of those that the trainings were given, and of those that they made."""
    made = locked.outputs(lock)
    found = [out for stage in trained for dep in locked.given(lock, stage) for out in locked.holding(lock, dep["path"])]
    found += [made[str(path)] for fold in trained.values() for path in (files(fold).weights, files(fold).stored)]
    return list({out["path"]: out for out in found}.values())


def _other_outputs(lock: locked.Lock, stage: str) -> list[str]:
    """Return what a training was given that is a whole output, and is another one in the lock file now."""
    made = locked.outputs(lock)
    given = [dep for dep in locked.given(lock, stage) if dep["path"] in made]
    return [f"{dep['path']} is another now" for dep in given if dep["md5"] != made[dep["path"]]["md5"]]


def other_inputs(study: Path, lock: locked.Lock, stage: str) -> list[str]:
    """Return what a training was given, a fold's part of an output say, that is not what lies in the study's folder."""
    given = locked.given(lock, stage)
    return [f"{dep['path']} is another now" for dep in given if dvc_hash(study / dep["path"]) != dep["md5"]]


def changes(found: dict[str, list[str]]) -> list[str]:
    """Return what was changed, each once, and of which trainings, where it was not of all.

    Examples
    --------
    >>> changes({"train@0": ["lr", "a"], "train@1": ["lr"]})
    ['lr', 'a (train@0)']
    """
    whats = dict.fromkeys(what for each in found.values() for what in each)
    of = {what: [stage for stage, each in found.items() if what in each] for what in whats}
    return [what if len(stages) == len(found) else f"{what} ({', '.join(stages)})" for what, stages in of.items()]


def checked(clone: Path, name: str, folds: list[str], count: int, seed: int | None, console: Any) -> dict[str, Any]:
    """Hold the trails of folds against their files, which lie in the clone, and train `count` stretches again in all.

    `folds` has their folders. What is found names the fold where there are several.
    """
    study, seed = clone / name, secrets.randbelow(2**31) if seed is None else seed
    steps = {fold: sorted(read_trail(study / files(fold).trail)) for fold in folds}
    starts = {fold: _starts(study / files(fold).stored) for fold in folds}
    behind = [
        (fold, start, ends)
        for fold in folds
        for start, ends in zip(starts[fold], chains(steps[fold], starts[fold]), strict=True)
    ]
    drawn = draw([len(ends) for *_, ends in behind], count, seed)
    asked: dict[str, dict[int, list[int]]] = {fold: {} for fold in folds}
    for (fold, start, ends), some in zip(behind, drawn, strict=True):
        asked[fold] |= {start: ends[:some]} if some else {}
    found = [_told(each, console) for each in _run(clone, study, asked)]
    of_one = {locked.fold(fold): starts[fold] for fold in folds}
    return {
        "faults": [each["fault"] for each in found if "fault" in each],
        "stretches": [each for each in found if "differs" in each],
        "seed": seed,
        "drawn": sum(drawn),
        "all_stretches": sum(len(each) - 1 for each in steps.values()),
        "all_steps": sum(each[-1] for each in steps.values()),
        "starts": of_one.get("", of_one),
        "chance_missed": chance_missed(len(behind), 1, sum(drawn)),
    }


def _starts(folder: Path) -> list[int]:
    return [0, *sorted(int(path.stem) for path in folder.glob("*.safetensors") if path.stem.isdecimal())]


def _told(found: dict[str, Any], console: Any) -> dict[str, Any]:
    """Print a stretch, and return it with its fold's name; without, where one network was trained alone."""
    if "differs" not in found:
        return found
    fold = locked.fold(found.pop("fold"))
    found |= {"fold": fold} if fold else {}
    verdict = "DIFFERS" if found["differs"] else "same"
    console.write(f"{_of(found)}step {found['begin']} to {found['end']}: {verdict}\n")
    console.flush()
    return found


def _of(found: dict[str, Any]) -> str:
    return f"fold {found['fold']}, " if "fold" in found else ""


def holds(result: dict[str, Any]) -> bool:
    """Whether all that was checked is as the trail has it."""
    return not result["faults"] and not any(stretch["differs"] for stretch in result["stretches"])


def trail_of(study: Path, fold: str = "") -> Rows:
    """Return the rows of a fold's trail in a study's folder; none where it has no trail, or a damaged one."""
    try:
        return read_trail(study / files(fold).trail)
    except InputError:
        return {}


def parting(one: Rows, other: Rows) -> dict[str, Any] | None:
    """Return the first step whose rows differ in two trails that both have rows, and in which columns."""
    for step in sorted({*one, *other}) if one and other else []:
        if found := differing(one.get(step, {}), other.get(step, {}), trail.COLUMNS):
            return {"step": step, "differs": found}
    return None


def first_differing(result: dict[str, Any]) -> dict[str, Any] | None:
    """Return the stretch whose difference comes first in its run, of the first fold that has one."""
    found = [stretch for stretch in result["stretches"] if stretch["differs"]]
    return min(found, key=lambda stretch: (int(stretch.get("fold", 0)), int(stretch["end"])), default=None)


def said(result: dict[str, Any]) -> list[str]:
    """Return the lines that a person reads."""
    lines = [f"changed without running train again: {what}" for what in result["changed_code"]] + result["faults"]
    if result["changed_code"] or result["faults"]:
        return lines
    steps = sum(stretch["end"] - stretch["begin"] for stretch in result["stretches"])
    lines.append(
        f"trained again: {len(result['stretches'])} of {result['all_stretches']} stretches, {steps} of "
        f"{result['all_steps']} steps, behind starting points {_behind(result['starts'])}; "
        f"--seed {result['seed']}"
    )
    lines.append(f"made-up rows behind any one starting point go unseen with chance {result['chance_missed']:.3g}")
    if first := first_differing(result):
        lines.append(f"the first differing step: {_of(first)}{first['end']} ({', '.join(first['differs'])})")
    return lines


def _behind(starts: list[int] | dict[str, list[int]]) -> str:
    if isinstance(starts, dict):
        return "; ".join(f"fold {fold}: {_behind(each)}" for fold, each in starts.items())
    return ", ".join(map(str, starts))


def exit_status(result: dict[str, Any]) -> int:
    """Return 0 for the same, 1 for other bits, as another CPU may give them, and 2 for what no hardware explains."""
    return 2 if result["changed_code"] or result["faults"] else int(not result["same"])


def _run(clone: Path, study: Path, chosen: dict[str, dict[int, list[int]]]) -> Iterator[dict[str, Any]]:
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
