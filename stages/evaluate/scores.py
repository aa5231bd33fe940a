"""Every score in metrics/scores.csv, from class numbers and probabilities. Undefined scores are left out.

A macro score is the mean over the classes that have test images. A score that is not defined (the sensitivity of a
class without test images, say) has no key at all; a group without images holds `n: 0` alone.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn import metrics

from stages.evaluate import intervals
from stages.evaluate.calibration import DECIMALS, expected_calibration_error

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
GROUPS = ("all", "clean", "leaked")
HEADLINE = ("accuracy", "f1", "auc", "log_loss")
LISTED = 16  # figures in both files that DVC lists, at most
ROUNDED = 6  # decimals: a difference in the last bits of a mathematical library never reaches the file


def scores_by_group(
    labels: Labels, given: Floats, leaked: NDArray[np.bool_], classes: list[str], **settings: int
) -> dict[str, Any]:
    """Return {all, clean, leaked: scores}; `settings` as for `scores`."""
    chosen = {"all": np.ones_like(leaked), "clean": ~leaked, "leaked": leaked}
    return {name: scores(labels[rows], given[rows], classes, **settings) for name, rows in chosen.items()}


def headline(scores: dict[str, Any]) -> dict[str, float]:
    """Return metrics/test.json: what a person compares, of the scores by group. DVC lists it without being asked.

    Where patients are known, accuracy comes with its interval by patient, and beside it that of whole patients.
    """
    everything, clean = scores["all"], scores["clean"]
    found = {key: everything[key] for key in HEADLINE if key in everything}
    found |= {"clean_accuracy": clean["accuracy"]} if clean["n"] else {}
    if "patients" in scores:
        by_patient = everything["by_patient"]
        found |= {key: by_patient[key] for key in ("accuracy_low", "accuracy_high") if key in by_patient}
        found |= {"patient_accuracy": scores["patients"]["accuracy"]}
    return found | {"leaked": scores["leaked"]["n"]}


def sensitivities(scores: dict[str, Any]) -> dict[str, float]:
    """Return metrics/sensitivity.json: {class: sensitivity}; of many classes the lowest, so that a line holds all."""
    found = scores["all"].get("sensitivity", {})
    return found if len(found) + len(headline(scores)) <= LISTED else {"lowest": min(found.values())}


def scores(
    labels: Labels, given: Floats, classes: list[str], *, seed: int, bootstrap: int, bins: int
) -> dict[str, Any]:
    """Return all scores of some test images, rounded to 6 decimals.

    Parameters
    ----------
    labels : int64 [N]
        The true class's number.
    given : float64 [N, C]
        Probabilities. The prediction is the first of the largest.
    classes
        Their names, in the order of the columns of `given`.
    seed, bootstrap
        Of the resamples for the intervals of AUC, and how many.
    bins
        Ranges of confidence for the calibration error.
    """
    if not len(labels):
        return {"n": 0}
    predicted = given.argmax(axis=1)
    found = {
        "n": len(labels),
        **_overall(labels, predicted),
        **_per_class(labels, predicted, classes),
        **_ranking(labels, given, classes, seed, bootstrap),
        **_calibration(labels, given, bins),
    }
    return to_decimals(found)


def _overall(labels: Labels, predicted: Labels) -> dict[str, Any]:
    right = int((labels == predicted).sum())
    low, high = intervals.wilson(right, len(labels))
    precision, recall, f1, _ = metrics.precision_recall_fscore_support(
        labels, predicted, labels=np.unique(labels), average="macro", zero_division=0
    )
    found = {
        "accuracy": metrics.accuracy_score(labels, predicted),
        "accuracy_low": low,
        "accuracy_high": high,
        "precision": precision,
        "recall": recall,
        "f1": f1,
        # by its definition; balanced_accuracy_score warns where a class without test images is predicted
        "balanced_accuracy": recall,
    }
    if len(np.unique(labels)) > 1 and len(np.unique(predicted)) > 1:  # else 0/0, which scikit-learn calls 0
        found["mcc"] = metrics.matthews_corrcoef(labels, predicted)
    return found


def _per_class(labels: Labels, predicted: Labels, classes: list[str]) -> dict[str, dict[str, float]]:
    numbers = list(range(len(classes)))
    precision, sensitivity, f1, _ = metrics.precision_recall_fscore_support(
        labels, predicted, labels=numbers, average=None, zero_division=np.nan
    )
    tables = metrics.multilabel_confusion_matrix(labels, predicted, labels=numbers)
    negatives = tables[:, 0].sum(axis=1)
    specificity = tables[:, 0, 0] / np.where(negatives > 0, negatives, np.nan)
    columns = {"sensitivity": sensitivity, "specificity": specificity, "precision_of": precision, "f1_of": f1}
    found = {key: _defined(classes, values) for key, values in columns.items()}
    (_, false_positive), (false_negative, right) = tables.transpose(1, 2, 0)
    shares = {
        "sensitivity": (right, false_negative + right),
        "specificity": (tables[:, 0, 0], negatives),
        "precision_of": (right, false_positive + right),
    }
    for key, (successes, n) in shares.items():
        found |= _wilson(key, classes, successes, n)
    return found


def _wilson(key: str, classes: list[str], successes: Labels, n: Labels) -> dict[str, dict[str, float]]:
    """Return {key_low, key_high: {class: end of the interval}} of the classes whose share is defined."""
    ends = {
        name: intervals.wilson(int(k), int(of)) for name, k, of in zip(classes, successes, n, strict=True) if of > 0
    }
    return {
        f"{key}_{end}": {name: each[place] for name, each in ends.items()} for place, end in enumerate(("low", "high"))
    }


def _ranking(labels: Labels, given: Floats, classes: list[str], seed: int, bootstrap: int) -> dict[str, Any]:
    """Return AUCs, macro and one-vs-rest, where there are images of the class and others; with their intervals."""
    of = np.unique(labels).tolist()
    if len(of) < 2:
        return {}
    names = [classes[number] for number in of]
    areas = [metrics.roc_auc_score(labels == number, given[:, number]) for number in of]
    found: dict[str, Any] = {"auc": np.mean(areas), "auc_of": dict(zip(names, areas, strict=True))}
    if bootstrap:
        draws = intervals.bootstrap_aucs(labels, given, of, bootstrap, seed)
        found["auc_low"], found["auc_high"] = intervals.percentile_interval(draws.mean(axis=1))
        each = [intervals.percentile_interval(column) for column in draws.T]
        found["auc_of_low"] = {name: low for name, (low, _) in zip(names, each, strict=True)}
        found["auc_of_high"] = {name: high for name, (_, high) in zip(names, each, strict=True)}
    return found


def _calibration(labels: Labels, given: Floats, bins: int) -> dict[str, float]:
    # 0 in the file means less than half of the last decimal: log(0) would say that it means never
    whole = np.clip(given, 10.0**-DECIMALS, 1)
    whole /= whole.sum(axis=1, keepdims=True)
    numbers = range(given.shape[1])
    # Brier 1950: the squares are summed over the classes, so from 0 to 2
    return {
        "log_loss": metrics.log_loss(labels, whole, labels=numbers),
        "brier": metrics.brier_score_loss(labels, whole, labels=numbers, scale_by_half=False),
        "ece": expected_calibration_error(labels, given, bins),
    }


def _defined(classes: list[str], values: Floats) -> dict[str, float]:
    return {name: float(value) for name, value in zip(classes, values, strict=True) if np.isfinite(value)}


def to_decimals(found: dict[str, Any]) -> dict[str, Any]:
    """Return nested figures, fractions rounded to ROUNDED decimals."""
    return {key: _rounded(value) for key, value in found.items()}


def _rounded(value: Any) -> Any:
    if isinstance(value, dict):
        return to_decimals(value)
    return value if isinstance(value, int) else round(float(value), ROUNDED) + 0.0  # + 0.0: never -0.0
