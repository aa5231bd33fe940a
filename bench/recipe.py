"""Which recipe, by patient and without the test set: whole runs on the training images of the public set alone.

    python bench/recipe.py --source FOLDER [--only NAME ...] [--seeds 0 1] [--together 2] [--minutes M] [--scratch DIR]

FOLDER has Training/<class>/* of the real set; Testing is not read. (A cross-validation of all images is another
matter: in it the images that choose here test too.) For each seed these images are divided by patient,
one picture of each group of copies (docs/patients.md): a fifth is scored, by the stages themselves, and the rest
trains. All settings of a seed have the same division, but `all pictures`, which has its own. A row is written when its
run ends, and a run that is in the file is not made again; with --scratch a training that was cut goes on at the next
call. Rows of other sizes, code's settings or CPUs are refused. Writes bench/results/recipe.json.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
import stages  # noqa: I001, F401  it pins the instruction set before any library is loaded

import pandas as pd

from growing import so_far
from gpu_runs import ROOT, TimeUp, change, copied, emptied, passed, side_by_side

from stages.dialect import parse, written
from stages.fetch import tree
from stages.fetch.extract import with_splits
from stages.fetch.schema import SplitParams
from stages.files import read_figures, sha256_file, write_csv, write_json
from stages.shell import provenance
from stages.shell.errors import InputError
from stages.train.checkpoint import digest

STUDY = ROOT / "studies/nickparvar-patients"
OF_ALL = ["fetch", "verify"]  # the same whatever the recipe
OF_EACH = ["prepare", "backbone", "train", "evaluate"]
OF_EVALUATE = ("predictions.csv", "predictor.json")  # what it writes beside its inputs
HALF = {"rotate": 7.5, "scale": 0.05, "translate": 0.025, "brightness": 0.05, "contrast": 0.05}
STRONG = {"rotate": 20, "scale": 0.2, "translate": 0.08, "brightness": 0.15, "contrast": 0.3}


def augment(values: dict[str, float]) -> dict[str, float]:
    return {f"augment.{key}": value for key, value in values.items()}


# what each changes; `phantoms` trains on so many of each class first, for so many epochs, and starts from those weights
SETTINGS: dict[str, dict[str, Any]] = {
    "the recipe": {},
    "twice as long": {"epochs": 80},
    "96 px": {"image_size": 96},
    "128 px": {"image_size": 128},
    "2 shards": {"train.shards": 2},
    "all pictures": {"split.unique": False, "epochs": 20},
    "2 % held out": {"split.val_fraction": 0.02},
    "weight decay 0.2": {"train.weight_decay": 0.2},
    "half the augmentation": augment(HALF),
    "more augmentation": augment(STRONG),
    "96 px, weight decay 0.2": {"image_size": 96, "train.weight_decay": 0.2},
    "96 px, more augmentation": {"image_size": 96, **augment(STRONG)},
    # 4,000 phantoms ten times and the images half as often: about the steps of the recipe
    "from phantoms, equal steps": {"epochs": 20, "phantoms": {"train_per_class": 1000, "epochs": 10}},
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", dest="folder", type=Path, required=True, help="folder with Training/<class>/*")
    parser.add_argument("--only", nargs="+", choices=SETTINGS, default=list(SETTINGS), metavar="NAME")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--images", type=int, help="take about so many images instead of all, of each class its share")
    parser.add_argument(
        "--epochs", type=int, default=40, help="of the recipe; those of the settings are scaled with it"
    )
    parser.add_argument("--size", type=int, default=64, help="pixels a side, the same")
    parser.add_argument("--precision", choices=["fp32", "bf16"], default="fp32", help="of all runs; bf16 is faster")
    parser.add_argument("--together", type=int, default=1, help="runs side by side, each on one core")
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results/recipe.json")
    parser.add_argument("--minutes", type=float, help="stop after so many; the same command then goes on")
    parser.add_argument("--scratch", type=Path, help="folder for images and checkpoints, kept between calls")
    args = parser.parse_args()
    args.source = "phantom"  # no BRAINMRI_SOURCE for the stages: each study names its images itself
    args.until = None if args.minutes is None else time.monotonic() + 60 * args.minutes
    return args


def changes(setting: dict[str, Any], args: argparse.Namespace) -> dict[str, Any]:
    """Return the keys of params.yaml that a setting changes, its sizes and epochs scaled as was asked."""
    found = {"epochs": 40, "image_size": 64} | {key: value for key, value in setting.items() if key != "phantoms"}
    found["epochs"] = max(1, round(found["epochs"] * args.epochs / 40))
    found["image_size"] = found["image_size"] * args.size // 64
    return found | {"precision": args.precision}


def base(images: Path, seed: int, scratch: Path, args: argparse.Namespace) -> Path:
    """Return a study of the images, divided by patient as the seed has it, up to verify."""
    folder = study(scratch / f"base-{seed}", lambda half: of_training(images, seed, half))
    passed(OF_ALL, folder, args)
    return folder


def study(folder: Path, parameters: Callable[[Path], dict[str, Any]]) -> Path:
    """Make a study's folder, if it is not there: its parameters, and what they put into it."""
    if not folder.is_dir():
        half = emptied(folder.with_name(f"{folder.name}.part"))
        half.mkdir(parents=True)
        half.joinpath("params.yaml").write_text(written(parameters(half)))
        half.rename(folder)
    return folder


def of_training(images: Path, seed: int, folder: Path) -> dict[str, Any]:
    """Return the parameters of such a study, and write its table of patients."""
    values: dict[str, Any] = parse((STUDY / "params.yaml").read_text())
    table = pd.read_csv(STUDY / "patients.csv", dtype=str)
    table["path"] = table["path"].str.removeprefix("Training/")
    write_csv(folder / "patients.csv", table[[(images / path).is_file() for path in table["path"]]])
    patients = {"table": "patients.csv", "sha256": sha256_file(folder / "patients.csv")}
    change(values, root=str(ROOT), seed=seed, threads=1)
    change(values, **{"fetch.source": "archive", "fetch.archive.location": str(images.resolve())})
    split = SplitParams(test_fraction=0.2, seed=0)  # which `by_patient` undoes
    hashes = {path.relative_to(images).as_posix(): sha256_file(path) for path in sorted(images.glob("*/*"))}
    pinned = tree.digest(with_splits(hashes, split))
    change(values, **{"fetch.split": split.model_dump(), "fetch.tree_digest": pinned})
    change(values, **{"fetch.patients": patients | {"unknown": True, "two_classes": True}, "verify.expected": None})
    change(values, **{"split.folds": {"0": ""}, "split.networks": "model.safetensors", "report.boxes": None})
    return values


def some(folder: Path, images: int | None, scratch: Path) -> Path:
    """Return the folder of class folders: all of Training, or about so many of its files, by their names' hash."""
    training = folder / "Training"
    files = sorted(path for path in training.glob("*/*") if path.is_file())
    if not files:
        raise InputError(f"{training}: expected <class>/* there, of the public set")
    if images is None or images >= len(files):
        return training
    chosen = scratch / "images"
    for path in files:
        name = path.relative_to(training)
        if int(hashlib.sha256(name.as_posix().encode()).hexdigest(), 16) % len(files) < images:
            (chosen / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, chosen / name)
    return chosen


def pretrained(phantoms: dict[str, Any], seed: int, at: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Train on phantoms, and return what of params.yaml makes a study start from those weights."""
    values: dict[str, Any] = parse((ROOT / "params.yaml").read_text())
    change(values, root=str(ROOT), seed=seed, threads=1, image_size=args.size)
    change(values, epochs=max(1, round(phantoms["epochs"] * args.epochs / 40)), lr=1e-3, precision=args.precision)
    change(values, **{"fetch.phantom.train_per_class": phantoms["train_per_class"], "verify.expected": None})
    study(at, lambda _: values)
    passed([*OF_ALL, *OF_EACH[:-1]], at, args)
    weights = at / "models/model.safetensors"
    return {"backbone.weights": str(weights.resolve()), "backbone.sha256": sha256_file(weights)}


def place(scratch: Path, name: str, seed: int) -> Path:
    return scratch / f"{name.replace(' ', '_')}-{seed}"


def run(name: str, seed: int, base: Path, args: argparse.Namespace) -> dict[str, Any]:
    """Make one run and return its row."""
    found, folder = changes(SETTINGS[name], args), place(base.parent, name, seed)
    if phantoms := SETTINGS[name].get("phantoms"):
        found |= pretrained(phantoms, seed, base.parent / f"phantoms-{seed}", args)
    copied(base, folder, **found)
    seconds = passed(OF_EACH, folder, args)
    row = {"name": name, "seed": seed} | scores(folder) | {"train_s": seconds["train"]}
    return row | {"not_mirrored": unmirrored(folder, args)}


def scores(folder: Path) -> dict[str, Any]:
    """Return what a run scored, and on how many images."""
    metrics = read_figures(folder / "metrics/scores.csv")
    index = pd.read_csv(folder / "data/prepared/index.csv", usecols=["array"])
    row = {key: metrics["all"][key] for key in ("n", "accuracy", "f1", "log_loss")}
    row |= {"patients": metrics["patients"]["accuracy"], "sensitivity": metrics["all"]["sensitivity"]}
    row["tumours_alone"] = metrics["others_alone"]["accuracy"]
    return row | {"trained_on": int((index["array"] == "train").sum())}


def unmirrored(folder: Path, args: argparse.Namespace) -> float:
    """Return the accuracy of the same network when it sees each image once."""
    again = folder / "once"
    again.mkdir(exist_ok=True)
    for name in ("data", "models"):
        (again / name).mkdir(exist_ok=True)
    for path in [*(folder / "data").iterdir(), *(folder / "models").iterdir()]:
        link = again / path.relative_to(folder)
        if path.name not in OF_EVALUATE and not link.is_symlink():
            link.symlink_to(path.resolve())
    values = parse((folder / "params.yaml").read_text())
    change(values, **{"evaluate.mirror": False})
    again.joinpath("params.yaml").write_text(written(values))
    passed(["evaluate"], again, args)
    return float(read_figures(again / "metrics/scores.csv")["all"]["accuracy"])


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return what all rows of a file have in common."""
    names = ("images", "epochs", "size", "precision")
    recipe = {key: value for key, value in parse((STUDY / "params.yaml").read_text()).items() if key != "report"}
    said = digest(recipe)[:16]
    return {**{name: getattr(args, name) for name in names}, "recipe": said, "cpu": provenance.cpu()}


def missing(result: dict[str, Any], args: argparse.Namespace) -> list[tuple[str, int]]:
    """Return the runs that are asked for and not there, seed by seed, so that what is there can be compared early."""
    there = {(row["name"], row["seed"]) for row in result["runs"]}
    return [(name, seed) for seed in args.seeds for name in args.only if (name, seed) not in there]


def rows(waiting: list[tuple[str, int]], scratch: Path, args: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Yield each run's row when it ends."""
    images = some(args.folder, args.images, scratch)
    bases = {seed: base(images, seed, scratch, args) for seed in dict.fromkeys(seed for _, seed in waiting)}
    yield from side_by_side([partial(run, name, seed, bases[seed], args) for name, seed in waiting], args.together)


def table(runs: list[dict[str, Any]]) -> str:
    """Return the runs as Markdown: a row a setting, over the seeds that both it and the recipe have."""
    plain = {row["seed"]: row for row in runs if row["name"] == "the recipe"}
    lines = [
        "| setting | accuracy | against the recipe, points | log-loss | patients | tumours alone | minutes | seeds |",
        "|" + "---|" * 8,
    ]
    for name in SETTINGS:
        found = [row for row in runs if row["name"] == name and row["seed"] in plain]
        if not found:
            continue
        less = [100 * (row["accuracy"] - plain[row["seed"]]["accuracy"]) for row in found]
        each = ", ".join(f"{value:+.1f}" for value in less)
        mean = {key: statistics.mean(row[key] for row in found) for key in ("accuracy", "log_loss", "patients")}
        mean |= {key: statistics.mean(row[key] for row in found) for key in ("tumours_alone", "train_s")}
        lines.append(
            f"| {name} | {mean['accuracy']:.1%} | {statistics.mean(less):+.1f} ({each}) | {mean['log_loss']:.3f} | "
            f"{mean['patients']:.1%} | {mean['tumours_alone']:.1%} | {mean['train_s'] / 60:.0f} | {len(found)} |"
        )
    return "\n".join(lines)


def main() -> None:
    args = arguments()
    result = {"runs": []} | so_far(args.out, settings(args))
    signal.signal(signal.SIGTERM, lambda *_: os._exit(143))  # the stages end with this process
    if args.together > 1:  # one core for each
        os.environ |= {"BRAINMRI_TRAINERS": "1", "BRAINMRI_WORKERS": "1"}
    with tempfile.TemporaryDirectory() if args.scratch is None else nullcontext(args.scratch) as scratch:
        try:
            for row in rows(missing(result, args), Path(scratch).resolve(), args):
                result["runs"] = sorted([*result["runs"], row], key=lambda row: (row["seed"], row["name"]))
                write_json(args.out, result)
                shutil.rmtree(place(Path(scratch).resolve(), row["name"], row["seed"]))
        except TimeUp:
            print(f"recipe: {args.minutes:g} minutes are used up: the same command goes on from here", file=sys.stderr)
    print(table(result["runs"]))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"recipe: {error}")
