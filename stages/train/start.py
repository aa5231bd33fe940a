"""A trainer at the start of its run, from what lies in the study's folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from stages.backbone import network
from stages.shell.errors import InputError
from stages.train.loop import Images, Trainer
from stages.train.schema import Params
from stages.train.workers import Alone


def inputs(fold: str = "") -> list[str]:
    """Return the files that a run depends on; `fold` is its folder in a cross-validation, such as /folds/3.

    Raises
    ------
    InputError
        Where one is not there.
    """
    found = [
        *(f"data/prepared{fold}/{name}" for name in ("train.npy", "val.npy", "index.csv")),
        "models/init.safetensors",
    ]
    for path in found:
        if not Path(path).is_file():
            raise InputError(f"{path} not found in {Path.cwd().name}/: run `dvc repro` in the study's folder")
    return found


def trainer(chosen: Params, fold: str = "", team: Alone | None = None) -> tuple[Trainer, network.Meta]:
    """Return a trainer with the study's arrays and starting weights, and what those say of themselves.

    It is one of a team's, or alone.

    Raises
    ------
    InputError
        Where the weights cannot be used, or a batch is more than all training images.
    """
    _, meta = network.load("models/init.safetensors")
    train, val = _images("train", meta.classes, fold), _images("val", meta.classes, fold)
    if chosen.batch_size > len(train.images):
        raise InputError(
            f"batch_size = {chosen.batch_size} is more than the {len(train.images)} training images: choose less"
        )
    model = network.build(len(meta.classes), chosen.train.dropout)
    network.fit(model, network.read_tensors("models/init.safetensors")[0], "models/init.safetensors")
    return Trainer(model, train, val, chosen, meta.mean, meta.std, team), meta


def _images(array: str, classes: list[str], fold: str) -> Images:
    """Return an array as a memory map, and the number of each image's class."""
    index = pd.read_csv(f"data/prepared{fold}/index.csv", keep_default_na=False, dtype={"label": str})
    labels = index.loc[index["array"] == array, "label"].map({name: number for number, name in enumerate(classes)})
    return Images(np.load(f"data/prepared{fold}/{array}.npy", mmap_mode="r"), np.array(labels, np.int64))
