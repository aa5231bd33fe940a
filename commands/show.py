"""`brainmri show`: the scores and the confusion matrix of the study in whose folder you stand."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

import pandas as pd

from commands import reading
from stages import params
from stages.evaluate.schema import Params
from stages.evaluate.summary import summary
from stages.evaluate.tables import counts
from stages.shell.errors import InputError

METRICS, CONFUSION = Path("metrics/test.json"), Path("plots/confusion.csv")


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser("show", help="print accuracy and the confusion matrix", description=__doc__)
    parser.add_argument("--json", action="store_true", help="print metrics/test.json as it is")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print what the evaluate stage found."""
    for path in (METRICS, CONFUSION):
        if not path.is_file():
            raise InputError(
                f"{path} not found in {Path.cwd().name}/: stand in a study's folder and run `dvc repro` first"
            )
    metrics = reading.read_json(METRICS)
    if args.json:
        print(METRICS.read_text(encoding="utf-8"), end="")
        return 0
    classes = params.load(Params).classes
    try:
        table = counts(pd.read_csv(CONFUSION, dtype=str, keep_default_na=False), classes)
        text = summary(metrics, table)
        if table.to_numpy().sum() != metrics["all"]["n"]:
            raise ValueError
    except (AttributeError, KeyError, TypeError, ValueError):
        raise InputError(
            f"{METRICS} and {CONFUSION} are not of one run of this code, or damaged: run `dvc repro`, "
            "or take both from Git"
        ) from None
    print(text)
    return 0
