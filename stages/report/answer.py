"""What the page opens with: one line that answers the question, and the confusion matrix of the same images."""

from __future__ import annotations

from html import escape
from typing import Any

import pandas as pd

from stages.evaluate.absent import absent, without
from stages.evaluate.titles import sources, stand_ins
from stages.prepare.schema import Split
from stages.report import page

PROTOCOLS = {
    "published": "Trained on the training set as it was given, with all that the test set has a copy of.",
    "leak_free": "Trained on the training set as it was given, without what the test set has a copy of.",
    "by_patient": "All images were divided anew into {parts} parts, no patient in two of them.",
}


def answer(metrics: dict[str, Any], predictions: pd.DataFrame, classes: list[str], split: Split) -> str:
    """Return the opening: accuracy and whose it is, beside how many images of each class were called what.

    Parameters
    ----------
    metrics
        Scores by group: all, clean, leaked; where patients are known also patients; of several folds also folds.
    predictions
        One row a test image: label, predicted, leaked ("none" of a clean image).
    classes
        Rows and columns of the matrix, in this order.
    split
        By which protocol, and how many networks.
    """
    group = told_of(metrics)
    rows = predictions[predictions["leaked"] == "none"] if group == "clean" else predictions
    said = [
        f'<p class="line">{line(metrics, classes)}</p>',
        page.paragraph(protocol(metrics, split)),
        *[page.paragraph(text) for text in by_patient(metrics)],
        page.paragraph(
            f"The question: one slice of a head, from an MRI scanner: which of {', '.join(classes)} does it show? "
            "A study of method, not a medical device: nothing here may be used to treat anyone.",
            soft=True,
        ),
    ]
    text = "\n".join(said)
    return f'<section class="answer">\n<div>\n{text}\n</div>\n{matrix(counts(rows, classes))}\n</section>'


def told_of(metrics: dict[str, Any]) -> str:
    """Return the group that the page tells of first: test images without a copy in training, if there are any."""
    return "clean" if metrics["clean"]["n"] else "all"


def line(metrics: dict[str, Any], classes: list[str]) -> str:
    """Return accuracy with its interval, and on whom, as HTML."""
    group = told_of(metrics)
    found = metrics[group]
    whom = {
        "clean": "test images without a copy in training" if metrics["leaked"]["n"] else "test images, no copies,",
        "all": "test images, all of them copies of training images,",
    }
    ends = [_interval(found, "95 % interval")]
    if "patients" in metrics and "by_patient" in found:
        ends.append(_interval(found["by_patient"], "by patient"))
    brackets = escape("; ".join(filter(None, [*ends, without(absent(found, classes))])))
    right = f"<strong>{found['accuracy']:.2%}</strong> of {found['n']:,} {whom[group]}"
    return f"{right} were classified correctly ({brackets})."


def protocol(metrics: dict[str, Any], split: Split) -> str:
    """Return by which protocol, and over which networks."""
    said = [PROTOCOLS[split.protocol].format(parts=split.parts)]
    if len(split.folds) > 1:
        said.append(
            f"Pooled over {len(split.folds)} networks, each asked about the part of the images that it never saw"
            f"{_spread(metrics)}."
        )
    elif split.protocol == "by_patient":
        said.append("Trained on all but one, tested on that.")
    return " ".join(said)


def by_patient(metrics: dict[str, Any]) -> list[str]:
    """Return what is said of whole patients, if any is known."""
    if "patients" not in metrics:
        return []
    found = metrics["patients"]
    return [
        f"All slices of a patient together: {found['accuracy']:.2%} of {found['n']:,} patients "
        f"({_interval(found, '95 % interval')}). {stand_ins(found)}{sources(metrics)}"
    ]


def counts(rows: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Return how many images of each class (index) were called what (columns)."""
    return pd.crosstab(rows["label"], rows["predicted"]).reindex(index=classes, columns=classes, fill_value=0)


def matrix(found: pd.DataFrame) -> str:
    """Return counts [class, class] as a table whose cells are as dark as their share of the row."""
    head = "".join(f'<th scope="col"><span>{escape(str(name))}</span></th>' for name in found.columns)
    body = "\n".join(
        f'<tr><th scope="row">{escape(str(name))}</th>{"".join(_cells(row.tolist(), place))}</tr>'
        for place, (name, row) in enumerate(found.iterrows())
    )
    n = int(found.to_numpy().sum())
    caption = f"Confusion matrix of these {n:,} images: a row what it is, a column what it was called"
    return page.scrolled(
        caption,
        f"<table class=matrix><caption>{caption}</caption>\n<thead><tr><td></td>{head}</tr></thead>\n"
        f"<tbody>\n{body}\n</tbody></table>",
    )


def _cells(row: list[int], place: int) -> list[str]:
    whole = max(1, sum(row))
    return [
        f'<td style="--share:{round(100 * n / whole)}"{" class=right" if column == place else ""}>{n:,}'
        + (f"<small>{n / whole:.1%}</small>" if n else "")
        + "</td>"
        for column, n in enumerate(row)
    ]


def _interval(found: dict[str, Any], name: str) -> str:
    return f"{name} {found['accuracy_low']:.1%} to {found['accuracy_high']:.1%}" if "accuracy_low" in found else ""


def _spread(metrics: dict[str, Any]) -> str:
    found = metrics.get("folds", {}).get("accuracy", {})
    return f"; by network {found['mean']:.2%} ± {found['std']:.2%}" if "std" in found else ""
