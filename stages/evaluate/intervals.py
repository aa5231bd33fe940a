"""How far a score could be off by the choice of test images: 95 % intervals."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray
from scipy.stats import binomtest

LEVEL = 0.95
CELLS = 4_000_000  # weights held at once while resampling: 32 MB


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Return Wilson's score interval of a proportion, n > 0; it stays inside 0..1 and is honest near both ends."""
    interval = binomtest(successes, n).proportion_ci(LEVEL, method="wilson")
    return float(interval.low), float(interval.high)


def bootstrap_aucs(
    labels: NDArray[np.int64], scores: NDArray[np.float64], of: list[int], count: int, seed: int
) -> NDArray[np.float64]:
    """Return one-vs-rest AUCs of the classes `of` in resampled test sets, [count, len(of)].

    Images are drawn with replacement within each class, so that none dies out. Every class is scored on the same
    resamples, so the rows may be averaged for the macro AUC. `labels` [N] are class numbers, `scores` [N, C].
    """
    blocks = [
        np.stack([weighted_auc(labels == number, scores[:, number], weights) for number in of], axis=1)
        for weights in resamples(labels, count, seed)
    ]
    return np.concatenate(blocks) if blocks else np.zeros((0, len(of)))


def percentile_interval(draws: NDArray[np.float64]) -> tuple[float, float]:
    """Return the middle 95 % of bootstrap draws."""
    low, high = np.quantile(draws, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    return float(low), float(high)


def weighted_auc(
    positive: NDArray[np.bool_], score: NDArray[np.float64], weights: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the area under the ROC curve for each row of image counts, weights [B, N] -> [B].

    The share of (positive, negative) pairs that `score` puts in the right order, ties counting half. In whole numbers
    up to the last division, so exact; scikit-learn's would have to be called once a resample.
    """
    order = np.argsort(score, kind="stable")
    starts = np.flatnonzero(np.r_[True, np.diff(score[order]) > 0])  # of each run of equal scores
    ordered, is_positive = weights[:, order], positive[order]
    for_positive = np.add.reduceat(ordered * is_positive, starts, axis=1)
    for_negative = np.add.reduceat(ordered * ~is_positive, starts, axis=1)
    below = np.cumsum(for_negative, axis=1) - for_negative
    twice = (for_positive * (2 * below + for_negative)).sum(axis=1)
    return twice / (2 * for_positive.sum(axis=1) * for_negative.sum(axis=1))


def resamples(
    strata: NDArray[np.int64], count: int, seed: int, width: int | None = None
) -> Iterator[NDArray[np.int64]]:
    """Yield how often each item (image, or cluster of images) was drawn, [some, N], until there are `count` rows.

    Items are drawn with replacement within each stratum, [N]. `width` is how many numbers a row will become.
    """
    random = np.random.Generator(np.random.PCG64(seed))
    members = [np.flatnonzero(strata == number) for number in np.unique(strata)]
    block = max(1, CELLS // (width or len(strata)))
    for start in range(0, count, block):
        rows = min(block, count - start)
        weights = np.zeros((rows, len(strata)), np.int64)
        for items in members:
            drawn = items[random.integers(0, len(items), (rows, len(items)))]
            np.add.at(weights, (np.arange(rows)[:, None], drawn), 1)
        yield weights
