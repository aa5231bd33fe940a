"""What the console says: the scores that matter most, and the confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from stages.evaluate.absent import absent, counted, without
from stages.evaluate.scores import GROUPS
from stages.evaluate.titles import GROUPS as TITLES
from stages.evaluate.titles import sources, stand_ins

HEAD = ["test images", "n", "accuracy", "95 % interval", "macro F1", "macro AUC"]


def summary(metrics: dict[str, Any], counts: pd.DataFrame) -> str:
    """Return accuracy, sensitivities and the confusion matrix as text.

    Parameters
    ----------
    metrics
        What metrics/scores.csv holds.
    counts
        Test images by class (index) and prediction (columns).
    """
    classes = [str(name) for name in counts.columns]
    groups = [*GROUPS, *(name for name in TITLES if metrics.get(name, {}).get("n"))]
    by_patient = ["by patient"] if "patients" in metrics else []
    head, *lines = aligned([*HEAD, *by_patient], [_line(metrics, group) for group in groups])
    notes = [without(absent(metrics[group], classes)) for group in groups]
    return "\n".join(
        [
            head,
            *(f"{line}  {note}".rstrip() for line, note in zip(lines, notes, strict=True)),
            *_patients(metrics, classes),
            "",
            "confusion matrix, all test images (rows: actual, columns: predicted)",
            *aligned(["", *classes, "sensitivity"], [_row(metrics, name, counts) for name in classes]),
        ]
    )


def aligned(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Return lines of a table: the first column to the left, all others to the right.

    Examples
    --------
    >>> aligned(["class", "n"], [["glioma", "12"]])
    ['class    n', 'glioma  12']
    """
    widths = [max(map(len, column)) for column in zip(head, *rows, strict=True)]
    lines = []
    for row in (head, *rows):
        cells = [row[0].ljust(widths[0]), *(cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True))]
        lines.append("  ".join(cells).rstrip())
    return lines


def _patients(metrics: dict[str, Any], classes: list[str]) -> list[str]:
    if "patients" not in metrics:
        return []
    found = metrics["patients"]
    return [
        "",
        f"all slices of a patient together: {found['accuracy']:.2%} ({_interval(found)}, {counted(found, classes)}); "
        f"the same {found['images']:,} images one by one: {found['images_accuracy']:.2%}",
        f"intervals by patient draw patients, not images. {stand_ins(found)}{sources(metrics)}",
    ]


def _line(metrics: dict[str, Any], group: str) -> list[str]:
    found = metrics[group]
    scores = (_share(found.get("accuracy")), _interval(found), _share(found.get("f1")), _figure(found.get("auc")))
    by_patient = [_interval(found.get("by_patient", {}))] if "patients" in metrics else []
    return [TITLES.get(group, group), f"{found['n']:,}", *scores, *by_patient]


def _interval(found: dict[str, Any]) -> str:
    return f"{found['accuracy_low']:.2%} to {found['accuracy_high']:.2%}" if "accuracy_low" in found else "-"


def _row(metrics: dict[str, Any], name: str, counts: pd.DataFrame) -> list[str]:
    return [name, *(f"{n:,}" for n in counts.loc[name]), _share(metrics["all"].get("sensitivity", {}).get(name))]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _figure(value: float | None) -> str:
    return "-" if value is None else f"{value:.4f}"
