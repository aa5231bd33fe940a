"""metrics/integrity.csv: what the data set is made of, in numbers."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pandas as pd

from stages.verify.manifest import ORDER
from stages.verify.scan import splits_of


def integrity(manifest: pd.DataFrame, pairs: pd.DataFrame, neighbours: pd.DataFrame) -> dict[str, Any]:
    """Return counts, nested: no lists, nothing missing. Which files they are, data/manifest.csv and pairs.csv tell."""
    good = manifest[manifest.status == "ok"]
    sizes = good.groupby("group").size()
    equal = good.groupby(["sha256", "frame"] if "frame" in good else "sha256").size()
    splits = splits_of({"split": split} for split in manifest.split.unique())
    return {
        "files": len(manifest),
        "quarantined": len(manifest) - len(good),
        "counts": {split: _counts(manifest[manifest.split == split].label) for split in splits},
        "distinct_files": int(manifest.sha256.nunique()),
        "distinct_pictures": int(good.group.nunique()),
        "byte_groups": int((equal > 1).sum()),
        "twin_groups": int((sizes > 1).sum()),
        "twin_pairs": _counts(pairs.kind, ORDER),
        "label_conflicts": _conflicts(good, pairs),
        "leaked": _leaked(good),
        "patients": _patients(good),
        "neighbours": _neighbours(good, neighbours),
        **({"validation": _validation(good)} if len(splits) > 2 else {}),
    }


def _counts(values: pd.Series, names: tuple[str, ...] = ()) -> dict[str, int]:
    found = Counter(values.tolist())
    return {name: int(found[name]) for name in names or sorted(found)} | {"all": int(found.total())}


def _conflicts(good: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, int]:
    labels = good.groupby("group").label.nunique()
    return {"groups": int((labels > 1).sum()), "pairs": int((pairs.label != pairs.twin_label).sum())}


def _leaked(good: pd.DataFrame) -> dict[str, Any]:
    """Count test files with a direct twin in Training, by class and kind."""
    test = good[good.split == "Testing"]
    leaked = test[test.twin_in_training == 1]
    by_class = {label: _counts(leaked[leaked.label == label].twin_kind, ORDER) for label in sorted(test.label.unique())}
    return {
        "by_class": by_class,
        "by_kind": _counts(leaked.twin_kind, ORDER),
        "test_files": len(test),
        "share": round(len(leaked) / max(len(test), 1), 4),
        "training_files_with_twin_in_testing": int(((good.split == "Training") & (good.twin_in_testing == 1)).sum()),
    }


def _validation(good: pd.DataFrame) -> dict[str, Any]:
    """Count given validation files, and those with a direct twin in Training or in Testing."""
    given = good[good.split == "Validation"]
    return {
        "files": len(given),
        "files_with_twin_in_training": int((given.twin_in_training == 1).sum()),
        "by_kind": _counts(given[given.twin_in_training == 1].twin_kind, ORDER),
        "files_with_twin_in_testing": int((given.twin_in_testing == 1).sum()),
    }


def _patients(good: pd.DataFrame) -> dict[str, Any]:
    """Count test files by what Training and Validation have of their patients: images, none, or nobody knows."""
    known = good[good.patient != ""]
    test, trained = good[good.split == "Testing"], set(known[known.split != "Testing"].patient)
    told = test.patient != ""
    kinds = {"known": told & test.patient.isin(trained), "new": told & ~test.patient.isin(trained), "unknown": ~told}
    labels = tuple(sorted(test.label.unique()))
    return {
        "patients": int(known.patient.nunique()),
        "files": len(known),
        "in_two_classes": int((known.groupby("patient").label.nunique() > 1).sum()),
        "test_files": {name: _counts(test[rows].label, labels) for name, rows in kinds.items()},
        "without_copy": {name: int((rows & (test.twin_in_training == 0)).sum()) for name, rows in kinds.items()},
    }


def _neighbours(good: pd.DataFrame, pairs: pd.DataFrame) -> dict[str, Any]:
    """Count test files with a slice of the same head in Training, by class; and those of them without a copy there."""
    test = good[good.split == "Testing"]
    near = test[test.neighbour_of != ""]
    return {
        "by_class": _counts(near.label, tuple(sorted(test.label.unique()))),
        "without_copy": int((near.twin_in_training == 0).sum()),
        "pairs": len(pairs),
    }
