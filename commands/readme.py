"""`brainmri readme`: write the README's figures from metrics/ and bench/results/, so that it cannot lie."""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Any

from commands import behind
from commands.reading import read_json
from stages.evaluate.absent import absent, counted, without
from stages.evaluate.by_patient import TRAINED_ON
from stages.evaluate.titles import BASELINES, sources, stand_ins
from stages.files import atomic_write, read_figures
from stages.shell.errors import InputError

STUDIES = {
    "studies/nickparvar-patients": "Brain Tumor MRI Dataset, by patient",
    "studies/nickparvar-leakfree": "its published split, trained without the copies of test images",
    "studies/nickparvar": "its published split, trained as published",
    "studies/nickparvar-gpu": "by patient, from ImageNet's weights, 224 px, on a GPU",
    ".": "phantoms (the default study)",
}
WAYS = {  # of bench/train_throughput.py; each after the first is followed by the first's ratio to it
    "trainer": "this project",
    "loader": "a usual loop, fp32 (x: this project by it)",
    "loader_pinned": "that loop with our pins",
    "limit": "our step without data",
}
ROOT = Path(__file__).parent.parent


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "readme", help="write the README's figures from what was measured", description=__doc__
    )
    parser.add_argument("--check", action="store_true", help="write nothing; exit 1 where the README is behind")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Rewrite the blocks, or with --check compare them."""
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    fresh = text
    for name, written in {"results": lambda root: results(root, text), "speed": speed}.items():
        begin, end = f"<!-- {name}: written by `brainmri readme` -->\n", f"<!-- end of {name} -->"
        before, _, rest = fresh.partition(begin)
        if (fresh.count(begin), fresh.count(end), rest.count(end)) != (1, 1, 1):
            raise InputError(
                f"README.md: expected one line {begin.strip()!r} and after it one {end!r}: "
                "put them back around the block"
            )
        fresh = "".join([before, begin, written(ROOT), end, rest.partition(end)[2]])
    if fresh == text:
        return 0
    if args.check:
        raise InputError("README.md is behind metrics/ or bench/results/: run `brainmri readme`")
    atomic_write(path, fresh)
    return 0


def results(root: Path, before: str = "") -> str:
    """Return the table of scores and the one of copies, as Markdown.

    `before` is the README as it stands: of a commit that a shallow clone's history lacks, it is what is known.
    """
    lines = [
        *by_patient(root),
        "| study | all test images | without a copy in training | copies of training images | made by |",
        "|---|---|---|---|---|",
    ]
    for folder, title in STUDIES.items():
        if not (root / folder / "metrics/scores.csv").is_file():
            lines.append(_row(title, "not run yet", "", "", ""))
            continue
        metrics = read_figures(root / folder / "metrics/scores.csv")
        cells = [_accuracy(metrics[group], _classes(metrics)) for group in ("all", "clean", "leaked")]
        lines.append(_row(f"[{title}]({folder})", *cells, _made_by(root / folder, f"]({folder}) |", before)))
    integrity = root / "studies/nickparvar/metrics/integrity.csv"
    if integrity.is_file():
        lines += ["", *_copies(read_figures(integrity)), "", *_worth(root)]
    return "\n".join([*lines, ""])


def by_patient(root: Path) -> list[str]:
    """Return the table of the studies whose patients are known, and what it means; nothing where there is none."""
    found = {
        folder: read_figures(path) for folder in STUDIES if (path := root / folder / "metrics/scores.csv").is_file()
    }
    found = {folder: metrics for folder, metrics in found.items() if "patients" in metrics}
    if not found:
        return []
    lines = [
        _row("study", "test images, and interval by patient", "patients, all slices together", "without some classes"),
        "|---|---|---|---|",
    ]
    for folder, metrics in found.items():
        classes = _classes(metrics)
        ends = metrics["all"]["by_patient"]
        whole = _accuracy(metrics["all"] | {key: ends.get(key) for key in ("accuracy_low", "accuracy_high")}, classes)
        cells = [whole, _accuracy(metrics["patients"], classes), _others(metrics, classes)]
        lines.append(_row(f"[{STUDIES[folder]}]({folder})", *cells))
    lines.append("")
    for folder, metrics in found.items():
        lines.append(f"- {_meaning(STUDIES[folder], metrics)}")
    return [*lines, ""]


def _others(metrics: dict[str, Any], classes: list[str]) -> str:
    """Return the accuracy on the classes that are not set apart, told among all of them and among these alone."""
    if not metrics.get("others", {}).get("n"):
        return ""
    four, alone = metrics["others"], metrics["others_alone"]
    return f"**{four['accuracy']:.2%}** ({counted(four, classes)}); among these alone {alone['accuracy']:.2%}"


def _meaning(title: str, metrics: dict[str, Any]) -> str:
    known, new, unknown = (metrics[name]["n"] for name in TRAINED_ON)
    return (
        f"{title}: {new:,} test images are of patients without training images, {known:,} of patients with, and of "
        f"{unknown:,} nobody knows. {stand_ins(metrics['patients'])}{sources(metrics)}"
    )


def speed(root: Path) -> str:
    """Return what bench/ measured last, as Markdown."""
    lines = []
    pipeline = root / "bench/results/pipeline.json"
    if pipeline.is_file():
        found = read_json(pipeline)
        lines += [f"On {found['cores']} cores of an {found['cpu']}, medians:", ""]
        lines += ["| | seconds | runs | largest process |", "|---|---|---|---|"]
        for row in found["figures"]:
            seconds = f"{row['median_s']:.1f} ({row['min_s']:.1f} to {row['max_s']:.1f})"
            lines.append(_row(row["name"], seconds, str(row["runs"]), f"{row['peak_gib']:.1f} GiB"))
    predict = root / "bench/results/predict.json"
    if predict.is_file():
        found = read_json(predict)
        speeds, asked = found["images_per_second"], found["settings"]
        lines += [
            "",
            f"`brainmri predict`, {asked['images']} images at {asked['size']} px, whole: "
            f"{speeds['brainmri predict']:.1f} images a second, {found['ratio']:.2f} of the bare forward pass "
            f"({speeds['forward pass']:.1f}).",
        ]
    for path in sorted((root / "bench/results").glob("train_throughput*.json")):
        found = read_json(path)
        title = f"training, {found['settings']['precision']}, images a second"
        ways = [way for way in WAYS if way in found["sizes"][0]["images_per_second"]]
        lines += ["", _row(title, *(WAYS[way] for way in ways)), "|---" * (1 + len(ways)) + "|"]
        for row in found["sizes"]:
            cells = [f"{row['images_per_second'][way]:.1f}" for way in ways]
            ratios = ["", *(f" (x {row[f'trainer_to_{way}']:.2f})" for way in ways[1:])]
            lines.append(_row(f"{row['size']} px", *(cell + ratio for cell, ratio in zip(cells, ratios, strict=True))))
    return "\n".join([*lines, ""]) if lines else "not measured yet\n"


def _made_by(study: Path, row: str, before: str) -> str:
    """Return "this commit", or the name of the one whose code made the figures where code or settings went on since.

    A commit cannot hold its own name; but where a study is behind, the commit that made its figures is past.
    """
    if not behind.changed(study):
        return "this commit"
    known = re.search(rf"{re.escape(row)}.* \| `([0-9a-f]+)` \|$", before, re.MULTILINE)
    commit = behind.made_by(study) or (known[1] if known else None)
    return f"`{commit}`" if commit else "a run that is not committed"


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _classes(metrics: dict[str, Any]) -> list[str]:
    return list(metrics["all"].get("sensitivity", {}))


def _accuracy(group: dict[str, Any], classes: list[str]) -> str:
    if not group["n"]:
        return "none"
    known = group.get("accuracy_low") is not None
    interval = f"{group['accuracy_low']:.1%} to {group['accuracy_high']:.1%}, " if known else ""
    return f"**{group['accuracy']:.2%}** ({interval}{counted(group, classes)})"


def _copies(integrity: dict[str, Any]) -> list[str]:
    """Return what the public test images have in training, by class: copies, by kind, and patients, where known."""
    leaked, patients = integrity["leaked"], integrity.get("patients", {}).get("test_files")
    kinds = ["byte", "pixel", "copy", "mirrored", "rotated", "all"]
    rows = {**leaked["by_class"], "all": leaked["by_kind"]}
    head = [
        "copies among test images",
        "same bytes",
        "same pixels",
        "re-encoded, rescaled",
        "mirrored",
        "turned",
        "all",
    ]
    cells = {name: [name, *(f"{row[kind]:,}" for kind in kinds)] for name, row in rows.items()}
    if patients:
        head.append("of a patient with training images")
        for name, row in cells.items():
            known, new = (patients[kind][name] for kind in ("known", "new"))
            row.append(f"{known:,} of {known + new:,} known" if known + new else "unknown")
    return [_row(*head), "|---" * len(head) + "|", *(_row(*row) for row in cells.values())]


def _worth(root: Path) -> list[str]:
    """Return the accuracies of what knows no anatomy, beside the network's, in both real studies."""
    names = ("nickparvar", "nickparvar-leakfree")
    studies = [read_figures(root / f"studies/{name}/metrics/scores.csv") for name in names]
    note = without(absent(studies[0]["clean"], _classes(studies[0])))
    clean = "as published: clean" + (f" ({note})" if note else "")
    head = ["accuracy of", "as published: all", clean, "trained without copies: all"]

    def row(title: str, each: list[dict[str, Any]]) -> str:
        cells = [each[0]["all"], each[0]["clean"], each[1]["all"]]
        return _row(title, *(f"{cell['accuracy']:.2%}" for cell in cells))

    lines = [_row(*head), "|---" * len(head) + "|", row("the network", studies)]
    lines += [row(title, [study["baselines"][key] for study in studies]) for key, title in BASELINES.items()]
    return lines
