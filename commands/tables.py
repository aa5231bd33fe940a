"""What `brainmri readme` writes, as Markdown: tables of what metrics/ and bench/results/ hold."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from commands import behind, locked
from commands.reading import read_json
from stages.evaluate.absent import absent, counted, without
from stages.evaluate.by_patient import TRAINED_ON
from stages.evaluate.titles import BASELINES, sources
from stages.files import read_figures

NOT_MEASURED = "not measured yet\n"
STUDIES = {
    "studies/nickparvar-patients": "Brain Tumor MRI Dataset, by patient",
    "studies/nickparvar-leakfree": "its published split, trained without the copies of test images",
    "studies/nickparvar": "its published split, trained as published",
    "studies/nickparvar-gpu": "by patient, from ImageNet's weights, 224 px, on a GPU",
    ".": "phantoms (the default study)",
}
PUBLISHED = "nickparvar"  # the study of the published split, as published
KINDS = {
    "byte": "same bytes",
    "pixel": "same pixels",
    "copy": "re-encoded, rescaled",
    "mirrored": "mirrored",
    "rotated": "turned",
    "all": "all",
}
WAYS = {  # of bench/train_throughput.py; each after the first is followed by the first's ratio to it
    "trainer": "this project",
    "loader": "a usual loop, fp32 (x: this project by it)",
    "loader_pinned": "that loop with our pins",
    "limit": "our step without data",
}


def results(root: Path, before: str = "") -> str:
    """Return the table of scores, and below it what is known of each study's patients and seeds.

    `before` is the README as it stands: of a commit that a shallow clone's history lacks, it is what is known.
    """
    lines = [
        "| study | all test images | without a copy in training | copies of training images | made by |",
        "|---|---|---|---|---|",
    ]
    notes = []
    for folder, title in STUDIES.items():
        if not (root / folder / "metrics/scores.csv").is_file():
            lines.append(_row(title, "not run yet", "", "", ""))
            continue
        metrics = read_figures(root / folder / "metrics/scores.csv")
        cells = [_accuracy(metrics[group], _classes(metrics)) for group in ("all", "clean", "leaked")]
        lines.append(_row(f"[{title}]({folder})", *cells, _made_by(root / folder, f"]({folder}) |", before)))
        said = " ".join(filter(None, [_meaning(metrics), _seeds(root, folder)]))
        notes += [f"- {title}: {said}"] * bool(said)
    return "\n".join([*lines, *[""] * bool(notes), *notes, ""])


def _meaning(metrics: dict[str, Any]) -> str:
    """Return whose slices the test images are, and the scores of whole patients; nothing where nobody is known."""
    if "patients" not in metrics:
        return ""
    known, new, unknown = (metrics[name]["n"] for name in TRAINED_ON)
    patients = metrics["patients"]
    stand_in = f"; nobody knows the patients of {unknown:,}: their {patients['stand_ins']:,} groups of copies stand in"
    return (
        f"{new:,} test images are of patients without training images, {known:,} of patients with"
        f"{stand_in if unknown else ''}. Patients classified correctly by the mean probability over their slices: "
        f"{_accuracy(patients, _classes(metrics))}.{sources(metrics)}{_others(metrics)}"
    )


def _others(metrics: dict[str, Any]) -> str:
    """Return, after a space, the accuracy on the classes not set apart, told among all and among these alone."""
    if not metrics.get("others", {}).get("n"):
        return ""
    four, alone = metrics["others"], metrics["others_alone"]
    return (
        f" Without these images {four['accuracy']:.2%} are right (n = {four['n']:,}); {alone['accuracy']:.2%} where "
        "only the other classes may be answered."
    )


def seeds_file(root: Path, folder: str) -> Path:
    """Return where bench/seeds.py writes what other seeds of a study gave; the default study's folder is the root."""
    return root / f"bench/results/seeds-{Path(folder).name or 'phantoms'}.json"


def _seeds(root: Path, folder: str) -> str:
    """Return what other seeds gave by bench/seeds.py; nothing where the study was run again since."""
    path = seeds_file(root, folder)
    if not path.is_file():
        return ""
    found = read_json(path)
    made = {out["md5"] for out in locked.outputs(locked.stages(root / folder)).values() if "md5" in out}
    if not any(made.issuperset(run["md5"].values()) for run in found["runs"]):
        return ""
    runs = ", ".join(f"{run['seed']} ({run['scores']['all.accuracy']:.2%}, isa {run['isa']})" for run in found["runs"])
    over = found["over_runs"]["all.accuracy"]
    return f"Seeds {runs}: mean **{over['mean']:.2%}**, standard deviation {over['sd']:.2%}."


def pipeline(root: Path, _: str = "") -> str:
    """Return how long the pipeline takes."""
    path = root / "bench/results/pipeline.json"
    if not path.is_file():
        return NOT_MEASURED
    found = read_json(path)
    lines = [f"On {found['cores']} cores of an {found['cpu']}, medians:", ""]
    lines += ["| | seconds | runs | largest process |", "|---|---|---|---|"]
    for row in found["figures"]:
        seconds = f"{row['median_s']:.1f} ({row['min_s']:.1f} to {row['max_s']:.1f})"
        lines.append(_row(row["name"], seconds, str(row["runs"]), f"{row['peak_gib']:.1f} GiB"))
    return "\n".join([*lines, ""])


def predicting(root: Path, _: str = "") -> str:
    """Return how fast `brainmri predict` is beside the forward pass alone."""
    path = root / "bench/results/predict.json"
    if not path.is_file():
        return NOT_MEASURED
    found = read_json(path)
    speeds, asked = found["images_per_second"], found["settings"]
    return (
        f"{asked['images']} images at {asked['size']} px, whole: {speeds['brainmri predict']:.1f} images a second, "
        f"{found['ratio']:.2f} of the bare forward pass ({speeds['forward pass']:.1f}).\n"
    )


def training(root: Path, _: str = "") -> str:
    """Return how fast training is beside a usual loop, a table for each precision."""
    tables = []
    for path in sorted((root / "bench/results").glob("train_throughput*.json")):
        found = read_json(path)
        title = f"training, {found['settings']['precision']}, images a second"
        ways = [way for way in WAYS if way in found["sizes"][0]["images_per_second"]]
        lines = [_row(title, *(WAYS[way] for way in ways)), "|---" * (1 + len(ways)) + "|"]
        for row in found["sizes"]:
            cells = [f"{row['images_per_second'][way]:.1f}" for way in ways]
            ratios = ["", *(f" (x {row[f'trainer_to_{way}']:.2f})" for way in ways[1:])]
            lines.append(_row(f"{row['size']} px", *(cell + ratio for cell, ratio in zip(cells, ratios, strict=True))))
        tables.append("\n".join([*lines, ""]))
    return "\n".join(tables) or NOT_MEASURED


def copies(root: Path, _: str = "") -> str:
    """Return what the public test images have in training, by class: copies, by kind, and patients, where known."""
    path = root / f"studies/{PUBLISHED}/metrics/integrity.csv"
    if not path.is_file():
        return NOT_MEASURED
    integrity = read_figures(path)
    leaked, patients = integrity["leaked"], integrity.get("patients", {}).get("test_files")
    rows = {**leaked["by_class"], "all": leaked["by_kind"]}
    head = ["test images that are copies, by kind", *KINDS.values()]
    cells = {name: [name, *(f"{row[kind]:,}" for kind in KINDS)] for name, row in rows.items()}
    if patients:
        head.append("test images, copies or not, of a patient with training images")
        for name, row in cells.items():
            known, new = (patients[kind][name] for kind in ("known", "new"))
            row.append(f"{known:,} of {known + new:,} known" if known + new else "unknown")
    return "\n".join([_row(*head), "|---" * len(head) + "|", *(_row(*row) for row in cells.values()), ""])


def baselines(root: Path, _: str = "") -> str:
    """Return the accuracies of what knows no anatomy, beside the network's, in both studies of the published split."""
    paths = [root / f"studies/{name}/metrics/scores.csv" for name in (PUBLISHED, f"{PUBLISHED}-leakfree")]
    if not all(path.is_file() for path in paths):
        return NOT_MEASURED
    studies = [read_figures(path) for path in paths]
    note = without(absent(studies[0]["clean"], _classes(studies[0])))
    clean = "as published: clean" + (f" ({note})" if note else "")
    head = ["accuracy of", "as published: all", clean, "trained without copies: all"]

    def row(title: str, each: list[dict[str, Any]]) -> str:
        cells = [each[0]["all"], each[0]["clean"], each[1]["all"]]
        return _row(title, *(f"{cell['accuracy']:.2%}" for cell in cells))

    lines = [_row(*head), "|---" * len(head) + "|", row("the network", studies)]
    lines += [row(title, [study["baselines"][key] for study in studies]) for key, title in BASELINES.items()]
    return "\n".join([*lines, ""])


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
    """Return accuracy, its interval (by patient, where patients are known) and n."""
    if not group["n"]:
        return "none"
    ends = group.get("by_patient", group)
    interval = f"{ends['accuracy_low']:.1%} to {ends['accuracy_high']:.1%}, " if "accuracy_low" in ends else ""
    return f"**{group['accuracy']:.2%}** ({interval}{counted(group, classes)})"
