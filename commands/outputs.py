"""The outputs of a replay beside the committed ones: which are the same, and the table that says so."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd

from commands import low_bits

METRICS, CONFUSION = "metrics/test.json", "plots/confusion.csv"


@dataclass(frozen=True)
class Output:
    """One output of one stage: its hash in the commit's dvc.lock, and the one that the replay gave it (or nothing)."""

    stage: str
    path: str
    committed: str
    now: str

    @property
    def same(self) -> bool:
        """Whether the bits came out as committed."""
        return self.committed == self.now

    @property
    def verdict(self) -> str:
        """What the table says of it."""
        return "same" if self.same else "DIFFERS" if self.now else "NOT MADE"


def compare(committed: dict[str, Any], now: dict[str, Any]) -> list[Output]:
    """Return one row an output, in the order of the stages; an output that is on one side only has an empty hash."""
    rows = []
    for stage in [*committed, *(stage for stage in now if stage not in committed)]:
        before, after = _hashes(committed.get(stage, {})), _hashes(now.get(stage, {}))
        rows += [Output(stage, path, before.get(path, ""), after.get(path, "")) for path in sorted(before | after)]
    return rows


def first_differing(outputs: list[Output]) -> Output | None:
    """Return the first output that was made and is not as committed: what it has no hash of, no cause explains."""
    return next((output for output in outputs if output.now and not output.same), None)


def scores(study: Path, paths: set[str]) -> dict[str, Any]:
    """Return accuracy on all test images and the confusion matrix, {class: counts by prediction}, as the files say.

    Nothing where they are not among `paths`, the outputs that may be spoken of: Git has the files in any case.
    """
    if not paths >= {METRICS, CONFUSION}:
        return {}
    try:
        found = json.loads((study / METRICS).read_text(encoding="utf-8"))
        accuracy = found.get("all", found)["accuracy"]  # commits before metrics/scores.csv have all scores here
        rows = pd.read_csv(study / CONFUSION, dtype=str, keep_default_na=False)
    except (
        OSError,
        AttributeError,
        KeyError,
        TypeError,
        ValueError,
    ):  # damaged, which `dvc status` tells
        return {}
    counts = pd.crosstab(rows["actual"], rows["predicted"])
    counts = counts.reindex(columns=counts.index.union(counts.columns), fill_value=0)
    return {"accuracy": accuracy, "confusion": {str(name): [int(n) for n in row] for name, row in counts.iterrows()}}


def table(result: dict[str, Any], outputs: list[Output]) -> str:
    """Return what a person reads: every output with both hashes, then the verdict."""
    rows = [
        ("stage", "output", "committed", "now", ""),
        *(
            (
                output.stage,
                output.path,
                output.committed[:12] or "-",
                output.now[:12] or "-",
                output.verdict,
            )
            for output in outputs
        ),
    ]
    widths = [max(len(row[column]) for row in rows) for column in range(5)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if result["failed"]:
        lines.append("a stage failed: see its line above")
    lines += [f"stage {stage} did not run" for stage in result["skipped"]]
    lines += [f"git status: {line}" for line in result["changed_files"]]
    lines += [
        f"other version than requirements.lock: {name} {change}" for name, change in result["other_versions"].items()
    ]
    lines += [f"another environment than metrics/provenance.json names: {line}" for line in result["other_environment"]]
    lines += [f"changed without running {stage} again: {', '.join(p)}" for stage, p in result["changed_code"].items()]
    first = first_differing(outputs)
    if first:
        lines.append(f"the first stage whose output differs: {first.stage} ({first.path})")
        lines.append(f"the likely cause: {result['cause']}")
    if parted := result.get("trainings_part_at"):
        of = f"fold {parted['fold']}'s" if "fold" in parted else "the"
        lines.append(f"the first step of {of} trail that differs: {parted['step']} ({', '.join(parted['differs'])})")
    if (apart := result.get("weights_differ_by")) is not None:
        kind = "low bits alone" if apart <= low_bits.TOLERANCE else "more than low bits"
        lines.append(f"the weights differ by at most {apart:.1e} of their tensor's root mean square: {kind}")
    lines += _both_scores(result["committed"], result["now"], first is not None)
    return "\n".join([*lines, verdict(result, "every output is the same, bit for bit")])


def verdict(result: dict[str, Any], same: str) -> str:
    """Return the last line: which commit and study, and whether it is the `same`, in those words."""
    study = "the study in the repository's root" if result["study"] == "." else f"study {result['study']}"
    return f"{result['rev'][:12]}, {study}: {same if result['same'] else 'NOT the same'}"


def _both_scores(committed: dict[str, Any], now: dict[str, Any], differs: bool) -> list[str]:
    """Return accuracy and confusion matrix, as committed and as they came out."""
    lines = []
    for title, scores in {"committed": committed, "now": now}.items():
        if scores:
            lines.append(f"accuracy {title}: {scores['accuracy']:.6f}")
            lines += [f"  {name}: {' '.join(map(str, row))}" for name, row in scores["confusion"].items()]
    if differs and committed and committed == now:
        lines.append("accuracy and confusion matrix are the same: what differs does not reach them")
    return lines


def _hashes(stage: dict[str, Any]) -> dict[str, str]:
    return {out["path"]: out["md5"] for out in stage.get("outs", [])}
