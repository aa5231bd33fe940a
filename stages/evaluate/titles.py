"""What scores, baselines and groups of test images are called where people read of them."""

from __future__ import annotations

from typing import Any

# What a name in metrics/scores.csv is called on the page, in the order of the table.
SCORES = {
    "accuracy": "accuracy",
    "balanced_accuracy": "balanced accuracy",
    "precision": "precision (macro)",
    "recall": "sensitivity (macro)",
    "f1": "F1 (macro)",
    "auc": "AUC (macro, one against rest)",
    "mcc": "Matthews correlation",
    "log_loss": "log loss",
    "brier": "Brier score",
    "ece": "expected calibration error",
}

# Scores of one class: what holds them, and what they are called.
OF_CLASS = {
    "sensitivity": "sensitivity",
    "specificity": "specificity",
    "precision_of": "precision",
    "f1_of": "F1",
    "auc_of": "AUC",
}

BASELINES = {
    "majority_class": "always the commonest class",
    "file_facts": "the file alone: size, dimensions, mode, JPEG tables (logistic regression)",
    "border": "the image's outermost 2 pixels alone (logistic regression)",
    "nearest_neighbour": "the most similar training image, at 16 x 16 cells",
}

# Groups of test images beside all, clean and leaked: by what training has of their patients, and without some classes.
GROUPS = {
    "known_patients": "of patients with training images",
    "new_patients": "of new patients",
    "unknown_patients": "of unknown patients",
    "others": "of the other classes",
    "others_alone": "the same, among these alone",
}


def stand_ins(patients: dict[str, Any]) -> str:
    """Return the sentence that stands with every figure by patient, given `patients` of metrics/scores.csv.

    Examples
    --------
    >>> stand_ins({"n": 209, "unknown_images": 2273, "stand_ins": 427})
    '209 patients are known. Of 2,273 images the patient is unknown: their 427 groups of copies stand in for patients.'
    >>> stand_ins({"n": 12, "unknown_images": 0, "stand_ins": 0})
    'All 12 patients are known.'
    """
    if not patients["unknown_images"]:
        return f"All {patients['n']:,} patients are known."
    return (
        f"{patients['n']:,} patients are known. Of {patients['unknown_images']:,} images the patient is unknown: "
        f"their {patients['stand_ins']:,} groups of copies stand in for patients."
    )


def sources(metrics: dict[str, Any]) -> str:
    """Return, after a space, the sentence on the classes of `evaluate.apart`; nothing where there are none.

    Examples
    --------
    >>> sources({"all": {"sensitivity": {"a": 1, "b": 1}}, "others": {"n": 9, "sensitivity": {"a": 1}}})
    ' Images of b come from other sources than the others: what is said of them may tell the source, not the head.'
    >>> sources({"all": {"sensitivity": {"a": 1}}})
    ''
    """
    others = metrics.get("others", {})
    apart = [name for name in metrics["all"]["sensitivity"] if name not in others.get("sensitivity", {})]
    return f" {set_apart(apart)}" if others.get("n") and apart else ""


def set_apart(apart: list[str]) -> str:
    """Return the sentence on the classes of `evaluate.apart`.

    Examples
    --------
    >>> set_apart(["notumor"])
    'Images of notumor come from other sources than the others: what is said of them may tell the source, not the head.'
    """
    return (
        f"Images of {' and '.join(apart)} come from other sources than the others: "
        "what is said of them may tell the source, not the head."
    )
