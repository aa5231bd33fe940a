"""What each choice of the recipe is worth, in short runs on real images: one key changed at a time.

    python bench/ablation.py --study studies/nickparvar [--images 1024] [--epochs 8] [--seeds 0 1]

The study must have been run up to `prepare`. Training images are a sample, the same in every run of a seed; scored on
all validation images, which share no copy with them. Test images are not read. Each run is written when it ends, and a
run that is already in the file is not made again. Writes bench/results/ablation.json.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))
import stages  # noqa: I001, F401  it pins the instruction set before torch is loaded

import numpy as np
import pandas as pd
import torch
import yaml

from stages import provenance, runtime
from stages.backbone import network
from stages.files import write_json
from stages.train import order
from stages.train.checkpoint import Store
from stages.train.loop import Images, Trainer
from stages.train.schema import Params

ROOT = Path(__file__).parent.parent

CHANGES: dict[str, dict[str, Any]] = {
    "the recipe as it stands": {},
    "no averaged weights": {"train.ema_decay": 0.0},
    "no warm-up": {"train.warmup_epochs": 0},
    "no label smoothing": {"train.label_smoothing": 0.0},
    "no weight decay": {"train.weight_decay": 0.0},
    "no augmentation": {
        f"augment.{key}": 0 for key in ("mirror", "rotate", "scale", "translate", "brightness", "contrast")
    },
    "no mirroring": {"augment.mirror": False},
    "no rotation": {"augment.rotate": 0},
    "no scaling, no shift": {"augment.scale": 0, "augment.translate": 0},
    "no brightness, no contrast": {"augment.brightness": 0, "augment.contrast": 0},
    "48 px for the first half": {"train.size_schedule": [[0.0, 48], [0.5, 64]]},
    "lr 3e-4": {"lr": 3e-4},
    "lr 3e-3": {"lr": 3e-3},
    "batch_size 32": {"batch_size": 32},
    "dropout 0.2": {"train.dropout": 0.2},
    "class weights": {"train.class_weights": True},
    "noise 0.05": {"augment.noise": 0.05},
    "weight decay 0.2": {"train.weight_decay": 0.2},
    "best epoch on validation": {"train.select_best": True},
}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--study", type=Path, default=ROOT / "studies/nickparvar")
    parser.add_argument("--images", type=int, default=1024, help="training images")
    parser.add_argument("--epochs", type=int, default=8)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1])
    parser.add_argument("--output", type=Path, default=ROOT / "bench/results/ablation.json")
    return parser.parse_args()


def params(study: Path, change: dict[str, Any], seed: int, epochs: int) -> Params:
    """Return the study's parameters with a change, whose keys may be dotted."""
    values = yaml.safe_load((study / "params.yaml").read_text())
    values = {key: values[key] for key in Params.model_fields} | {"seed": seed, "epochs": epochs}
    for key, value in change.items():
        group, _, name = key.rpartition(".")
        (values[group] if group else values)[name] = value
    return Params.model_validate(values)


def arrays(study: Path) -> tuple[Images, Images]:
    """Return the study's training and validation images."""
    index = pd.read_csv(study / "data/prepared/index.csv", keep_default_na=False, dtype={"label": str})
    classes = sorted(index["label"].unique())
    found = []
    for name in ("train", "val"):
        labels = index.loc[index["array"] == name, "label"].map(classes.index)
        found.append(Images(np.load(study / f"data/prepared/{name}.npy"), np.array(labels, np.int64)))
    return found[0], found[1]


def run(train: Images, val: Images, chosen: Params, images: int, scratch: Path) -> dict[str, float]:
    """Train on a sample of `images` and return the last row of its history, and the seconds that it took."""
    some = np.sort(order.generator(chosen.seed, 99).permutation(len(train.images))[:images])
    torch.manual_seed(chosen.seed)
    model = network.build(int(train.labels.max()) + 1, chosen.train.dropout)
    trainer = Trainer(model, Images(train.images[some], train.labels[some]), val, chosen, 0.2, 0.2)
    begun = time.perf_counter()
    trainer.fit(NoStore(scratch, "none"))
    history = trainer.progress.history
    row = history[trainer.progress.best_epoch if chosen.train.select_best else -1]
    return {key: round(row[key], 6) for key in ("train_loss", "val_loss", "val_accuracy")} | {
        "seconds": round(time.perf_counter() - begun, 1)
    }


class NoStore(Store):
    """Runs this short need no checkpoints."""

    def save(self, tensors: dict[str, torch.Tensor], progress: Any) -> None:
        return


def table(runs: list[dict[str, Any]]) -> str:
    """Return the runs as Markdown: a row a change, over the seeds that both it and the recipe as it stands have."""
    base = {row["seed"]: row["val_accuracy"] for row in runs if not row["change"]}
    lines = ["| change | validation accuracy | against the recipe | seeds |", "|---|---|---|---|"]
    for name in CHANGES:
        rows = [row for row in runs if row["name"] == name and row["seed"] in base]
        if rows:
            mean = statistics.mean(row["val_accuracy"] for row in rows)
            less = [100 * (row["val_accuracy"] - base[row["seed"]]) for row in rows]
            each = ", ".join(f"{value:+.1f}" for value in less)
            lines.append(f"| {name} | {mean:.1%} | {statistics.mean(less):+.1f} points ({each}) | {len(rows)} |")
    return "\n".join(lines)


def main() -> None:
    args = arguments()
    settings = {"study": args.study.name, "images": args.images, "epochs": args.epochs, "cpu": provenance.cpu()}
    result: dict[str, Any] = {"settings": settings, "runs": []}
    if args.output.is_file() and (earlier := json.loads(args.output.read_text()))["settings"] == settings:
        result = earlier
    train, val = arrays(args.study)
    with tempfile.TemporaryDirectory() as scratch:
        for seed in args.seeds:
            for name, change in CHANGES.items():
                if any((row["name"], row["seed"]) == (name, seed) for row in result["runs"]):
                    continue
                chosen = params(args.study, change, seed, args.epochs)
                runtime.exact(chosen.threads, chosen.precision)
                row = run(train, val, chosen, args.images, Path(scratch))
                result["runs"].append({"name": name, "seed": seed, "change": change} | row)
                write_json(args.output, result)
    print(table(result["runs"]))


if __name__ == "__main__":
    main()
