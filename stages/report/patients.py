"""The page's section on whose images the test images are, and on the classes that are told without some others."""

from __future__ import annotations

from typing import Any

from stages.evaluate.absent import counted
from stages.evaluate.titles import GROUPS, SCORES, set_apart, stand_ins
from stages.report import page

BY_PATIENT = ("accuracy", "f1", "auc")  # scores that have an interval by patient, beside each class's sensitivity


def patients(metrics: dict[str, Any], classes: list[str], apart: list[str]) -> list[str]:
    """Return the section, if there is something to say: no patient known and no class apart, no section."""
    known = "patients" in metrics
    parts = [*(_known(metrics, classes) if known else []), *_groups(metrics, classes)]
    if apart:
        parts.append(page.paragraph(set_apart(apart)))
    return [page.section("By patient" if known else "Without some classes", *parts)] if parts else []


def _known(metrics: dict[str, Any], classes: list[str]) -> list[str]:
    found, every = metrics["patients"], metrics["all"]
    names = {key: SCORES[key] for key in BY_PATIENT}
    rows = [[title, *_both(every, key, None)] for key, title in names.items() if key in every]
    rows += [[f"sensitivity, {name}", *_both(every, "sensitivity", name)] for name in every["sensitivity"]]
    whole = f"{found['accuracy']:.4f}{_brackets(found, 'accuracy', None)}"
    return [
        page.paragraph(
            "Slices of one head are no independent draws. So intervals by patient draw patients, each with all of the "
            f"images (cluster bootstrap). {stand_ins(found)}"
        ),
        page.table("All test images; 95 % intervals in brackets", ["", "by image", "by patient"], rows),
        page.paragraph(
            f"All slices of a patient together, by the mean of their probabilities: accuracy {whole} "
            f"({counted(found, classes)}). The same {found['images']:,} images one by one: "
            f"{found['images_accuracy']:.4f}."
        ),
    ]


def _groups(metrics: dict[str, Any], classes: list[str]) -> list[str]:
    rows = [
        [title, counted(metrics[name], classes), *_both(metrics[name], "accuracy", None)]
        for name, title in GROUPS.items()
        if metrics.get(name, {}).get("n")
    ]
    by_patient = ["by patient"] if "patients" in metrics else []
    rows = [row[: 3 + len(by_patient)] for row in rows]
    caption = "Accuracy on test images; 95 % intervals in brackets"
    return [page.table(caption, ["test images", "", "by image", *by_patient], rows)] if rows else []


def _both(group: dict[str, Any], key: str, name: str | None) -> list[str]:
    """Return a score twice, with its interval by image and with that by patient, as far as there are."""
    value = group[key] if name is None else group[key][name]
    return [f"{value:.4f}{_brackets(each, key, name)}" for each in (group, group.get("by_patient", {}))]


def _brackets(found: dict[str, Any], key: str, name: str | None) -> str:
    low, high = (found.get(f"{key}_{end}") for end in ("low", "high"))
    if name is not None:
        low, high = ((end or {}).get(name) for end in (low, high))
    return "" if low is None else f" [{low:.4f}, {high:.4f}]"
