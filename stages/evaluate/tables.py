"""The tables behind the plots, as data frames: what `dvc plots` draws and what the pictures are drawn from.

Predictions are the table of `predictions`: path, label, predicted, leaked, whose image it is, p_<class> for each class.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from sklearn import metrics

from stages.evaluate.calibration import reliability

Floats = NDArray[np.float64]
Curve = Callable[[NDArray[np.bool_], Floats], tuple[Floats, Floats]]  # truth, scores -> x, y

KINDS = ("none", "byte", "pixel", "copy", "mirrored", "rotated")  # of leak, as verify names them
WHOSE = ("patient", "patient_in_training", "group", "frame")  # columns of the index that tell which image it is, whose
POINTS = 200  # of a curve, at most: more cannot be seen
HISTOGRAM_BINS = 20


def predictions(index: pd.DataFrame, given: NDArray[np.float64], classes: list[str]) -> pd.DataFrame:
    """Return one row a test image: path, label, predicted, leaked, WHOSE as far as the index has them, p_<class>.

    `index` has the rows of data/prepared/index.csv for the test images, in the order of `given` [N, C].
    """
    table = index[["path", "label"]].reset_index(drop=True)
    table["predicted"] = np.array(classes, dtype=object)[given.argmax(axis=1)]
    for name in ("leaked", *(column for column in WHOSE if column in index)):
        table[name] = index[name].to_numpy()
    return table.assign(**{f"p_{name}": given[:, number] for number, name in enumerate(classes)})


def groups(table: pd.DataFrame) -> dict[str, pd.DataFrame]:
    """Return the predictions on all test images and on the clean ones."""
    return {"all": table, "clean": table[table["leaked"] == "none"]}


def confusion(table: pd.DataFrame) -> pd.DataFrame:
    """Return one row an image, actual and predicted, which is what DVC's confusion template counts."""
    return table[["label", "predicted"]].rename(columns={"label": "actual"})


def counts(confused: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Return how many images of each class (rows) were called what (columns)."""
    table = pd.crosstab(confused["actual"], confused["predicted"])
    return table.reindex(index=classes, columns=classes, fill_value=0)


def leakage(table: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Return class, kind, images: how many test images of each class are clean (`none`) or leaked, and how."""
    kinds = [*KINDS, *sorted(set(table["leaked"]) - set(KINDS))]
    found = table.groupby(["label", "leaked"]).size()
    rows = [(name, kind, int(found.get((name, kind), 0))) for name in classes for kind in kinds]
    return pd.DataFrame(rows, columns=["class", "kind", "images"])


def roc(table: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Return images (all, clean), class, false_positive_rate, true_positive_rate; a class against the rest."""
    columns = ["images", "class", "false_positive_rate", "true_positive_rate"]
    return _curves(table, classes, columns, lambda truth, given: metrics.roc_curve(truth, given)[:2])


def precision_recall(table: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Return images (all, clean), class, recall, precision; a class against the rest, from recall 0 to 1."""

    def curve(truth: NDArray[np.bool_], given: Floats) -> tuple[Floats, Floats]:
        precision, recall, _ = metrics.precision_recall_curve(truth, given, drop_intermediate=True)
        return recall[::-1], precision[::-1]

    return _curves(table, classes, ["images", "class", "recall", "precision"], curve)


def calibration(table: pd.DataFrame, classes: list[str], bins: int) -> pd.DataFrame:
    """Return images (all, clean), low, high, n, confidence, accuracy of each range of confidence that has images."""
    parts = [
        pd.DataFrame(reliability(numbers(rows["label"], classes), given_by(rows, classes), bins)).assign(images=name)
        for name, rows in groups(table).items()
        if len(rows)
    ]
    found = (
        pd.concat(parts) if parts else pd.DataFrame(columns=["low", "high", "n", "confidence", "accuracy", "images"])
    )
    found = found[found["n"] > 0].astype({"n": int}).round(6)
    return found[["images", "low", "high", "n", "confidence", "accuracy"]].reset_index(drop=True)


def histograms(table: pd.DataFrame, classes: list[str]) -> pd.DataFrame:
    """Return images, class, outcome (right, wrong), low, high, n: of the probability given to the true class."""
    edges = np.arange(HISTOGRAM_BINS + 1) / HISTOGRAM_BINS
    parts = []
    for group, chosen in groups(table).items():
        for name in classes:
            rows = chosen[chosen["label"] == name]
            for outcome, part in (
                ("right", rows[rows["predicted"] == name]),
                ("wrong", rows[rows["predicted"] != name]),
            ):
                n, _ = np.histogram(part[f"p_{name}"].to_numpy(), edges)
                parts.append(
                    pd.DataFrame(
                        {
                            "images": group,
                            "class": name,
                            "outcome": outcome,
                            "low": edges[:-1],
                            "high": edges[1:],
                            "n": n,
                        }
                    )
                )
    return pd.concat(parts, ignore_index=True)


def thinned(x: NDArray[np.float64], y: NDArray[np.float64], points: int) -> NDArray[np.int64]:
    """Return at most `points` places on a curve, even along its length, with both ends."""
    if len(x) <= points:
        return np.arange(len(x))
    along = np.concatenate([[0], np.cumsum(np.abs(np.diff(x)) + np.abs(np.diff(y)))])
    wanted = along[-1] * np.arange(points - 1) / (points - 1)
    return np.unique(np.append(np.searchsorted(along, wanted), len(x) - 1))


def _curves(table: pd.DataFrame, classes: list[str], columns: list[str], curve: Curve) -> pd.DataFrame:
    parts = []
    for group, chosen in groups(table).items():
        for name in classes:
            truth = (chosen["label"] == name).to_numpy()
            if truth.any() and not truth.all():
                x, y = curve(truth, chosen[f"p_{name}"].to_numpy())
                kept = thinned(x, y, POINTS)
                parts.append(pd.DataFrame(dict(zip(columns, (group, name, x[kept], y[kept]), strict=True))))
    return pd.concat(parts, ignore_index=True).round(6) if parts else pd.DataFrame(columns=columns)


def numbers(labels: pd.Series, classes: list[str]) -> NDArray[np.int64]:
    """Return the place of each label among the classes."""
    return labels.map({name: number for number, name in enumerate(classes)}).to_numpy(np.int64)


def given_by(rows: pd.DataFrame, classes: list[str]) -> NDArray[np.float64]:
    """Return the probabilities in rows of predictions, float64 [N, C]."""
    return rows[[f"p_{name}" for name in classes]].to_numpy(np.float64)
