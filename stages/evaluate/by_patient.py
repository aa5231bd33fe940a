"""Scores that count people, where it is known whose slices the test images are; and those of some classes alone.

Where an image's patient is unknown, its group of copies stands in.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn.metrics import recall_score

from stages.evaluate.calibration import DECIMALS
from stages.evaluate.clusters import intervals, joined
from stages.evaluate.intervals import wilson
from stages.evaluate.scores import scores, to_decimals
from stages.evaluate.tables import given_by, numbers

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Rows = NDArray[np.bool_]

# Groups of test images by what training has of their patients, as data/prepared/index.csv names it.
TRAINED_ON = {"known_patients": "known", "new_patients": "new", "unknown_patients": "unknown"}


def with_patients(
    metrics: dict[str, Any], table: pd.DataFrame, classes: list[str], apart: list[str], **settings: int
) -> dict[str, Any]:
    """Return `metrics` and what can be said of patients and of the classes that are not `apart`.

    Parameters
    ----------
    metrics
        Scores by group: all, clean, leaked. No figure of them is changed, and with no patient known and no class apart
        none is added.
    table
        The predictions: path, label, leaked, p_<class>; where patients are known also patient (empty where not),
        patient_in_training (known, new, unknown) and group.
    classes, settings
        As for `scores`.
    apart
        Classes that the others are scored without.

    Returns
    -------
    dict
        With `apart`: `others`, the scores of images of the other classes, and `others_alone`, the same with
        probabilities divided among these classes alone. With patients: their groups of TRAINED_ON; in each group of
        images `by_patient`, the intervals over whole clusters; and `patients`, see `whole_patients`.
    """
    labels = numbers(table["label"], classes)
    known = "patient" in table and bool((table["patient"] != "").any())
    cluster = clusters(table) if known else None
    found = dict(metrics)
    for name, (rows, given) in _groups(table, classes, apart, known).items():
        if name not in found:
            found[name] = scores(labels[rows], given[rows], classes, **settings)
        if cluster is not None and rows.any():
            ends = _intervals(labels[rows], given[rows], cluster[rows], classes, **settings)
            found[name] = found[name] | {"by_patient": ends}
    return found | ({"patients": whole_patients(table, classes)} if known else {})


def _groups(table: pd.DataFrame, classes: list[str], apart: list[str], known: bool) -> dict[str, tuple[Rows, Floats]]:
    """Return {name of a group: which rows of the table it has, the probabilities of all rows}."""
    given, clean = given_by(table, classes), (table["leaked"] == "none").to_numpy()
    found = {"all": (np.ones_like(clean), given), "clean": (clean, given), "leaked": (~clean, given)}
    if known:
        training = table["patient_in_training"]
        found |= {name: ((training == value).to_numpy(), given) for name, value in TRAINED_ON.items()}
    if apart:
        others = ~table["label"].isin(apart).to_numpy()
        alone = among(given, [name not in apart for name in classes])
        found |= {"others": (others, given), "others_alone": (others, alone)}
    return found


def _intervals(
    labels: Labels, given: Floats, cluster: Labels, classes: list[str], *, seed: int, bootstrap: int, bins: int
) -> dict[str, Any]:
    ends = intervals(labels, given, cluster, classes, seed=seed, bootstrap=bootstrap)
    return to_decimals({"clusters": len(np.unique(cluster)), **ends})


def clusters(table: pd.DataFrame) -> Labels:
    """Return whose image each row is, int64 [N]: of one patient, or of one group of copies where that is not known."""
    return joined(table["patient"].astype(str).tolist(), table["group"].astype(str).tolist())


def among(given: Floats, kept: list[bool]) -> Floats:
    """Return probabilities [N, C] divided among the classes that are `kept`; all others get 0."""
    # 0 in the file means less than half of the last decimal
    found = np.where(kept, np.clip(given, 10.0**-DECIMALS, 1), 0)
    return np.asarray(found / found.sum(axis=1, keepdims=True), np.float64)


def whole_patients(table: pd.DataFrame, classes: list[str]) -> dict[str, Any]:
    """Return how many patients are told right by the mean of the probabilities of all of their slices.

    A patient's class is that of most of the slices, the first of equals.

    Returns
    -------
    dict
        n (patients), accuracy with Wilson's interval, sensitivity of each class that has patients; of the same slices
        one by one: images, images_accuracy; and of the images of unknown patients: unknown_images, and stand_ins, how
        many clusters they are.
    """
    rows = (table["patient"] != "").to_numpy()
    patient = pd.factorize(table.loc[rows, "patient"])[0]
    labels, given = numbers(table.loc[rows, "label"], classes), given_by(table.loc[rows], classes)
    of_class, means = np.zeros((2, patient.max() + 1, len(classes)))
    np.add.at(of_class, (patient, labels), 1)
    np.add.at(means, patient, given)
    truth = of_class.argmax(axis=1)
    told = (means / of_class.sum(axis=1, keepdims=True)).round(DECIMALS).argmax(axis=1)
    right = int((told == truth).sum())
    low, high = wilson(right, len(truth))
    of = np.unique(truth)
    each = recall_score(truth, told, labels=of, average=None)
    cluster = clusters(table)
    return to_decimals(
        {
            "n": len(truth),
            "accuracy": right / len(truth),
            "accuracy_low": low,
            "accuracy_high": high,
            "sensitivity": {classes[number]: value for number, value in zip(of, each, strict=True)},
            "images": int(rows.sum()),
            "images_accuracy": float((given.argmax(axis=1) == labels).mean()),
            "unknown_images": int((~rows).sum()),
            "stand_ins": len(set(cluster) - set(cluster[rows])),
        }
    )
