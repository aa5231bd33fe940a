"""`brainmri adopt`: bring dvc.lock up to date without training, where only code or versions changed and no bit did.

In a clone, every stage but train runs again and K stretches of training do, drawn over all folds. Where every hash is
as committed, dvc.lock and metrics/provenance.json are written, which says what was adopted. Exit status: 0 if adopted,
or nothing is behind; 1 if something differs; 2 if it cannot be adopted. With 1 and 2 nothing is written.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from commands import cause, locked, low_bits, reading, record, spot, stored
from commands.clone import checkout, lock_of, needed, nobodys_settings, repro, status, study_in
from commands.ending import unwind_when_ended
from commands.outputs import compare
from commands.repository import commit, find_root, git, here
from commands.scratch import scratch
from stages.files import atomic_write, write_json
from stages.shell import provenance
from stages.shell.errors import InputError


class Differs(Exception):
    """What is not as committed, as lines for people."""


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "adopt", help="bring dvc.lock up to date after a change that changes no bit", description=__doc__
    )
    spot.add_arguments(parser, 5)
    parser.set_defaults(run=run, failed=2)


def run(args: argparse.Namespace) -> int:
    """Adopt what HEAD has, for the study in whose folder one stands, and return the exit status."""
    unwind_when_ended()
    root = find_root()
    name = here(root)
    head = _clean_head(root, name)
    with scratch("adopt") as folder:
        clone = folder / "clone"
        checkout(root, head, clone)
        changed = behind(study_in(clone, name))
        if not any(stage in changed for stage in locked.trainings(lock_of(clone / name))):
            print("nothing to adopt: training is not behind; `dvc repro` runs whatever else is")
            return 0
        try:
            proof = proven(root, clone, name, args.spot, args.seed)
        except Differs as differs:
            print(f"{differs}\nnot adopted, nothing was changed: `dvc repro` trains again")
            return 1
        if _clean_head(root, name) != head:
            raise InputError("a commit was made meanwhile: run it again")
        write(root, clone, name, changed, proof)
    print("adopted: commit dvc.lock and metrics/provenance.json")
    return 0


def behind(study: Path) -> dict[str, list[str]]:
    """Return {stage: files of code and versions that changed}; InputError where anything else did.

    Raises
    ------
    InputError
        Where parameters, a command or an output in Git are not those of dvc.lock, or other packages are installed.
    """
    lock = lock_of(study)
    changed = cause.changed_code(status(study))
    outs = locked.outputs(lock)
    spot.trainings(lock)
    other = [
        f"{what} of {stage}"
        for stage, each in changed.items()
        for what in each
        if stage not in lock or what == "dvc.yaml: cmd" or what.startswith("params.yaml: ") or what in outs
    ]
    deps = [dep for entry in lock.values() for dep in entry.get("deps", [])]
    other += [f"{dep['path']} after it was used" for dep in deps if dep["md5"] != outs.get(dep["path"], dep)["md5"]]
    if other:
        raise InputError(f"changed: {other[0]}; only code and versions can be adopted: run `dvc repro`")
    return changed


def proven(root: Path, clone: Path, name: str, count: int, seed: int | None) -> dict[str, dict[str, Any]]:
    """Run all that is cheap and stretches of training, and leave the clone's dvc.lock up to date; what proves it.

    For each training: a fold of which no stretch was drawn stands on those of the others, whose code is the same.

    Raises
    ------
    Differs
        Where a hash is not as committed.
    """
    study = clone / name
    if versions := provenance.other_versions(clone / "requirements.lock"):
        raise InputError(f"{next(iter(versions))} is not as in requirements.lock: install what that names (`make env`)")
    lock = lock_of(study)
    trained = spot.trainings(lock)
    first = [stage for stage in needed(lock, list(trained)) if stage not in trained]
    _same(study, lock, first, alone=False)
    if differing := spot.changes({stage: spot.other_inputs(study, lock, stage) for stage in trained}):
        raise InputError(f"{differing[0]}: only code and versions can be adopted: run `dvc repro`")
    outs = [out for stage in trained for out in lock[stage]["outs"] if out["path"].startswith("models/")]
    stored.place(root, name, outs, clone)  # the trails lie in Git
    result = spot.checked(clone, name, list(trained.values()), count, seed, sys.stdout)
    if not spot.holds(result):
        raise Differs("\n".join(spot.said(result | {"changed_code": []})))
    for stage in trained:
        _commit(study, stage)
    _same(study, lock, [stage for stage in lock if stage not in (*first, *trained)], alone=True)
    shown = {stage: [each for each in result["stretches"] if _of(each, fold)] for stage, fold in trained.items()}
    return {
        stage: {
            "stretches": [[stretch["begin"], stretch["end"]] for stretch in each],
            "seed": result["seed"],
            "cpu": provenance.cpu(),
        }
        for stage, each in shown.items()
    }


def _of(stretch: dict[str, Any], fold: str) -> bool:
    return str(stretch.get("fold", "")) == locked.fold(fold)


def _same(study: Path, lock: dict[str, Any], stages: list[str], alone: bool) -> None:
    """Run stages of the clone and hold their outputs, and all others, against the lock file as committed."""
    if not stages:  # DVC would take none for all
        return
    ran = repro(study, stages, sys.stdout, alone)
    if ran.failed:
        raise InputError("a stage failed, as it says above: nothing was changed")
    outputs = compare(lock, lock_of(study))
    if differing := [f"{output.stage}: {output.path} DIFFERS" for output in outputs if not output.same]:
        raise Differs("\n".join(differing))


def _commit(study: Path, stage: str) -> None:
    """Have DVC take the outputs that lie there for those of the stage as it stands."""
    with nobodys_settings() as environment:
        command = [sys.executable, "-m", "dvc", "commit", "--force", "--quiet", stage]
        done = subprocess.run(command, cwd=study, env=environment, text=True, capture_output=True)
    if done.returncode:
        raise InputError(f"DVC cannot take the outputs of {stage}: {' '.join(done.stderr.split())}")


def write(root: Path, clone: Path, name: str, changed: dict[str, list[str]], proof: dict[str, dict[str, Any]]) -> None:
    """Write provenance first: where the lock file is not written any more, it counts for nothing (`record.adopted`)."""
    lock = lock_of(clone / name)
    adopted = {
        stage: {"from": _made_by(root, name, lock[stage]), "code": record.code(lock[stage], lock)}
        | {"changed": changed[stage]}
        | proof[stage]
        for stage in proof
        if stage in changed
    }
    path = root / name / record.PROVENANCE
    known = reading.read_json_if_there(path)
    write_json(path, known | {"adopted": record.adopted(known, lock) | adopted})
    atomic_write(root / name / record.LOCK, (clone / name / "dvc.lock").read_bytes())


def _made_by(root: Path, name: str, entry: dict[str, Any]) -> str:
    """Return the commit whose run made a training's weights."""
    weights = next(out["md5"] for out in entry["outs"] if low_bits.weights(out["path"]))
    return git(root, "log", "-1", "--format=%H", f"-S{weights}", "--", f"{name}/dvc.lock")


def _clean_head(root: Path, name: str) -> str:
    """Return the commit that is checked out; InputError where the folder differs from it.

    But for provenance.json, which an adoption that was killed may have left.
    """
    ours = (Path(name) / record.PROVENANCE).as_posix()
    lines = [line for line in git(root, "status", "--porcelain").splitlines() if line[3:] != ours]
    if lines:
        raise InputError(f"git status is not clean ({lines[0].strip()}): commit first, adopt then")
    return commit(root, "HEAD")
