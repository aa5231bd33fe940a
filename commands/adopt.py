"""`brainmri adopt`: bring dvc.lock up to date without training, where only code or versions changed and no bit did.

In a clone, every stage but train runs again and K stretches of training do. Where every hash is as committed, dvc.lock
and metrics/provenance.json are written, which says what was adopted. Exit status: 0 if adopted, or nothing is behind; 1
if something differs; 2 if it cannot be adopted. With 1 and 2 nothing is written.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
from pathlib import Path
from typing import Any

from commands import cause, reading, record, spot, stored
from commands.clone import checkout, lock_of, needed, nobodys_settings, repro, status, study_in
from commands.ending import unwind_when_ended
from commands.outputs import compare
from commands.repository import commit, find_root, git, here
from commands.scratch import scratch
from stages.files import atomic_write, write_json
from stages.shell import provenance
from stages.shell.errors import InputError

TRAIN = "train"
OUTS = ("models/model.safetensors", "models/curves", "models/trail")  # of train, those that Git does not have


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
        if TRAIN not in changed:
            print("nothing to adopt: training is not behind; `dvc repro` runs whatever else is")
            return 0
        try:
            proof = proven(root, clone, name, args.spot, args.seed)
        except Differs as differs:
            print(f"{differs}\nnot adopted, nothing was changed: `dvc repro` trains again")
            return 1
        if _clean_head(root, name) != head:
            raise InputError("a commit was made meanwhile: run it again")
        write(root, clone, name, {"changed": changed[TRAIN]} | proof)
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
    outs = spot.outputs(lock)
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


def proven(root: Path, clone: Path, name: str, count: int, seed: int | None) -> dict[str, Any]:
    """Run all that is cheap and stretches of training, and leave the clone's dvc.lock up to date; what proves it.

    Raises
    ------
    Differs
        Where a hash is not as committed.
    """
    study = clone / name
    if versions := provenance.other_versions(clone / "requirements.lock"):
        raise InputError(f"{next(iter(versions))} is not as in requirements.lock: install what that names (`make env`)")
    lock = lock_of(study)
    first = [stage for stage in needed(lock, [TRAIN]) if stage != TRAIN]
    _same(study, lock, first, alone=False)
    stored.place(root, name, [out for out in lock[TRAIN]["outs"] if out["path"] in OUTS], clone)
    result = spot.checked(clone, name, count, seed, sys.stdout)
    if not spot.holds(result):
        raise Differs("\n".join(spot.said(result | {"changed_code": []})))
    _commit(study, TRAIN)
    _same(study, lock, [stage for stage in lock if stage not in (*first, TRAIN)], alone=True)
    return {
        "stretches": [[stretch["begin"], stretch["end"]] for stretch in result["stretches"]],
        "seed": result["seed"],
        "cpu": provenance.cpu(),
    }


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


def write(root: Path, clone: Path, name: str, proof: dict[str, Any]) -> None:
    """Write provenance first: where the lock file is not written any more, it counts for nothing (`record.adopted`)."""
    lock = (clone / name / "dvc.lock").read_bytes()
    entry = reading.stages(lock, "dvc.lock")[TRAIN]
    weights = next(out["md5"] for out in entry["outs"] if out["path"] == OUTS[0])
    made = git(root, "log", "-1", "--format=%H", f"-S{weights}", "--", f"{name}/dvc.lock")
    adopted = {TRAIN: {"from": made, "code": record.code(entry, reading.stages(lock, "dvc.lock"))} | proof}
    path = root / name / record.PROVENANCE
    write_json(path, reading.read_json_if_there(path) | {"adopted": adopted})
    atomic_write(root / name / record.LOCK, lock)


def _clean_head(root: Path, name: str) -> str:
    """Return the commit that is checked out; InputError where the folder differs from it.

    But for provenance.json, which an adoption that was killed may have left.
    """
    ours = (Path(name) / record.PROVENANCE).as_posix()
    lines = [line for line in git(root, "status", "--porcelain").splitlines() if line[3:] != ours]
    if lines:
        raise InputError(f"git status is not clean ({lines[0].strip()}): commit first, adopt then")
    return commit(root, "HEAD")
