"""What each choice of the recipe is worth, in short runs on real images: one key changed at a time.

    python bench/ablation.py --study studies/nickparvar [--size 48] [--images 1536] [--epochs 8] [--seeds 0 1]
                             [--only "the recipe" "half the augmentation"]

The study must have been run up to `prepare`. Its training and validation images, of a cross-validation those of the
first fold, resized to `--size` pixels, are divided anew for each seed: `--images` train, others that are no copies of
those are scored, the same in every run of a seed. Test images are not read. Each run is written when it ends, and a run
that is already in the file is not made again; a file that holds runs with another recipe, of other sizes or on another
CPU is left alone. Writes bench/results/ablation.json.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
import stages  # noqa: I001, F401  it pins the instruction set before torch is loaded

import numpy as np
import pandas as pd
import torch
from PIL import Image

from growing import so_far
from stages import runtime
from stages.shell import provenance
from stages.backbone import network
from stages.files import write_json
from stages.shell.errors import InputError
from stages.train import order
from stages.train.checkpoint import Nowhere
from stages.train.loop import Images, Trainer
from stages.train.schema import Params
from stages.dialect import parse

ROOT = Path(__file__).parent.parent

CHANGES: dict[str, dict[str, Any]] = {
    "the recipe": {},
    "batch_size 32": {"batch_size": 32},
    "two thirds of the size at first": {"train.size_schedule": [[0.0, 43], [0.5, 64]]},
    "half the augmentation": {
        "augment.rotate": 7.5,
        "augment.scale": 0.05,
        "augment.translate": 0.025,
        "augment.brightness": 0.05,
        "augment.contrast": 0.05,
    },
    "no augmentation": {
        f"augment.{key}": 0 for key in ("mirror", "rotate", "scale", "translate", "brightness", "contrast")
    },
    "no mirroring": {"augment.mirror": False},
    "no label smoothing": {"train.label_smoothing": 0.0},
    "no averaged weights": {"train.ema_decay": 0.0},
    "lr 3e-4": {"lr": 3e-4},
    "lr 3e-3": {"lr": 3e-3},
    "no weight decay": {"train.weight_decay": 0.0},
    "weight decay 0.2": {"train.weight_decay": 0.2},
    "no warm-up": {"train.warmup_epochs": 0},
    "no rotation": {"augment.rotate": 0},
    "no scaling, no shift": {"augment.scale": 0, "augment.translate": 0},
    "no brightness, no contrast": {"augment.brightness": 0, "augment.contrast": 0},
    "noise 0.05": {"augment.noise": 0.05},
    "class weights": {"train.class_weights": True},
    "dropout 0.2": {"train.dropout": 0.2},
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=ROOT / "studies/nickparvar")
    parser.add_argument("--size", type=int, default=48, help="pixels a side; size_schedule is scaled with it")
    parser.add_argument("--images", type=int, default=1536, help="training images")
    parser.add_argument("--scored", type=int, default=1500, help="images scored, at most")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--batch-size", type=int, default=64, help="of all runs but the one that changes it")
    parser.add_argument("--precision", default="fp32", choices=["fp32", "bf16"])
    parser.add_argument("--threads", type=int, default=1, help="1 is fastest where each process has a core of its own")
    parser.add_argument(
        "--only", nargs="+", choices=CHANGES, default=list(CHANGES), metavar="NAME", help="changes to run"
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results/ablation.json")
    return parser.parse_args()


def params(args: argparse.Namespace, change: dict[str, Any], seed: int) -> Params:
    """Return the study's parameters at another size, with a change, whose keys may be dotted."""
    study = parse((args.study / "params.yaml").read_text())
    values = {key: study[key] for key in Params.model_fields}
    values |= {"seed": seed} | {name: getattr(args, name) for name in ("epochs", "batch_size", "precision", "threads")}
    for key, value in change.items():
        group, _, name = key.rpartition(".")
        (values[group] if group else values)[name] = value
    schedule = values["train"]["size_schedule"]
    values["train"]["size_schedule"] = [[at, size * args.size // study["image_size"]] for at, size in schedule]
    return Params.model_validate(values)


def settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return what all runs of a file have in common: their sizes, the study, its recipe, and the CPU."""
    names = ("size", "images", "scored", "epochs", "batch_size", "precision", "threads")
    recipe = params(args, {}, 0).model_dump(mode="json")
    return {
        **{name: getattr(args, name) for name in names},
        "study": args.study.name,
        "cpu": provenance.cpu(),
        "lr": recipe["lr"],
        **{
            f"{group}.{key}": value
            for group in ("train", "augment")
            for key, value in recipe[group].items()
            # how a run is written down; and one shard is none, as all runs had before there were shards
            if not key.startswith("trail_") and (key, value) != ("shards", 1)
        },
    }


def folder(study: Path) -> Path:
    """Return where the prepared images lie, of a cross-validation those of its first fold."""
    folds = parse((study / "params.yaml").read_text())["split"]["folds"]
    return study / f"data/prepared{folds['0']}"


def arrays(study: Path) -> tuple[Images, Images]:
    """Return the study's training and validation images, of a cross-validation those of its first fold."""
    index = pd.read_csv(folder(study) / "index.csv", keep_default_na=False, dtype={"label": str})
    classes = parse((study / "params.yaml").read_text())["classes"]
    found = []
    for name in ("train", "val"):
        labels = index.loc[index["array"] == name, "label"].map(classes.index)
        found.append(Images(np.load(folder(study) / f"{name}.npy"), np.array(labels, np.int64)))
    return found[0], found[1]


def pictures(study: Path, size: int) -> tuple[Images, np.ndarray]:
    """Return all that `arrays` does in one, at `size` pixels a side, and each image's group of copies."""
    both = arrays(study)
    index = pd.read_csv(folder(study) / "index.csv")
    groups = np.concatenate([index.loc[index["array"] == name, "group"] for name in ("train", "val")])
    whole = [Image.fromarray(one) for part in both for one in part.images]
    small = np.stack([np.asarray(one.resize((size, size), Image.Resampling.BILINEAR)) for one in whole])
    return Images(small, np.concatenate([part.labels for part in both])), groups


def divide(groups: np.ndarray, images: int, scored: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the numbers of images that train and of those that are scored; copies of one picture are never divided."""
    names, numbers = np.unique(groups, return_inverse=True)
    rank = order.generator(seed, 99).permutation(len(names))[numbers]
    shuffled = np.argsort(rank, kind="stable")
    last = rank[shuffled[images - 1]]
    return np.flatnonzero(rank <= last), np.sort(shuffled[rank[shuffled] > last][:scored])


def run(pool: Images, groups: np.ndarray, chosen: Params, args: argparse.Namespace) -> dict[str, float]:
    """Train on a part and return the last row of its history, the sizes of both parts, and the seconds that it took."""
    train, val = (
        Images(pool.images[some], pool.labels[some]) for some in divide(groups, args.images, args.scored, chosen.seed)
    )
    torch.manual_seed(chosen.seed)
    model = network.build(int(pool.labels.max()) + 1, chosen.train.dropout)
    trainer = Trainer(model, train, val, chosen, 0.2, 0.2)
    begun = time.perf_counter()
    trainer.fit(Nowhere())  # runs this short need no checkpoints
    history = trainer.progress.history
    row = history[-1]
    return {key: round(row[key], 6) for key in ("train_loss", "val_loss", "val_accuracy")} | {
        "trained_on": len(train.images),
        "scored_on": len(val.images),
        "seconds": round(time.perf_counter() - begun, 1),
    }


def table(runs: list[dict[str, Any]]) -> str:
    """Return the runs as Markdown: a row a change, over the seeds that both it and the unchanged recipe have."""
    base = {row["seed"]: row for row in runs if not row["change"]}
    lines = [
        "| change | accuracy | against the recipe, points | log-loss, against the recipe | seeds |",
        "|" + "---|" * 5,
    ]
    for name, change in CHANGES.items():
        rows = [row for row in runs if (row["name"], row["change"]) == (name, change) and row["seed"] in base]
        if rows:
            mean = statistics.mean(row["val_accuracy"] for row in rows)
            less = [100 * (row["val_accuracy"] - base[row["seed"]]["val_accuracy"]) for row in rows]
            loss = statistics.mean(row["val_loss"] - base[row["seed"]]["val_loss"] for row in rows)
            each = ", ".join(f"{value:+.1f}" for value in less)
            lines.append(f"| {name} | {mean:.1%} | {statistics.mean(less):+.1f} ({each}) | {loss:+.3f} | {len(rows)} |")
    return "\n".join(lines)


def main() -> None:
    args = arguments()
    result = so_far(args.out, settings(args))
    runs = result.setdefault("runs", [])
    pool, groups = pictures(args.study, args.size)
    for seed in args.seeds:
        for name, change in CHANGES.items():
            asked = {"name": name, "seed": seed, "change": change}
            if name not in args.only or any(asked.items() <= row.items() for row in runs):
                continue
            chosen = params(args, change, seed)
            runtime.exact(chosen.threads, chosen.precision)
            row = run(pool, groups, chosen, args)
            runs.append(asked | row)
            write_json(args.out, result)
    print(table(runs))


if __name__ == "__main__":
    try:
        main()
    except InputError as error:
        sys.exit(f"ablation: {error}")
