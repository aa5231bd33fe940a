"""How many pictures a new file moves to another part, by patient: python bench/parts_moved.py STUDY

Reads the manifest of a study that has been run up to verify. For each seed, files are added one at a time, half of them
to heads that are there (a picture of its own of that patient or group), half as new people; counted are the pictures of
other heads whose part changes. Beside it the same with scikit-learn's StratifiedGroupKFold, shuffled, and how evenly
both divide the classes. Writes bench/results/parts_moved.json.
"""

from __future__ import annotations

import argparse
import hashlib
import random
import statistics
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))
import stages  # noqa: E402, F401, I001  it pins the instruction set before NumPy is loaded

import numpy as np  # noqa: E402
import pandas as pd  # noqa: E402
from sklearn.model_selection import StratifiedGroupKFold  # noqa: E402

from stages.files import write_json  # noqa: E402
from stages.prepare.parts import divide, heads, least_altered, weighed  # noqa: E402

PARTS, SEEDS = 5, (0, 1, 2)
Divided = Callable[[pd.DataFrame, pd.DataFrame, int], pd.Series]  # images with `head`, those used, seed: parts by path


def ours(images: pd.DataFrame, used: pd.DataFrame, seed: int) -> pd.Series:
    groups = weighed(used).assign(sha256=images.groupby("head")["sha256"].min())
    return used.set_index("path")["head"].map(divide(groups, [1] * PARTS, f"{seed}"))


def sklearns(_: pd.DataFrame, used: pd.DataFrame, seed: int) -> pd.Series:
    parts = pd.Series(0, used["path"])
    folds = StratifiedGroupKFold(PARTS, shuffle=True, random_state=seed)
    for number, (_, test) in enumerate(folds.split(used, used["label"], used["head"])):
        parts.iloc[test] = number
    return parts


def divided(table: pd.DataFrame, unique: bool, seed: int, way: Divided) -> pd.DataFrame:
    """Return path, label, head and part of the pictures used."""
    images = table.assign(head=heads(table))
    used = images[images["path"].isin(least_altered(images))] if unique else images
    return used.set_index("path")[["label", "head"]].assign(part=way(images, used, seed))


def with_one_more(table: pd.DataFrame, draw: random.Random, known: bool) -> pd.DataFrame:
    """Return the table with a new picture, of somebody in it or of a new person."""
    row = table.iloc[draw.randrange(len(table))].copy()
    name = f"{draw.random()}"
    row["path"], row["sha256"] = f"{row['label']}/{name}", hashlib.sha256(name.encode()).hexdigest()
    if not known:
        row["patient"] = name
    if not known or row["patient"]:
        row["group"] = table["group"].max() + 1
    return pd.concat([table, row.to_frame().T.astype(table.dtypes)], ignore_index=True)


def moved(table: pd.DataFrame, unique: bool, seed: int, way: Divided, additions: int) -> list[int]:
    """Return for each file added how many pictures of other heads are in another part than before."""
    before, draw, counts = divided(table, unique, seed, way), random.Random(seed), []
    for number in range(additions):
        after = divided(with_one_more(table, draw, number % 2 == 0), unique, seed, way)
        own = set(after.loc[~after.index.isin(before.index), "head"])
        both = after[~after["head"].isin(own)].join(before["part"].rename("before"), how="inner")
        counts.append(int((both["part"] != both["before"]).sum()))
    return counts


def uneven(table: pd.DataFrame, unique: bool, seed: int, way: Divided) -> float:
    """Return by how much of its even share the most uneven part of a class differs from it."""
    counts = divided(table, unique, seed, way).groupby(["label", "part"]).size().unstack(fill_value=0)
    return float((counts.sub(counts.mean(axis=1), axis=0).abs().max(axis=1) / counts.mean(axis=1)).max())


def measured(table: pd.DataFrame, additions: int) -> dict[str, Any]:
    result: dict[str, Any] = {}
    for name, way, each in (("ours", ours, additions), ("StratifiedGroupKFold", sklearns, max(1, additions // 10))):
        for unique in (True, False):
            counts = [count for seed in SEEDS for count in moved(table, unique, seed, way, each)]
            result[f"{name}, {'one picture a group' if unique else 'all files'}"] = {
                "pictures": len(divided(table, unique, 0, way)),
                "added": len(counts),
                "median": statistics.median(counts),
                "mean": round(statistics.mean(counts), 2),
                "one_in_ten_over": float(np.quantile(counts, 0.9)),
                "most": max(counts),
                "uneven": [round(uneven(table, unique, seed, way), 4) for seed in SEEDS],
            }
    return result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path)
    parser.add_argument("--additions", type=int, default=60, help="files added for each seed")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results/parts_moved.json")
    args = parser.parse_args()
    table = pd.read_csv(args.study / "data/manifest.csv", keep_default_na=False, dtype={"label": str, "patient": str})
    table = table[table["status"] == "ok"].reset_index(drop=True)
    result = measured(table, args.additions)
    write_json(args.out, result)
    for name, row in result.items():
        print(name, row)


if __name__ == "__main__":
    main()
