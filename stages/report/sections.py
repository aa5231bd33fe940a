"""The page's sections, each from the tables it speaks of."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import pandas as pd

from stages.dialect import written
from stages.evaluate.absent import counted
from stages.evaluate.titles import BASELINES
from stages.fetch.series import said
from stages.report import page

Read = Callable[[str], np.ndarray]  # path below data/raw -> uint8 [H, W]


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


def data(manifest: pd.DataFrame, classes: list[str], protocol: str, left_out: Mapping[str, int]) -> str:
    """Return the section on the images: how many, by split and class; and how many files `fetch.scans` left out."""
    used = manifest[manifest["status"] == "ok"]
    rows = []
    given = ["Validation"] * bool((used["split"] == "Validation").any())
    for split in ("Training", *given, "Testing"):
        counts = used[used["split"] == split]["label"].value_counts()
        rows.append([split, *(int(counts.get(name, 0)) for name in classes), int(counts.sum())])
    broken = len(manifest) - len(used)
    anew = [page.paragraph("The scores here are of another split: all images were divided anew.")]
    copies = int(((used["split"] == "Validation") & (used["twin_in_training"] == 1)).sum())
    return page.section(
        "The data",
        page.table("Images by split and class", ["", *classes, "all"], rows),
        page.paragraph(
            f"{broken} files could not be decoded and were left out." if broken else "Every file could be decoded."
        ),
        *[page.paragraph(f"{line[0].upper()}{line[1:]}.") for line in said(left_out)],
        *(anew if protocol == "by_patient" else []),
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
    return page.section(
        "Copies",
        page.table("Test images by the kind of their copy", ["", *classes, "all"], rows),
    )


def worth(metrics: dict[str, Any], classes: list[str], protocol: str) -> str:
    """Return the section on what the number is worth: copies, patients, and what knows no anatomy, held against it."""
    groups = [name for name in ("all", "clean", "leaked") if metrics[name]["n"]]
    titles = {"all": "all", "clean": "without a copy in training", "leaked": "copies"}
    heads = [f"{titles[name]} ({counted(metrics[name], classes)})" for name in groups]
    rows = [["the network", *(_accuracy(metrics[name]) for name in groups)]]
    for key, title in BASELINES.items():
        rows.append([title, *(_accuracy(metrics["baselines"][key][name]) for name in groups)])
    return page.section(
        "What it is worth",
        page.paragraph(copied(metrics, protocol)),
        page.paragraph(seen_before(metrics)),
        page.paragraph(
            "The classes of a merged dataset come from different sources, and slices of one head resemble each other. "
            "So part of any accuracy is not medicine: these learn from the same training images and know no anatomy."
        ),
        page.table("Accuracy on test images; 95 % intervals below", ["", *heads], rows, stacked=True),
    )


def copied(metrics: dict[str, Any], protocol: str) -> str:
    """Return the sentence on how many test images are copies of training images."""
    leaked, n = metrics["leaked"]["n"], metrics["all"]["n"]
    if protocol == "by_patient":
        return "No test image has a copy in training: copies of one picture are never divided."
    if protocol == "leak_free":
        return "No test image has a copy in training: those that had one were dropped from it."
    if not leaked:
        return f"None of the {n:,} test images was found to be a copy of a training image."
    return (
        f"{leaked:,} of {n:,} test images ({leaked / n:.1%}) are copies of images in the training set; "
        f"{metrics['clean']['n']:,} have no copy there. A score on copies tells what the network remembers, not what "
        "it can tell apart."
    )


def seen_before(metrics: dict[str, Any]) -> str:
    """Return the sentence on how many test images are of patients whom training has seen."""
    if "patients" not in metrics:
        return (
            "Clean of copies is not clean of patients: whose images they are is not known, and several slices of one "
            "head can stand on both sides."
        )
    seen, new, unknown = (metrics.get(f"{name}_patients", {"n": 0})["n"] for name in ("known", "new", "unknown"))
    worth = ": a score on the first says little of people never seen" if seen else ""
    return (
        f"{seen:,} test images are of patients with training images, {new:,} are known to be of new ones, and of "
        f"{unknown:,} nobody knows{worth}."
    )


def pairs(crossing: pd.DataFrame, count: int, read: Read, protocol: str) -> str:
    """Return a gallery of copies across the split: `count` pairs, spread over kinds and over similarity."""
    shown = gallery(crossing, count)
    items = [
        page.pair_card(read(row.path), read(row.twin), row.kind, row.similarity, (row.path, row.twin))
        for row in shown.itertuples()
    ]
    text = (
        f"{len(items)} of {len(crossing)} pairs of a test image (left) and a training image (right), "
        "the least similar of each kind first"
        + (", as the images came; the scores here are of another split." if protocol == "by_patient" else ".")
    )
    return page.section("Copies, side by side", page.paragraph(text), page.cards(items))


def gallery(crossing: pd.DataFrame, count: int) -> pd.DataFrame:
    """Return at most `count` pairs, kinds taking turns, each kind's least similar first: the ones to doubt."""
    order = crossing.sort_values(["similarity", "path", "twin"])
    order = order.assign(turn=order.groupby("kind").cumcount())
    return order.sort_values(["turn", "kind", "path"])[:count].sort_values(["kind", "similarity", "path"])


def _accuracy(group: dict[str, Any]) -> str:
    if "accuracy" not in group:
        return ""
    low, high = group.get("accuracy_low"), group.get("accuracy_high")
    return f"{group['accuracy']:.4f}" + ("" if low is None else f" [{low:.4f}, {high:.4f}]")
