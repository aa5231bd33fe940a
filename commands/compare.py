"""`brainmri compare A B`: are two results on the same test images different, or is it noise?

Paired: an image counts only where one of the two is right and the other wrong (McNemar 1947, exact binomial form).
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
from scipy.stats import binomtest

from commands import reading
from commands.repository import cached, commit, find_root, git, here
from stages.evaluate.absent import without
from stages.shell.errors import InputError

PREDICTIONS = "data/predictions.csv"
SHOWN = 20  # images on which they differ, in the table


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "compare", help="tell a change of a metric from noise, on the same test images", description=__doc__
    )
    parser.add_argument(
        "a", metavar="REV_A", help="a branch, tag or commit, or an experiment's name; `.` is the workspace"
    )
    parser.add_argument("b", metavar="REV_B", help="likewise")
    parser.add_argument(
        "--study", metavar="DIR", help="the study, from the repository's root (default: the one you stand in)"
    )
    parser.add_argument("--study-b", metavar="DIR", help="the second one's, where it is another")
    parser.add_argument("--json", action="store_true", help="print JSON, with every image on which they differ")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Print how often each is right where the other is wrong, and how likely that is by chance."""
    root = find_root()
    study = args.study or here(root)
    study_b = args.study_b or study
    pairs = paired(predictions(root, args.a, study), predictions(root, args.b, study_b))
    clean = pairs[(pairs["leaked_a"] == "none") & (pairs["leaked_b"] == "none")]
    groups = {"all": pairs, "clean in both": clean}
    found = {name: mcnemar(group) for name, group in groups.items()}
    for name, group in groups.items():
        found[name]["absent"] = sorted(set(pairs["label"]) - set(group["label"]))
    differ = pairs[pairs["predicted_a"] != pairs["predicted_b"]]
    rows = differ[["path", "label", "predicted_a", "predicted_b"]].to_dict("records")
    print(json.dumps({"groups": found, "differ": rows}, indent=2) if args.json else table(found, rows))
    return 0


def predictions(root: Path, rev: str, study: str) -> pd.DataFrame:
    """Return a revision's predictions, out of DVC's cache; of the workspace if `rev` is `.`.

    Raises
    ------
    InputError
        If there is no such revision or study, or its predictions are not in the cache.
    """
    if rev == ".":
        path = root / study / PREDICTIONS
        if not path.is_file():
            raise InputError(f"{study}/{PREDICTIONS} is not there: run `dvc repro` or `dvc checkout` in {study}")
        return _table(path.read_bytes())
    digest = _digest(root, rev, study)
    path = cached(root / study, digest)
    if not path.is_file():
        raise InputError(
            f"predictions of {rev} ({digest[:12]}) are not in DVC's cache: run `dvc pull` or `dvc repro` there"
        )
    return _table(path.read_bytes())


def paired(a: pd.DataFrame, b: pd.DataFrame) -> pd.DataFrame:
    """Return both tables side by side, an image a row, columns with _a and _b."""
    if sorted(a["path"]) != sorted(b["path"]):
        raise InputError(
            f"not the same test images: {len(set(a['path']) - set(b['path']))} are only in the first, "
            f"{len(set(b['path']) - set(a['path']))} only in the second; only a pair can be compared"
        )
    columns = ["path", "label", "predicted", "leaked"]
    both = a[columns].merge(b[columns], on="path", suffixes=("_a", "_b"))
    if (both["label_a"] != both["label_b"]).any():
        raise InputError("the same images carry other labels in the two: only the same truth can be compared")
    return both.rename(columns={"label_a": "label"}).drop(columns="label_b").sort_values("path")


def mcnemar(pairs: pd.DataFrame) -> dict[str, Any]:
    """Return counts of both right, one right, none right; accuracies; and the two-sided exact p-value.

    Examples
    --------
    >>> table = {"label": list("xxxx"), "predicted_a": list("xxxy"), "predicted_b": list("yyyy")}
    >>> mcnemar(pd.DataFrame(table))["p"]
    0.25
    """
    right_a, right_b = pairs["predicted_a"] == pairs["label"], pairs["predicted_b"] == pairs["label"]
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    found: dict[str, Any] = {"n": len(pairs), "both_right": int((right_a & right_b).sum()), "only_a": only_a}
    found |= {"only_b": only_b, "both_wrong": int((~right_a & ~right_b).sum())}
    if len(pairs):
        found |= {"accuracy_a": float(right_a.mean()), "accuracy_b": float(right_b.mean())}
        found["p"] = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return found


def table(found: dict[str, dict[str, Any]], rows: list[dict[str, str]]) -> str:
    """Return what a person reads."""
    lines = []
    for name, group in found.items():
        if not group["n"]:
            lines.append(f"{name}: no image")
            continue
        change = group["accuracy_b"] - group["accuracy_a"]
        n = ", ".join(filter(None, [f"n = {group['n']:,}", without(group.get("absent", []))]))
        lines += [
            f"{name}: {n}, A {group['accuracy_a']:.2%}, B {group['accuracy_b']:.2%} ({change:+.2%})",
            f"  right: both {group['both_right']:,}, only A {group['only_a']}, only B {group['only_b']}, "
            f"none {group['both_wrong']}; p = {group['p']:.3g} (exact McNemar)",
        ]
        lines.append("  " + _verdict(group["p"]))
    lines += [
        f"{len(rows)} images are classified differently" + (f", the first {SHOWN}:" if len(rows) > SHOWN else ":")
    ]
    lines += [f"  {row['path']}: A {row['predicted_a']}, B {row['predicted_b']}" for row in rows[:SHOWN]]
    return "\n".join(lines)


def _verdict(p: float) -> str:
    if p < 0.05:
        return "more than chance alone would explain once in 20 times (for one comparison, not for the best of many)"
    return "no more than noise: so large a difference comes by chance more than once in 20 times"


def _digest(root: Path, rev: str, study: str) -> str:
    name = commit(root, rev)
    try:
        text = git(root, "show", f"{name}:./{study}/dvc.lock" if study != "." else f"{name}:dvc.lock")
    except InputError:
        raise InputError(f"{study}/dvc.lock is not in {rev}: expected the folder of a study that was run") from None
    outs = reading.stages(text, f"{study}/dvc.lock of {rev}").get("evaluate", {}).get("outs", [])
    for out in outs:
        if out["path"] == PREDICTIONS:
            return str(out["md5"])
    raise InputError(f"{study}/dvc.lock of {rev} has no {PREDICTIONS}: run `dvc repro` there and commit")


def _table(data: bytes) -> pd.DataFrame:
    return pd.read_csv(io.BytesIO(data), dtype=str, keep_default_na=False)
