"""`brainmri compare A B`: are two results on the same test images different, or is it noise?

Paired: an image counts only where one of the two is right and the other wrong (McNemar 1947, exact binomial form).
Where patients are known, slices of one head count together: a permutation test over patients, exact as well.
"""

from __future__ import annotations

import argparse
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.stats import binomtest

from commands import reading
from commands.repository import cached, commit, find_root, git, here
from stages.evaluate.absent import without
from stages.evaluate.clusters import joined
from stages.evaluate.tables import WHOSE
from stages.shell.errors import InputError

PREDICTIONS = "data/predictions.csv"
TESTS = {"mcnemar": "exact McNemar, image by image", "by_patient": "exact permutation test, patient by patient"}
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
    test = by_patient if known(pairs) else mcnemar
    found = {name: test(group) for name, group in groups.items()}
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
    each = [table.reindex(columns=[*columns, *WHOSE], fill_value="") for table in (a, b)]  # older ones know no patient
    both = each[0].merge(each[1], on="path", suffixes=("_a", "_b"))
    if (both["label_a"] != both["label_b"]).any():
        raise InputError("the same images carry other labels in the two: only the same truth can be compared")
    return both.rename(columns={"label_a": "label"}).drop(columns="label_b").sort_values("path")


def known(pairs: pd.DataFrame) -> bool:
    """Return whether the patient of any image is known to either of the two."""
    return bool((pairs[["patient_a", "patient_b"]] != "").any(axis=None))


def mcnemar(pairs: pd.DataFrame) -> dict[str, Any]:
    """Return counts of both right, one right, none right; accuracies; and the two-sided exact p-value.

    Examples
    --------
    >>> table = {"label": list("xxxx"), "predicted_a": list("xxxy"), "predicted_b": list("yyyy")}
    >>> mcnemar(pd.DataFrame(table))["p"]
    0.25
    """
    found, _ = _counted(pairs, "mcnemar")
    if len(pairs):
        only_a, only_b = found["only_a"], found["only_b"]
        found["p"] = float(binomtest(only_a, only_a + only_b).pvalue) if only_a + only_b else 1.0
    return found


def by_patient(pairs: pd.DataFrame) -> dict[str, Any]:
    """Return the same with the p-value of `sign_flips` over patients, and how many patients and stand-ins there are.

    Images are of one patient if either of the two says so, or if they are copies: where the patient is unknown, the
    group of copies stands in.
    """
    found, change = _counted(pairs, "by_patient")
    if len(pairs):
        columns = ("patient_a", "patient_b", "group_a", "group_b")
        cluster = joined(*(pairs[column].tolist() for column in columns))
        of_patient = set(cluster[(pairs[["patient_a", "patient_b"]] != "").any(axis=1).to_numpy()])
        found |= {"patients": len(of_patient), "stand_ins": len(set(cluster)) - len(of_patient)}
        found["p"] = sign_flips(np.bincount(cluster, change).astype(np.int64))
    return found


def sign_flips(differences: NDArray[np.int64]) -> float:
    """Return how often a sum at least as far from 0 comes out if each difference had either sign by the toss of a coin.

    Exact for any number of patients: the distribution of the sum is built up patient by patient (Pagano and Tritchler
    1983, On obtaining permutation distributions in polynomial time). With differences of 1 it is McNemar's exact test.

    Examples
    --------
    >>> sign_flips(np.array([3, 2, 0])), sign_flips(np.array([1, 1, 1, 1, -1]))
    (0.5, 0.375)
    """
    sizes = np.abs(differences[differences != 0])
    reach = int(sizes.sum())
    chance = np.zeros(2 * reach + 1)  # of each sum from -reach to reach
    chance[reach] = 1
    for size in sizes:
        chance = (np.roll(chance, size) + np.roll(chance, -size)) / 2
    far = np.abs(np.arange(-reach, reach + 1)) >= abs(int(differences.sum()))
    return min(1.0, float(chance[far].sum()))


def _counted(pairs: pd.DataFrame, test: str) -> tuple[dict[str, Any], NDArray[np.int64]]:
    """Return the counts, and of each image 1 where only B is right, -1 where only A is."""
    right_a, right_b = pairs["predicted_a"] == pairs["label"], pairs["predicted_b"] == pairs["label"]
    only_a, only_b = int((right_a & ~right_b).sum()), int((right_b & ~right_a).sum())
    found: dict[str, Any] = {"n": len(pairs), "test": test, "both_right": int((right_a & right_b).sum())}
    found |= {"only_a": only_a, "only_b": only_b, "both_wrong": int((~right_a & ~right_b).sum())}
    if len(pairs):
        found |= {"accuracy_a": float(right_a.mean()), "accuracy_b": float(right_b.mean())}
    return found, right_b.to_numpy(np.int64) - right_a.to_numpy(np.int64)


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
            f"none {group['both_wrong']}; p = {group['p']:.3g} ({TESTS[group['test']]}{_patients(group)})",
        ]
        lines.append("  " + _verdict(group["p"]))
    lines += [
        f"{len(rows)} images are classified differently" + (f", the first {SHOWN}:" if len(rows) > SHOWN else ":")
    ]
    lines += [f"  {row['path']}: A {row['predicted_a']}, B {row['predicted_b']}" for row in rows[:SHOWN]]
    return "\n".join(lines)


def _patients(group: dict[str, Any]) -> str:
    if group["test"] != "by_patient":
        return ""
    copies = f"; of others {group['stand_ins']:,} groups of copies stand in" if group["stand_ins"] else ""
    return f", {group['patients']:,} patients{copies}"


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
