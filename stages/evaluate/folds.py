"""Folds of a cross-validation: what is theirs, and how far their scores lie apart."""

from __future__ import annotations

import shutil
from collections.abc import Collection
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from stages.evaluate.scores import ROUNDED, scores

SPREAD = ("accuracy", "f1", "auc", "log_loss")


def sweep(folder: Path, parts: Collection[str]) -> None:
    """Remove from a folder that holds folds' folders what is of none of `parts`: DVC hashes the folder whole.

    Where folds were more before, or one alone, DVC leaves what those made.
    """
    kept = {Path(f"{folder}{part}") for part in parts}
    for path in sorted(folder.rglob("*"), reverse=True):
        if not any(path == each or each in path.parents or path in each.parents for each in kept):
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def spread(labels: NDArray[np.int64], given: NDArray[np.float64], fold: NDArray[Any], classes: list[str]) -> Any:
    """Return {score: {mean, std, of: {fold: score}}} over the folds in which it is defined; {n: {fold: images}} beside.

    `fold` [N] names each image's. The standard deviation is that of a sample; none where there is one fold.
    """
    each = {
        str(name): scores(labels[fold == name], given[fold == name], classes, seed=0, bootstrap=0, bins=2)
        for name in dict.fromkeys(fold.tolist())
    }
    found: dict[str, Any] = {"n": {name: of["n"] for name, of in each.items()}}
    for key in SPREAD:
        of = {name: score[key] for name, score in each.items() if key in score}
        if of:
            values = list(of.values())
            found[key] = {"mean": round(float(np.mean(values)), ROUNDED), "of": of}
            found[key] |= {"std": round(float(np.std(values, ddof=1)), ROUNDED)} if len(of) > 1 else {}
    return found


def mean_history(histories: list[pd.DataFrame]) -> pd.DataFrame:
    """Return the folds' curves, an epoch a row, as their mean over the folds that got so far; one fold's as it is."""
    if len(histories) == 1:
        return histories[0]
    return pd.concat(histories).groupby("epoch", as_index=False).mean()
