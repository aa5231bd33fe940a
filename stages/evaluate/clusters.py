"""How far a score could be off by the choice of patients: 95 % intervals that draw whole clusters of images.

Slices of one head are no independent draws: a hundred images of five heads tell about as much as five. So heads are
drawn anew, each with all of its images: the cluster bootstrap (Rutter 2000, Bootstrap estimation of diagnostic accuracy
with patient-clustered data; Field and Welsh 2007, Bootstrapping clustered data).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from scipy.stats import norm, t

from stages.evaluate.intervals import CELLS, LEVEL, resamples, weighted_auc, wilson

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Scored = Callable[[Labels], Floats]  # how often each cluster counts, [B, K] -> scores [B, 3 + C]
OVERALL = ("accuracy", "f1", "auc")
NOWHERE = -1  # a stratum of clusters that a score does not depend on
FEWEST = 2  # clusters of a class: one tells nothing of how clusters differ


def joined(*columns: Sequence[str]) -> Labels:
    """Return the cluster of each image, int64 [N], from 0 in order of appearance.

    Images are in one cluster if they share an entry of any column, also where only a chain of images joins them. An
    empty entry joins nothing.

    Examples
    --------
    >>> joined(["Ann", "Ann", "", "", ""], ["1", "2", "2", "3", "3"]).tolist()
    [0, 0, 0, 1, 1]
    """
    here: list[int] = []
    there: list[int] = []
    for column in columns:
        first: dict[str, int] = {}
        for row, entry in enumerate(column):
            if entry:
                here.append(row)
                there.append(first.setdefault(entry, row))
    n = len(columns[0])
    if not n:
        return np.zeros(0, np.int64)
    _, found = connected_components(coo_matrix((np.ones(len(here)), (here, there)), (n, n)), directed=False)
    return pd.factorize(found)[0].astype(np.int64)


def intervals(
    labels: Labels, given: Floats, cluster: Labels, classes: list[str], *, seed: int, bootstrap: int
) -> dict[str, Any]:
    """Return 95 % intervals of accuracy, macro F1, macro AUC and each class's sensitivity over drawings of clusters.

    Parameters
    ----------
    labels, given, classes
        Class numbers int64 [N], probabilities float64 [N, C] and names, as for `scores`.
    cluster : int64 [N]
        From `joined`. Clusters are drawn with replacement within the class that most of their images are of, so that
        no class dies out.
    seed, bootstrap
        Of the drawings, and how many; 0: no intervals.

    Returns
    -------
    dict
        {accuracy_low, accuracy_high, f1_low, ..., sensitivity_low: {class: ...}, sensitivity_high: {class: ...}}.
        Where no drawing differs (every cluster wholly right, say) the interval would be a point: Wilson's, a cluster
        one trial, stands in for a share, and another score has none. With one cluster of a class there is none either.
    """
    if not bootstrap or not len(labels):
        return {}
    _, cluster = np.unique(cluster, return_inverse=True)
    tables = _confusions(labels, given.argmax(axis=1), cluster, len(classes))
    have = tables.sum(axis=2)
    strata = have.argmax(axis=1).astype(np.int64)
    drawn = _drawn(_scorer(labels, given, cluster, tables), strata, len(labels), seed, bootstrap)
    found: dict[str, Any] = {}
    for column, key in enumerate(OVERALL):
        if ends := drawn.interval(column, strata, share=key == "accuracy"):
            found[f"{key}_low"], found[f"{key}_high"] = ends
    for number, name in enumerate(classes):
        if ends := drawn.interval(len(OVERALL) + number, np.where(have[:, number] > 0, 0, NOWHERE), share=True):
            found.setdefault("sensitivity_low", {})[name], found.setdefault("sensitivity_high", {})[name] = ends
    return found


class Drawn(NamedTuple):
    """Scores, a column each, NaN where one is not defined: of drawings, of all clusters, and of all but each one."""

    drawings: Floats  # [R, S]
    whole: Floats  # [S]
    without: Floats  # [K, S]

    def interval(self, column: int, strata: Labels, share: bool) -> tuple[float, float] | None:
        """Return the interval of one score, which is a share of images or is not, if it has one.

        `strata` [K] says within which others each cluster was drawn; NOWHERE: the score does not depend on it.
        """
        kept = (strata != NOWHERE) & np.isfinite(self.without[:, column])
        strata = strata[kept]
        draws, whole = self.drawings[:, column], float(self.whole[column])
        draws = draws[np.isfinite(draws)]
        if not len(draws) or not len(strata) or np.unique(strata, return_counts=True)[1].min() < FEWEST:
            return None
        if np.ptp(draws) > 0:
            return expanded_bca(draws, whole, self.without[kept, column], strata)
        return wilson(round(whole * len(strata)), len(strata)) if share and whole in (0, 1) else None


def _drawn(scored: Scored, strata: Labels, images: int, seed: int, bootstrap: int) -> Drawn:
    return Drawn(
        np.concatenate([scored(weights) for weights in resamples(strata, bootstrap, seed, width=images)]),
        scored(np.ones((1, len(strata)), np.int64))[0],
        np.concatenate([scored(weights) for weights in _each_left_out(len(strata), images)]),
    )


def expanded_bca(draws: Floats, whole: float, without: Floats, strata: Labels) -> tuple[float, float]:
    """Return the BCa interval of bootstrap draws [R] of a score that is `whole`, and `without` [K] each cluster.

    Efron 1987, Better bootstrap confidence intervals; the acceleration over strata from Davison and Hinkley 1997, 5.3.
    A bootstrap of few clusters varies too little, by (n - 1) / n and by the normal's tail in place of Student's:
    Hesterberg 2015, What teachers should know about the bootstrap, widens the quantiles by just that.
    """
    cubes = squares = 0.0
    groups = np.unique(strata)
    for number in groups:
        rest = without[strata == number]
        influence = (len(rest) - 1) * (rest.mean() - rest) / len(rest)
        cubes, squares = cubes + float((influence**3).sum()), squares + float((influence**2).sum())
    bend = cubes / (6 * squares**1.5) if squares > 0 else 0.0
    n, free = len(without), len(without) - len(groups)
    reach = float(t.ppf((1 + LEVEL) / 2, free)) * (n / free) ** 0.5
    below = (np.count_nonzero(draws < whole) + np.count_nonzero(draws == whole) / 2) / len(draws)
    middle = float(norm.ppf(min(max(below, 1 / len(draws)), 1 - 1 / len(draws))))
    ends = [middle + (middle + z) / max(1 - bend * (middle + z), 0.1) for z in (-reach, reach)]
    low, high = np.quantile(draws, np.sort(norm.cdf(ends)))
    return float(low), float(high)


def _confusions(labels: Labels, predicted: Labels, cluster: Labels, classes: int) -> Labels:
    """Return how many images of each cluster and class were called what, int64 [K, C, C]."""
    tables = np.zeros((int(cluster.max(initial=-1)) + 1, classes, classes), np.int64)
    np.add.at(tables, (cluster, labels, predicted), 1)
    return tables


def _each_left_out(clusters: int, width: int) -> Iterator[Labels]:
    block = max(1, CELLS // width)
    for start in range(0, clusters, block):
        rows = np.arange(start, min(start + block, clusters))
        weights = np.ones((len(rows), clusters), np.int64)
        weights[np.arange(len(rows)), rows] = 0
        yield weights


def _scorer(labels: Labels, given: Floats, cluster: Labels, tables: Labels) -> Scored:
    """Return a function to accuracy, macro F1, macro AUC and sensitivities; NaN where a class has no image after all.

    F1 and AUC are means over the classes that have images, as in `scores`.
    """
    of = np.unique(labels)

    def scored(weights: Labels) -> Floats:
        counts = np.tensordot(weights, tables, 1)
        right, support = np.diagonal(counts, axis1=1, axis2=2), counts.sum(axis=2)
        images = weights[:, cluster]
        with np.errstate(invalid="ignore", divide="ignore"):
            accuracy = right.sum(axis=1) / support.sum(axis=1)
            f1 = (2 * right / (support + counts.sum(axis=1)))[:, of].mean(axis=1)
            areas = [weighted_auc(labels == number, given[:, number], images) for number in of]
            auc = np.mean(areas, axis=0) if len(of) > 1 else np.full(len(weights), np.nan)
            return np.column_stack([accuracy, f1, auc, right / support])

    return scored
