"""Nearest neighbours among very many descriptors, without comparing all with all.

An inverted file (Jegou et al. 2011; faiss IndexIVFScalarQuantizer): descriptors are put into about 4 sqrt(N) clusters,
and a query is compared with those of the nearest PROBES clusters alone, so the work grows as N ** 1.5. Every query is
asked in all eight turns, and a pair can be found from either side. Products are of integers below 2**24, thus exact.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import Executor
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from stages.runtime import ordered
from stages.verify.describe import CELLS, UNIT
from stages.verify.turns import TURNS, turned

PROBES = 12
THREADS = 2  # of k-means, always, whatever the cores: what it sums up must not depend on the machine
QUERIES = 8192  # at a time
SAMPLE = 64  # descriptors a cluster that k-means sees

Ints = NDArray[np.int64]
Descriptors = NDArray[np.int8]  # [N, CELLS * CELLS]


def build(stored: Descriptors, path: Path) -> None:
    """Write the index of `stored`, for `search`; an empty file where nothing is stored."""
    if not len(stored):
        path.touch()
        return
    faiss = _faiss(THREADS)
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
    faiss.write_index(index, str(path))


def search(
    queries: Path, index: Path, k: int, floor: float, pool: Executor, turns: int = len(TURNS)
) -> Iterator[tuple[Ints, Ints, Ints]]:
    """Yield (query, stored, product) of the k nearest whose cosine is at least `floor`; products times four.

    `queries` are descriptors in a .npy, of any shape [..., CELLS * CELLS]; `pool` is asked block by block, in the first
    so many turns. A block's answer is a function of the two files, so it does not matter who gives it.
    """
    if not index.stat().st_size:
        return
    total = np.load(queries, mmap_mode="r").size // (CELLS * CELLS)
    work = partial(_asked, queries=queries, index=index, k=k, floor=floor, turns=turns)
    yield from ordered(pool, work, range(0, total, QUERIES))


def _faiss(threads: int) -> Any:
    import faiss

    faiss.omp_set_num_threads(threads)
    faiss.SIMDConfig.set_level(faiss.SIMDLevel_AVX2)  # it chooses kernels by itself; k-means' sums differ with them
    return faiss


@lru_cache(maxsize=1)
def _opened(index: Path) -> Any:
    """Map the index once in each worker: those of one machine share its pages."""
    faiss = _faiss(1)
    return faiss.read_index(str(index), faiss.IO_FLAG_MMAP)


os.register_at_fork(before=_opened.cache_clear)  # faiss' maps do not outlive a fork: to touch or close one is a fault


def _asked(start: int, queries: Path, index: Path, k: int, floor: float, turns: int) -> tuple[Ints, Ints, Ints]:
    """Ask for one block of queries in the first so many turns."""
    found = []
    block = np.load(queries, mmap_mode="r").reshape(-1, CELLS * CELLS)[start : start + QUERIES]
    for turn in range(turns):
        products, stored = _opened(index).search(turned(block, turn, CELLS).astype(np.float32), k)
        at, rank = np.nonzero((stored >= 0) & (products >= floor * UNIT * UNIT))
        found.append((at + start, stored[at, rank], 4 * products[at, rank].astype(np.int64)))
    one, two, product = (np.concatenate(part) for part in zip(*found, strict=True))
    return one, two, product
