"""`brainmri show`: the scores and the confusion matrix of the study in whose folder you stand."""

from __future__ import annotations

import argparse
import json
from pathlib import Path
from typing import Any

import pandas as pd

from stages import params
from stages.evaluate.schema import Params
from stages.evaluate.summary import summary
from stages.evaluate.tables import counts
from stages.files import InputError

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
    text = METRICS.read_text(encoding="utf-8")
    if args.json:
        print(text, end="")
        return 0
    confused = pd.read_csv(CONFUSION, dtype=str, keep_default_na=False)
    print(summary(json.loads(text), counts(confused, params.load(Params).classes)))
    return 0
