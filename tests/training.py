"""Small things to train: a folder that is ready for the train stage, and a network of a few weights."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from conftest import ROOT, set_params
from torch import nn

from stages.backbone import network
from stages.dialect import parse
from stages.train.loop import Images, Trainer
from stages.train.schema import Params
from stages.train.workers import Alone

CLASSES = ["glioma", "notumor"]
SMALL = {"classes": CLASSES, "epochs": 3, "batch_size": 8, "image_size": 32, "train.trail_steps": 2}


def pictures(count: int, side: int = 32, seed: int = 0) -> Images:
    """Random pictures of two classes, of which the second is brighter."""
    random = np.random.default_rng(seed)
    labels = np.arange(count) % 2
    images = random.integers(0, 128, (count, side, side)) + 100 * labels[:, None, None]
    return Images(images.astype(np.uint8), labels.astype(np.int64))


def make_study(folder: Path, train: int = 25, val: int = 8, **changes: Any) -> Path:
    """Make a folder in which `python -m stages.train` can run."""
    (folder / "data/prepared").mkdir(parents=True)
    shutil.copy(ROOT / "params.yaml", folder)
    set_params(folder, **(SMALL | changes))
    rows = []
    for seed, (array, count) in enumerate({"train": train, "val": val}.items()):
        made = pictures(count, seed=seed)
        np.save(folder / f"data/prepared/{array}.npy", made.images)
        rows += [(array, row, f"{array}/{row}", CLASSES[label], row, "none") for row, label in enumerate(made.labels)]
    table = pd.DataFrame(rows, columns=["array", "row", "path", "label", "group", "leaked"])
    table.to_csv(folder / "data/prepared/index.csv", index=False)
    torch.manual_seed(0)
    network.save(folder / "models/init.safetensors", network.build(2), network.Meta(CLASSES, 32, 0.2, 0.2))
    return folder


def chosen(**changes: Any) -> Params:
    """Return the default study's parameters of the train stage with some changed; dots lead into groups."""
    values = parse((ROOT / "params.yaml").read_text())
    values = {key: values[key] for key in Params.model_fields} | {"epochs": 3, "batch_size": 8}
    for key, value in changes.items():
        *outer, last = key.split(".")
        group = values[outer[0]] if outer else values
        group[last] = value
    return Params.model_validate(values)


class Small(nn.Module):
    """As ResNet-50 in what training touches: convolution, norm, dropout, a last layer named fc."""

    def __init__(self, dropout: float = 0.0) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 8, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(8)
        self.conv2 = nn.Conv2d(8, 8, 3, bias=False)
        self.fc = nn.Sequential(nn.Dropout(dropout), nn.Linear(8, 2))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.conv2(torch.relu(self.bn1(self.conv1(x))))
        return self.fc(x.mean(dim=(2, 3)))


def trainer(options: Params, train: Images | None = None, team: Alone | None = None) -> Trainer:
    torch.manual_seed(1)
    small = Small(options.train.dropout).to(memory_format=torch.channels_last)
    return Trainer(small, train or pictures(44), pictures(12, seed=1), options, 0.2, 0.2, team)
