"""From logits to probabilities that mean what they say, and how far they do."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize_scalar

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]

DECIMALS = 8  # of a probability: float32 logits carry no more, and the last bits of exp() differ between C libraries
RANGE = (0.05, 20.0)  # of temperatures; the lower end is reached where no validation image is classified wrongly


def probabilities(logits: NDArray[np.float32], temperature: float) -> Floats:
    """Return softmax(logits / temperature), float64 [N, C], rounded to 8 decimals.

    Each row depends on its own logits alone, so an image gets the same probabilities by itself as in a test set.
    """
    exact: Floats = np.exp(_log_softmax(logits.astype(np.float64) / temperature))
    return exact.round(DECIMALS)


def fit_temperature(logits: NDArray[np.float32], labels: Labels) -> float:
    """Return the temperature that minimises the log loss of logits [N, C] against class numbers [N]; 1.0 for N = 0.

    One number for all classes, so no prediction changes (Guo et al. 2017, On Calibration of Modern Neural Networks).
    Rounded to 4 decimals, far above where the minimiser's own last bits could show.
    """
    if not len(labels):
        return 1.0
    exact, rows = logits.astype(np.float64), np.arange(len(labels))

    def loss(log_temperature: float) -> float:
        return -float(_log_softmax(exact / np.exp(log_temperature))[rows, labels].mean())

    low, high = np.log(RANGE)
    found = minimize_scalar(loss, bounds=(low, high), method="bounded", options={"xatol": 1e-8})
    return round(float(np.exp(found.x)), 4)


def reliability(labels: Labels, given: Floats, bins: int) -> dict[str, NDArray[np.float64]]:
    """Return, for `bins` equal ranges (low, high] of confidence: low, high, n, confidence (mean), accuracy.

    Confidence is the probability of the predicted class. An empty range has NaN for the last two.
    """
    confidence = given.max(axis=1)
    right = given.argmax(axis=1) == labels
    edges = np.arange(bins + 1) / bins
    place = np.clip(np.searchsorted(edges, confidence, side="left") - 1, 0, bins - 1)
    n = np.bincount(place, minlength=bins)
    share = np.where(n > 0, n, np.nan)
    return {
        "low": edges[:-1],
        "high": edges[1:],
        "n": n.astype(np.float64),
        "confidence": np.bincount(place, confidence, bins) / share,
        "accuracy": np.bincount(place, right, bins) / share,
    }


def expected_calibration_error(labels: Labels, given: Floats, bins: int) -> float:
    """Return the mean distance between confidence and accuracy over ranges of confidence, weighted by images.

    Naeini et al. 2015; Guo et al. 2017 use 15 ranges. `labels` int64 [N] and `given` float64 [N, C], N > 0.
    """
    table = reliability(labels, given, bins)
    used = table["n"] > 0
    gaps = np.abs(table["confidence"] - table["accuracy"])[used]
    return float((gaps * table["n"][used]).sum() / len(labels))


def _log_softmax(scaled: Floats) -> Floats:
    shifted = scaled - scaled.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
