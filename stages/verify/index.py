"""Nearest neighbours among very many descriptors, without comparing all with all.

An inverted file (Jegou et al. 2011; faiss IndexIVFScalarQuantizer): descriptors are put into about 4 sqrt(N) clusters,
and a query is compared with those of the nearest PROBES clusters alone, so the work grows as N ** 1.5. Every query is
asked in all eight turns, and a pair can be found from either side. Products are of integers below 2**24, thus exact.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from stages.verify.describe import CELLS, UNIT
from stages.verify.turns import TURNS, turned

PROBES = 12
THREADS = 2  # always, whatever the cores: what k-means sums up must not depend on the machine
QUERIES = 8192  # at a time
SAMPLE = 64  # descriptors a cluster that k-means sees

Ints = NDArray[np.int64]
Descriptors = NDArray[np.int8]  # [N, CELLS * CELLS]


def search(
    queries: Descriptors, stored: Descriptors, k: int, floor: float, turns: int = len(TURNS)
) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Yield (query, stored, product) of the k nearest whose cosine is at least `floor`; products times four."""
    import faiss

    if not len(stored):
        return
    faiss.omp_set_num_threads(THREADS)
    faiss.SIMDConfig.set_level(faiss.SIMDLevel_AVX2)  # it chooses kernels by itself; k-means' sums differ with them
    clusters = min(len(stored), int(4 * len(stored) ** 0.5))
    # int8 as it is, not quantised again: a quarter of the memory to read, which is what takes the time.
    index = faiss.IndexIVFScalarQuantizer(
        faiss.IndexFlatIP(CELLS * CELLS),
        CELLS * CELLS,
        clusters,
        faiss.ScalarQuantizer.QT_8bit_direct_signed,
        faiss.METRIC_INNER_PRODUCT,
        False,  # by_residual: products of the descriptors themselves are wanted
    )
    index.cp.seed, index.cp.niter, index.cp.max_points_per_centroid = 1, 10, SAMPLE
    index.cp.min_points_per_centroid = 1
    step = max(1, len(stored) // (SAMPLE * clusters))
    index.train(stored[::step].astype(np.float32))
    for start in range(0, len(stored), QUERIES):
        index.add(stored[start : start + QUERIES].astype(np.float32))
    index.nprobe = PROBES
    for start in range(0, len(queries), QUERIES):
        yield _asked(index, queries[start : start + QUERIES], start, k, floor, turns)


def _asked(
    index: object, queries: Descriptors, start: int, k: int, floor: float, turns: int
) -> tuple[Ints, Ints, Ints]:
    """Ask for one block of queries in the first so many turns."""
    found = []
    for turn in range(turns):
        products, stored = index.search(turned(queries, turn, CELLS).astype(np.float32), k)  # type: ignore[attr-defined]
        at, rank = np.nonzero((stored >= 0) & (products >= floor * UNIT * UNIT))
        found.append((at + start, stored[at, rank], 4 * products[at, rank].astype(np.int64)))
    one, two, product = (np.concatenate(part) for part in zip(*found, strict=True))
    return one, two, product
