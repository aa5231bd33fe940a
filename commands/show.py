"""`brainmri show`: the scores and the confusion matrix of the study in whose folder you stand."""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from commands import behind, locked, reading, record
from stages import params
from stages.evaluate.schema import Params
from stages.evaluate.summary import summary
from stages.evaluate.tables import counts
from stages.files import read_figures
from stages.shell.errors import InputError

SCORES, CONFUSION = Path("metrics/scores.csv"), Path("plots/confusion.csv")


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser("show", help="print accuracy and the confusion matrix", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print all scores, as JSON")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what the evaluate stage found."""
    for path in (SCORES, CONFUSION):
        if not path.is_file():
            raise InputError(
                f"{path} not found in {Path.cwd().name}/: stand in a study's folder and run `dvc repro` first"
            )
    metrics = read_figures(SCORES)
    if args.json:
        print(json.dumps(metrics, indent=2))
        return 0
    classes = params.load(Params).classes
    try:
        table = counts(pd.read_csv(CONFUSION, dtype=str, keep_default_na=False), classes)
        text = summary(metrics, table)
        if table.to_numpy().sum() != metrics["all"]["n"]:
            raise ValueError
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(
            f"{SCORES} and {CONFUSION} are not of one run of this code, or damaged: run `dvc repro`, "
            "or take both from Git"
        ) from None
    print(text)
    if record.LOCK.is_file():
        print(_standing(Path.cwd()))
        for line in _adopted():
            print(line)
    return 0


def _standing(study: Path) -> str:
    """Return the line that says which commit made these figures, and whether code or settings went on since."""
    commit, changed = behind.made_by(study), behind.changed(study)
    made = f"\nmade by commit {commit}" if commit else "\nmade by a run that is not in Git's history here"
    if not changed:
        return f"{made}, with the code and settings that lie here"
    more = f" and {len(changed) - 3} more" if len(changed) > 3 else ""
    again = f"`brainmri replay {commit}` re-makes them; " if commit else ""
    return f"{made}; changed since: {', '.join(changed[:3])}{more}: {again}`dvc repro` brings them up to date"


def _adopted() -> Iterator[str]:
    """Yield a line for each stage whose outputs were not made again by this code, but shown to be the same by it."""
    lock = locked.stages(Path(), str(record.LOCK))
    for stage, entry in record.adopted(reading.read_json_if_there(record.PROVENANCE), lock).items():
        stretches = ", ".join(f"{begin} to {end}" for begin, end in entry["stretches"])
        equal = f"steps {stretches}" if stretches else "what other folds trained again of theirs"
        commit = entry["from"][: behind.DIGITS]
        yield f"{stage}: adopted, not run again, from commit {commit}; equal with this code: {equal}"
