"""The page's sections on what the network was wrong and right about, as it saw them and where it looked."""

from __future__ import annotations

from html import escape
from typing import Any

import numpy as np
import pandas as pd

from stages.report import page

Looked = dict[str, tuple[np.ndarray, np.ndarray]]  # path -> image [S, S], overlay [H, W, 3]
ORDERS = {
    "most": "most confident first",
    "least": "least confident first",
    "actual": "true class",
    "predicted": "predicted class",
    "file": "file",
}


def clean_errors(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the clean test images that the network was wrong about, with its confidence, the most confident first."""
    wrong = _clean(predictions, right=False)
    return wrong.sort_values(["confidence", "path"], ascending=[False, True])


def clean_right(predictions: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return the first `count` clean test images of each class that the network was right about: not the best ones."""
    return _clean(predictions, right=True).sort_values("path").groupby("label", sort=True).head(count)


def _clean(predictions: pd.DataFrame, right: bool) -> pd.DataFrame:
    clean = predictions[predictions["leaked"] == "none"]
    chosen = clean[(clean["predicted"] == clean["label"]) == right]
    given = [name for name in chosen.columns if name.startswith("p_")]
    return chosen.assign(confidence=chosen[given].max(axis=1))


def errors(wrong: pd.DataFrame, classes: list[str], looked: Looked) -> str:
    """Return all mistakes on clean test images, to be chosen from; with pictures of those in `looked`."""
    if wrong.empty:
        return page.section("Errors", page.paragraph("No clean test image was wrong."))
    pictures = sum(path in looked for path in wrong["path"])
    shown = (
        f"The {pictures:,} most confident are shown as the network saw them and (right) with how much each place spoke "
        "for its answer: Grad-CAM by cell, on the deepest layer with 4 cells a side or more."
        if pictures
        else "None has a picture (report.errors in params.yaml)."
    )
    text = f"All {len(wrong):,} clean test images that the network was wrong about. {shown}"
    items = [_item(row, looked.get(row.path)) for row in wrong.itertuples()]
    named = [page.paragraph(text), _form(wrong, classes), page.cards(items, "errors")]
    return page.section("Errors", *named)


def _item(row: Any, pictures: tuple[np.ndarray, np.ndarray] | None) -> str:
    said = f"{row.label} taken for {row.predicted}, {row.confidence:.0%} sure"
    data = {"actual": row.label, "predicted": row.predicted, "confidence": f"{row.confidence:.6f}", "file": row.path}
    if pictures:
        return page.looked_card(*pictures, said, row.path, data)
    return page.card([], said, [row.path], data)


def _form(wrong: pd.DataFrame, classes: list[str]) -> str:
    """Return the controls; they are hidden until the page's script can serve them."""
    actual, predicted = (
        {"": "any"} | {name: name for name in classes if name in set(wrong[column])}
        for column in ("label", "predicted")
    )
    listed = "\n".join(
        [
            _select("true class", "actual", actual),
            _select("taken for", "predicted", predicted),
            _percent("at least, % sure", "low", 0),
            _percent("at most, % sure", "high", 100),
            _select("order", "order", ORDERS),
        ]
    )
    return f'<form id="choose" hidden autocomplete="off">\n{listed}\n<output></output>\n</form>'


def _select(label: str, name: str, options: dict[str, str]) -> str:
    listed = "".join(f'<option value="{escape(value)}">{escape(text)}</option>' for value, text in options.items())
    return f'<div><label for="{name}">{label}</label><select id="{name}" name="{name}">{listed}</select></div>'


def _percent(label: str, name: str, value: int) -> str:
    given = f'id="{name}" name="{name}" type="number" min="0" max="100" value="{value}"'
    return f'<div><label for="{name}">{label}</label><input {given}></div>'


def right(found: pd.DataFrame, looked: Looked) -> str:
    """Return clean test images that were classified correctly, and where the network looked."""
    items = [
        page.looked_card(*looked[row.path], f"{row.label}, {row.confidence:.0%} sure", row.path)
        for row in found.itertuples()
    ]
    text = "The first clean test images of each class, by name, that it was right about. A map is a hint, not a proof."
    return page.section("Correct answers", page.paragraph(text), page.cards(items))
