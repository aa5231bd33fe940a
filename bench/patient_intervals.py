"""How often intervals cover the truth, by patient and by slice: python bench/patient_intervals.py

Simulated test sets, whose truth is known: four classes, 2 to 40 slices a patient, and for each patient an own chance
that a slice is told right, logistic(mean + spread * normal). An interval of 95 % should cover in 95 %. Writes
bench/results/patient_intervals.json.
"""

from __future__ import annotations

import argparse
import sys
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
import stages  # noqa: E402, F401, I001  it pins the instruction set before NumPy is loaded

import numpy as np  # noqa: E402
from numpy.typing import NDArray  # noqa: E402

from stages import runtime  # noqa: E402
from stages.evaluate import clusters  # noqa: E402
from stages.evaluate.intervals import wilson  # noqa: E402
from stages.files import write_json  # noqa: E402

CLASSES = list("abcd")
SETTINGS = [(patients, mean, spread) for patients in (8, 15, 50) for mean, spread in ((2.0, 1.0), (3.5, 2.0))]
SETTINGS.append((50, 2.0, 0.0))  # slices as good as independent: both should cover


def truth(mean: float, spread: float) -> float:
    """Return the accuracy over all patients that there could be."""
    points, weights = np.polynomial.hermite_e.hermegauss(80)
    return float(weights @ (1 / (1 + np.exp(-(mean + spread * points)))) / weights.sum())


def drawn(seed: int, patients: int, mean: float, spread: float) -> tuple[NDArray, NDArray, NDArray]:
    """Return a test set: labels [N], answers as probabilities [N, 4], whose slice each is [N]."""
    random = np.random.default_rng(seed)
    each = random.integers(2, 41, patients * len(CLASSES))
    chance = 1 / (1 + np.exp(-(mean + spread * random.standard_normal(len(each)))))
    cluster = np.repeat(np.arange(len(each)), each)
    labels = cluster // patients
    right = random.random(len(labels)) < chance[cluster]
    return labels, np.eye(4)[np.where(right, labels, (labels + random.integers(1, 4, len(labels))) % 4)], cluster


def one(seed: int, patients: int, mean: float, spread: float) -> tuple[bool, bool, float, float]:
    """Return whether each interval of accuracy covers, the share of the classes' that do, and the ratio of widths."""
    labels, given, cluster = drawn(seed, patients, mean, spread)
    found = clusters.intervals(labels, given, cluster, CLASSES, seed=seed, bootstrap=500)
    low, high = wilson(int((labels == given.argmax(axis=1)).sum()), len(labels))
    wanted, ends = truth(mean, spread), (found["accuracy_low"], found["accuracy_high"])
    of_class = [found["sensitivity_low"][name] <= wanted <= found["sensitivity_high"][name] for name in CLASSES]
    ratio = (ends[1] - ends[0]) / (high - low)
    return ends[0] <= wanted <= ends[1], low <= wanted <= high, float(np.mean(of_class)), ratio


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--sets", type=int, default=200, help="test sets for each setting")
    args = parser.parse_args()
    rows: list[dict[str, Any]] = []
    with ProcessPoolExecutor(runtime.workers()) as pool:
        for patients, mean, spread in SETTINGS:
            work = partial(one, patients=patients, mean=mean, spread=spread)
            by_patient, by_slice, of_class, ratio = np.mean(list(pool.map(work, range(args.sets))), axis=0)
            row = {"patients_per_class": patients, "accuracy": truth(mean, spread), "spread": spread}
            row |= {"by_patient": by_patient, "by_slice": by_slice, "sensitivity_by_patient": of_class, "width": ratio}
            rows.append({key: round(float(value), 4) for key, value in row.items()})
            figures = (f"{value:.1%}" for value in (row["accuracy"], by_slice, by_patient, of_class))
            print(f"| {patients} | {' | '.join(figures)} | {ratio:.1f} |", flush=True)
    write_json(ROOT / "bench/results/patient_intervals.json", {"sets": args.sets, "settings": rows})


if __name__ == "__main__":
    main()
