"""Similarity of planted copies and of different pictures; recall and precision at the thresholds of params.yaml.

    python bench/audit_thresholds.py [--development 1 2 3] [--unseen 5001 5002 5003 5004 5005]
                                     [--out bench/results/audit_thresholds.json] [--plot docs/audit-similarity.png]

For each seed: 100 phantoms in Training; in Testing copies of 50 of them, each made in every way of tests/copying.py,
and 100 other phantoms. Thresholds were chosen on development seeds (and on neighbouring slices of real heads, see
docs/audit.md); recall and precision are of the unseen ones.
"""

import stages  # isort: skip  # noqa: F401 - pins the instruction set before numpy loads

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from copying import WAYS, derived, encoded, phantom  # noqa: E402

from stages.files import write_json  # noqa: E402
from stages.params import load  # noqa: E402
from stages.runtime import workers  # noqa: E402
from stages.verify import study  # noqa: E402
from stages.verify.schema import Params  # noqa: E402

PICTURES, COPIED = 100, 50


def plant(folder: Path, seed: int) -> dict[str, tuple[str, str]]:
    """Write one seed's files; return for each planted copy the training file it shows and what it must be called."""
    for split in ("Training", "Testing"):
        for label in ("copied", "other"):
            (folder / split / label).mkdir(parents=True)
    truth = {}
    for number in range(PICTURES):
        label = "copied" if number < COPIED else "other"
        (folder / f"Training/{label}/{number:03}.png").write_bytes(encoded(phantom(seed, number)))
        (folder / f"Testing/other/{number:03}.png").write_bytes(encoded(phantom(seed, 1000 + number)))
    for way, (_, kind) in WAYS.items():
        for number in range(COPIED):
            path = f"Testing/copied/{way}-{number:03}.png"
            (folder / path).write_bytes(encoded(derived(phantom(seed, number), way, number + 1000 * seed)))
            truth[path] = (f"Training/copied/{number:03}.png", kind)
    return truth


def measure(seed: int, params: Params) -> dict[str, Any]:
    with tempfile.TemporaryDirectory() as folder:
        truth = plant(Path(folder), seed)
        found = study.examine_study(Path(folder), params, workers())
    table = found.manifest.set_index("path")
    true: dict[str, list[Any]] = {way: [] for way in WAYS}
    for path, (source, kind) in truth.items():
        row = table.loc[path]
        # A gain of nearly 1 leaves every pixel as it was: that is called what it is.
        kinds = ("copy", "byte", "pixel") if kind == "copy" else (kind,)
        hit = row.twin_of == source and row.twin_kind in kinds
        true[path.split("/")[2].rsplit("-", 1)[0]].append((hit, float(row.similarity or -1)))
    others = table[table.index.str.startswith("Testing/other")]
    return {
        "seed": seed,
        "true": true,
        "different": [float(each or -1) for each in others.similarity],
        "false_pairs": false_pairs(found.pairs, truth),
        "pairs": len(found.pairs),
    }


def false_pairs(pairs: Any, truth: dict[str, tuple[str, str]]) -> int:
    """Count reported pairs that do not show one phantom."""
    shows = {path: source for path, (source, _) in truth.items()}
    return sum(shows.get(one, one) != shows.get(two, two) for one, two in zip(pairs.path, pairs.twin, strict=True))


def summary(points: list[dict[str, Any]]) -> dict[str, Any]:
    ways = {way: [hit for point in points for hit, _ in point["true"][way]] for way in WAYS}
    lowest = {way: min(value for point in points for _, value in point["true"][way]) for way in WAYS}
    pairs, false = (sum(point[key] for point in points) for key in ("pairs", "false_pairs"))
    return {
        "seeds": [point["seed"] for point in points],
        "planted": sum(map(len, ways.values())),
        "recall": {way: round(float(np.mean(hits)), 5) for way, hits in ways.items()},
        "lowest_similarity": lowest,
        "reported_pairs": pairs,
        "false_pairs": false,
        "precision": round(1 - false / pairs, 6),
        "highest_similarity_of_different": max(max(point["different"]) for point in points),
    }


def plot(points: list[dict[str, Any]], params: Params, path: Path) -> None:
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(7, 3.6), layout="constrained")
    bins = np.arange(0, 1.0001, 0.01).tolist()
    axes.hist([value for p in points for way in WAYS for _, value in p["true"][way]], bins, label="planted copies")
    axes.hist([max(value, 0) for p in points for value in p["different"]], bins, label="different pictures, nearest")
    axes.axvline(params.verify.twins.similarity, color="black", ls="--", label="threshold")
    axes.set(
        yscale="log",
        xlabel="similarity (0: outlines already differ)",
        ylabel="pairs",
        title="Phantoms, development seeds",
    )
    axes.legend(loc="upper center")
    figure.savefig(path, dpi=110, metadata={"Software": None})


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--development", type=int, nargs="+", default=[1, 2, 3])
    parser.add_argument("--unseen", type=int, nargs="+", default=[5001, 5002, 5003, 5004, 5005])
    parser.add_argument("--params", type=Path, default=ROOT / "params.yaml")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results/audit_thresholds.json")
    parser.add_argument("--plot", type=Path, default=ROOT / "docs/audit-similarity.png")
    options = parser.parse_args()
    verify = load(Params, options.params).verify.model_copy(update={"expected": None})
    params = Params(isa="avx2", classes=["copied", "other"], verify=verify)
    development, unseen = ([measure(seed, params) for seed in seeds] for seeds in (options.development, options.unseen))
    result = {"development": summary(development), "unseen": summary(unseen)}
    write_json(options.out, result)
    plot(development, params, options.plot)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
