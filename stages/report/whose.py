"""The page's section on what the given test set is worth: whose images they are, and whether Training has them too."""

from __future__ import annotations

import pandas as pd

from stages.report import page

TITLES = {"known": "of patients with training images", "new": "of new patients", "unknown": "nobody knows"}


def whose(manifest: pd.DataFrame, classes: list[str], protocol: str) -> list[str]:
    """Return the section on patients in the given split; none where no patient is known.

    Parameters
    ----------
    manifest
        As verify wrote it: path, status, split, label, patient ("" where unknown), twin_in_training.
    classes
        The columns.
    protocol
        `split.protocol`: by patient the given split is not that of the scores.
    """
    used = manifest[manifest["status"] == "ok"]
    known = used[used["patient"] != ""]
    if known.empty:
        return []
    test = used[used["split"] == "Testing"]
    kinds = given_by(test["patient"], set(known.loc[known["split"] != "Testing", "patient"]))
    rows = [[title, *_counted(test[kinds == kind], classes)] for kind, title in TITLES.items()]
    text = (
        f"{len(known):,} of {len(used):,} images are of {known['patient'].nunique():,} known patients. Of the test "
        f"images, as they came, {int((kinds == 'known').sum()):,} are of patients with training images and "
        f"{int((kinds == 'new').sum()):,} are known to be of new ones: a score on the former says little of people "
        "never seen."
    )
    own = int((known["patient"] == known["path"].str.rpartition("#")[0]).groupby(known["patient"]).any().sum())
    if own:
        text += f" {own:,} of the patients are volumes whose patient nobody told, each taken for one of its own."
    anew = "The scores here are of another split: all images were divided anew, no patient on both sides."
    return [
        page.section(
            "Patients",
            page.paragraph(text),
            page.table("Test images, as they came", ["", *classes, "all", "all without a copy in Training"], rows),
            *([page.paragraph(anew)] if protocol == "by_patient" else []),
        )
    ]


def given_by(patient: pd.Series, trained: set[str]) -> pd.Series:
    """Return known, new or unknown for each patient's name, "" where there is none."""
    return patient.isin(trained).map({True: "known", False: "new"}).mask(patient == "", "unknown")


def _counted(images: pd.DataFrame, classes: list[str]) -> list[int]:
    of_class = [int((images["label"] == name).sum()) for name in classes]
    return [*of_class, len(images), int((images["twin_in_training"] == 0).sum())]
