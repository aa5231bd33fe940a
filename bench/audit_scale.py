"""How the search for copies grows with the number of descriptors, and what it misses.

    python bench/audit_scale.py [--sizes 10000 30000 100000 300000 1000000] [--queries 10000]
                                [--out bench/results/audit_scale.json] [--plot docs/audit-scale.png]

Descriptors are synthetic: 400 smooth layouts (as planes and levels of heads are), a smooth deformation of each for
every head, noise, and for one in ten a noisy copy under a random flip or turn. Up to --exact-up-to, all with all is
timed too.
Recall is of the index against exact search, over all of the sampled queries' 8 nearest neighbours with a cosine of at
least 0.8: copies lie there.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # or waiting threads count as work on a busy machine

import stages  # isort: skip  # noqa: F401 - pins the instruction set before numpy loads

import argparse
import math
import resource
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from stages import runtime
from stages.files import write_json
from stages.verify.describe import CELLS, SIDE, UNIT, descriptor
from stages.verify.index import build, search
from stages.verify.search import best_products, close, nearest_k, parts
from stages.verify.turns import turned

FLOOR, K, TILE = 0.6, 24, 1024  # as the stage has them
Descriptors = NDArray[np.int8]


def smooth(generator: np.random.Generator, count: int, coarse: int) -> NDArray[np.float32]:
    """Random fields [count, CELLS, CELLS], bilinear from coarse x coarse normal numbers."""
    at = np.linspace(0, coarse - 1, CELLS)
    weights = np.maximum(1 - np.abs(at[:, None] - np.arange(coarse)), 0).astype(np.float32)
    return weights @ generator.standard_normal((count, coarse, coarse), np.float32) @ weights.T


def described(levels: NDArray[np.float32]) -> Descriptors:
    ratio = SIDE // CELLS
    grey = np.clip(levels * 40 + 128, 0, 255).astype(np.uint8)
    return descriptor(grey.repeat(ratio, axis=1).repeat(ratio, axis=2))


def synthetic(count: int, seed: int) -> Descriptors:
    generator = np.random.default_rng(seed)
    layouts = smooth(generator, 400, 6)
    blocks = []
    for start in range(0, count, 2000):
        many = min(2000, count - start)
        heads = layouts[generator.integers(0, 400, many)] + 0.7 * smooth(generator, many, 9)
        heads += 0.25 * generator.standard_normal(heads.shape, np.float32)
        block = described(heads)
        copies = many // 10
        noisy = heads[:copies] + 0.15 * generator.standard_normal(heads[:copies].shape, np.float32)
        again = described(noisy)
        for number, turn in enumerate(generator.integers(0, 8, copies)):
            block[copies + number] = turned(again[number : number + 1], int(turn), CELLS)[0]
        blocks.append(block)
    return np.concatenate(blocks)


def exact(found: Descriptors) -> Iterator[int]:
    """All with all, in tiles, one process; yields the number of close pairs of each tile."""
    split = parts(found)
    starts = range(0, len(found), TILE)
    for one in starts:
        for two in starts:
            if one <= two:
                left, right, product = close(split[:, one : one + TILE], split[:, two : two + TILE], FLOOR)
                yield int(nearest_k(left, right, product, K).sum())


def indexed(found: Descriptors) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    with tempfile.TemporaryDirectory() as folder, runtime.Processes(runtime.workers()) as pool:
        queries, index = Path(folder, "queries.npy"), Path(folder, "index")
        np.save(queries, found)
        build(found, index)
        pairs = [(one, two) for one, two, _ in search(queries, index, K, FLOOR, pool)]
    one, two = (np.concatenate(each) for each in zip(*pairs, strict=True))
    return np.concatenate([one, two]), np.concatenate([two, one])


def recall(found: Descriptors, one: NDArray[np.int64], two: NDArray[np.int64], queries: int) -> tuple[float, int]:
    """Return the share of exact neighbours of sampled queries that the index found, and how many these are."""
    sample = np.sort(np.random.default_rng(5).choice(len(found), min(queries, len(found)), replace=False))
    known = np.unique(one * len(found) + two)
    split, asked = parts(found), parts(found[sample])
    keys = []
    for start in range(0, len(sample), 256):
        rows, columns, values = [], [], []
        for at in range(0, len(found), 65536):
            products = best_products(asked[:, start : start + 256], split[:, at : at + 65536])
            row, column = np.nonzero(products >= 0.8 * 4 * UNIT * UNIT)
            rows.append(sample[start + row])
            columns.append(column + at)
            values.append(products[row, column].astype(np.int64))
        row, column, value = (np.concatenate(each) for each in (rows, columns, values))
        other = row != column
        row, column, value = row[other], column[other], value[other]
        best = nearest_k(row, column, value, 8)
        keys.append(row[best] * len(found) + column[best])
    wanted = np.concatenate(keys)
    return float(np.isin(wanted, known).mean()), len(wanted)


def cpu() -> float:
    """Seconds of work of this process and of those that it started and that have ended."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(each.ru_utime + each.ru_stime for each in used)


def measure(size: int, queries: int, exact_up_to: int) -> dict[str, float]:
    found = synthetic(size, seed=1)
    start, work = time.perf_counter(), cpu()
    one, two = indexed(found)
    point = {
        "descriptors": size,
        "index_s": round(time.perf_counter() - start, 1),
        "index_cpu_s": round(cpu() - work, 1),
    }
    if size <= exact_up_to:
        work = time.process_time()
        sum(exact(found))
        point["exact_cpu_s"] = round(time.process_time() - work, 1)
    point["peak_gib"] = round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20, 2)
    share, count = recall(found, one, two, queries)
    return point | {"recall": round(share, 5), "neighbours_checked": count}


def plot(points: list[dict[str, float]], path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 4), layout="constrained")
    sizes = np.array([point["descriptors"] for point in points])
    seconds = np.array([point["index_cpu_s"] for point in points])
    axes.loglog(sizes, seconds, "o-", label="index of clusters")
    every = [(p["descriptors"], p["exact_cpu_s"]) for p in points if "exact_cpu_s" in p]
    if every:
        axes.loglog(*zip(*every, strict=True), "s-", label="all with all")
    axes.loglog(sizes, seconds[0] * (sizes / sizes[0]) ** 2, ":", color="grey", label="quadratic")
    axes.loglog(sizes, seconds[0] * (sizes / sizes[0]), "--", color="grey", label="linear")
    axes.set(xlabel="descriptors", ylabel="seconds of one core", title="Search for copies: growth")
    axes.legend()
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 30_000, 100_000, 300_000, 1_000_000])
    parser.add_argument("--queries", type=int, default=10_000)
    parser.add_argument("--exact-up-to", type=int, default=50_000)
    parser.add_argument("--out", type=Path, default=Path("bench/results/audit_scale.json"))
    parser.add_argument("--plot", type=Path, default=Path("docs/audit-scale.png"))
    options = parser.parse_args()
    points = []
    for size in options.sizes:
        points.append(measure(size, options.queries, options.exact_up_to))
        print(points[-1], flush=True)
        ends = points[0], points[-1]
        ratio = ends[1]["descriptors"] / ends[0]["descriptors"]
        power = math.log(ends[1]["index_cpu_s"] / ends[0]["index_cpu_s"], ratio) if len(points) > 1 else 0
        write_json(options.out, {"points": points, "growth_exponent": round(power, 3)})
    plot(points, options.plot)


if __name__ == "__main__":
    main()
