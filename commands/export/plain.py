"""Weights for torchvision's own resnet50: three equal input channels, a plain last layer."""

from __future__ import annotations

import json
from pathlib import Path

import torch

from commands.export.about import about
from commands.predict.model import Model
from stages.backbone.network import write_tensors
from stages.files import replacing

LINES = """from safetensors.torch import load_file
from torchvision.models import resnet50

model = resnet50(num_classes={classes})
model.load_state_dict(load_file("{path}"))
model.eval()"""


def check() -> None:
    """Nothing is needed beside what the pipeline has."""


def write(model: Model, out: Path) -> list[str]:
    """Write the weights as safetensors; the lines that load them."""
    tensors = plain(model.networks.each[0][0].state_dict())
    with replacing(out) as part:
        write_tensors(part, tensors, json.dumps(about(model) | {"channels": 3}, sort_keys=True))
    return [LINES.format(classes=len(model.classes), path=out)]


def plain(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Return the tensors as torchvision names and shapes them.

    The sum of three equal channels, each by a third of the filter, is one channel by the filter: `network.fold` undone.
    """
    stem = (state["conv1.weight"] / 3).expand(-1, 3, -1, -1)
    named = {name.replace("fc.1.", "fc."): tensor for name, tensor in state.items()}
    return {name: tensor.contiguous() for name, tensor in (named | {"conv1.weight": stem}).items()}
