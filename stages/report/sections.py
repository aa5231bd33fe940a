"""The page's sections, each from the tables it speaks of."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from stages.dialect import written
from stages.evaluate.absent import counted
from stages.evaluate.titles import BASELINES, OF_CLASS, SCORES
from stages.report import page
from stages.shell.errors import InputError

Read = Callable[[str], np.ndarray]  # path below data/raw -> uint8 [H, W]
Looked = dict[str, tuple[np.ndarray, np.ndarray]]  # path -> image [S, S], overlay [H, W, 3]


def question(classes: list[str]) -> str:
    """Return the section that says what is asked of the network."""
    return page.section(
        "The question",
        page.paragraph(f"One slice of a head, from an MRI scanner: which of {', '.join(classes)} does it show?"),
        page.paragraph("A study of method, not a medical device: nothing here may be used to treat anyone.", soft=True),
    )


def examples(manifest: pd.DataFrame, classes: list[str], count: int, read: Read) -> str:
    """Return the first `count` training images of each class that are no copies of one another."""
    used = manifest[(manifest["status"] == "ok") & (manifest["split"] == "Training")].drop_duplicates("group")
    items = [
        page.image_card(read(row.path), name, row.path)
        for name in classes
        for row in used[used["label"] == name][:count].itertuples()
    ]
    return page.section("Examples of each class", page.cards(items))


def numbered(classes: list[str]) -> list[str]:
    """Return the paragraph on classes that the pictures may write as a number: stages/evaluate/pictures/letters.py."""
    if all(name.isascii() and len(name) <= 26 for name in classes):
        return []
    each = ", ".join(f"class {place} is {name}" for place, name in enumerate(classes, 1))
    return [page.paragraph(f"Names that the pictures' font cannot write are numbers there: {each}.", soft=True)]


def remake(values: dict[str, Any], digests: dict[str, str]) -> str:
    """Return the section on how to make all of this again, and what it was made with."""
    return page.section(
        "Make it again",
        page.paragraph("In the study's folder, at the commit that holds these figures; the same bits come out:"),
        page.listing("dvc repro", "the pipeline"),
        page.table("SHA-256 of what went in and what came out", ["", "digest"], [[*row] for row in digests.items()]),
        page.listing(written(values, default_flow_style=None, width=100), "params.yaml"),
    )


def data(manifest: pd.DataFrame, classes: list[str]) -> str:
    """Return the section on the images: how many, by split and class."""
    used = manifest[manifest["status"] == "ok"]
    rows = []
    given = ["Validation"] * bool((used["split"] == "Validation").any())
    for split in ("Training", *given, "Testing"):
        counts = used[used["split"] == split]["label"].value_counts()
        rows.append([split, *(int(counts.get(name, 0)) for name in classes), int(counts.sum())])
    left_out = len(manifest) - len(used)
    copies = int(((used["split"] == "Validation") & (used["twin_in_training"] == 1)).sum())
    return page.section(
        "The data",
        page.table("Images by split and class", ["", *classes, "all"], rows),
        page.paragraph(
            f"{left_out} files could not be decoded and were left out." if left_out else "Every file could be decoded."
        ),
        *[page.paragraph(f"{copies} of the validation images have a copy in Training.") for _ in given],
    )


def audit(predictions: pd.DataFrame, classes: list[str]) -> str:
    """Return the section on copies: how many test images have one in the training set, by kind and class."""
    kinds = predictions.groupby(["leaked", "label"]).size().unstack(fill_value=0).reindex(columns=classes, fill_value=0)
    names = {
        "none": "clean",
        "byte": "the same file",
        "pixel": "the same pixels",
        "copy": "re-encoded, rescaled or re-contrasted",
        "mirrored": "mirrored",
        "rotated": "turned or flipped otherwise",
    }
    rows = [
        [names[kind], *(int(n) for n in kinds.loc[kind]), int(kinds.loc[kind].sum())]
        for kind in names
        if kind in kinds.index
    ]
    leaked = int((predictions["leaked"] != "none").sum())
    share = leaked / max(1, len(predictions))
    return page.section(
        "Copies",
        page.paragraph(
            f"{leaked} of {len(predictions)} test images ({share:.1%}) are copies of images in the training set. "
            "A score on those tells what the network remembers, not what it can tell apart."
        ),
        page.table("Test images by the kind of their copy", ["", *classes, "all"], rows),
        page.paragraph(
            "Clean of copies is not clean of patients: several slices of one head can stand on both sides, "
            "and where patient names are lost nothing can find them.",
            soft=True,
        ),
    )


def scores(metrics: dict[str, Any], classes: list[str], published: dict[str, float] | None) -> str:
    """Return the scores of all, clean and leaked test images, beside published figures where there are any."""
    groups = ["all", "clean", "leaked"]
    head = [
        "",
        *(["published"] if published else []),
        *(f"{name} ({counted(metrics[name], classes)})" for name in groups),
    ]
    names = SCORES | {f"{key}.{name}": f"{title}, {name}" for key, title in OF_CLASS.items() for name in classes}
    for key in published or {}:
        if key not in names:
            raise InputError(f"params.yaml: report.published: no score is called {key!r}; there are {', '.join(names)}")
    rows = []
    for key, title in names.items():
        cells = [_figure(metrics[name], key) for name in groups]
        if any(cells):
            rows.append([title, *([_plain((published or {}).get(key))] if published else []), *cells])
    notes = [
        page.paragraph(f"There is no {name} test image, so nothing is said of them.")
        for name in groups
        if not metrics[name]["n"]
    ]
    return page.section("The result", page.table("Test scores; 95 % intervals in brackets", head, rows), *notes)


def worth(metrics: dict[str, Any], classes: list[str]) -> str:
    """Return the section that holds the network's accuracy against what knows no anatomy."""
    groups = [name for name in ("all", "clean", "leaked") if metrics[name]["n"]]
    heads = [f"{name} ({counted(metrics[name], classes)})" for name in groups]
    rows = [["the network", *(_figure(metrics[name], "accuracy") for name in groups)]]
    for key, title in BASELINES.items():
        found = metrics["baselines"][key]
        rows.append([title, *(_figure(found[name], "accuracy") for name in groups)])
    return page.section(
        "What the number is worth",
        page.paragraph(
            "The classes of a merged dataset come from different sources, and slices of one head resemble each other. "
            "So part of any accuracy is not medicine: these learn from the same training images and know no anatomy."
        ),
        page.table("Accuracy; 95 % intervals in brackets", ["", *heads], rows),
    )


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


def errors(wrong: pd.DataFrame, count: int, looked: Looked) -> str:
    """Return the first of `count` mistakes on clean test images, as the network saw them and where it looked."""
    items = [
        page.looked_card(
            *looked[row.path], f"{row.label} taken for {row.predicted}, {row.confidence:.0%} sure", row.path
        )
        for row in wrong.itertuples()
    ]
    text = (
        "The clean test images that the network was most sure of and wrong about: as it saw them, and (right) how much "
        "each place spoke for its answer: Grad-CAM by cell, on the deepest layer with 4 cells a side or more."
        if items
        else f"Clean test images that it was wrong about: {count}. None is shown (report.errors in params.yaml)."
        if count
        else "No clean test image was wrong."
    )
    return page.section("The most confident errors", page.paragraph(text), page.cards(items))


def right(found: pd.DataFrame, looked: Looked) -> str:
    """Return clean test images that were classified correctly, and where the network looked."""
    items = [
        page.looked_card(*looked[row.path], f"{row.label}, {row.confidence:.0%} sure", row.path)
        for row in found.itertuples()
    ]
    text = "The first clean test images of each class, by name, that it was right about. A map is a hint, not a proof."
    return page.section("Correct answers", page.paragraph(text), page.cards(items))


def pairs(crossing: pd.DataFrame, count: int, read: Read) -> str:
    """Return a gallery of copies across the split: `count` pairs, spread over kinds and over similarity."""
    shown = gallery(crossing, count)
    items = [
        page.pair_card(read(row.path), read(row.twin), row.kind, row.similarity, (row.path, row.twin))
        for row in shown.itertuples()
    ]
    text = (
        f"{len(items)} of {len(crossing)} pairs of a test image (left) and a training image (right), "
        "the least similar of each kind first."
    )
    return page.section("Copies, side by side", page.paragraph(text), page.cards(items))


def gallery(crossing: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return at most `count` pairs, kinds taking turns, each kind's least similar first: the ones to doubt."""
    order = crossing.sort_values(["similarity", "path", "twin"])
    order = order.assign(turn=order.groupby("kind").cumcount())
    return order.sort_values(["turn", "kind", "path"])[:count].sort_values(["kind", "similarity", "path"])


def _figure(group: dict[str, Any], key: str) -> str:
    value: Any = group
    for part in key.split("."):
        value = value.get(part, {}) if isinstance(value, dict) else {}
    if not isinstance(value, int | float):
        return ""
    low, high = group.get(f"{key}_low"), group.get(f"{key}_high")
    return _plain(value) + (f" [{_plain(low)}, {_plain(high)}]" if low is not None else "")


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
