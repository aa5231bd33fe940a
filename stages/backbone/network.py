"""ResNet-50 with a one-channel stem, and its weights as safetensors."""

from __future__ import annotations

import json
import os
import re
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import nn
from torchvision.models import resnet50

from stages.files import replacing
from stages.shell.errors import InputError


@dataclass(frozen=True)
class Meta:
    """What a weights file says of itself: all that is needed to use it on an image."""

    classes: list[str]  # in the order of the network's outputs
    image_size: int  # pixels a side
    mean: float  # of grey levels in 0..1, subtracted
    std: float  # then divided by
    dropout: float = 0.0  # before the last layer, in training
    made_by: str = ""  # digest of the parameters that produced these weights


def build(classes: int, dropout: float = 0.0) -> nn.Module:
    """Return torchvision's ResNet-50 for grey images [N, 1, S, S] -> logits [N, classes], randomly initialised.

    The last norm of each residual block starts at zero, so that every block starts as the identity (Goyal et al. 2017,
    5.1): from random weights this trains much faster in a few epochs (docs/recipe.md).

    MRI slices are grey, and three equal input channels times three filters are one channel times the filters' sum, so
    the stem is folded: the same mathematics with a third of its work and memory.
    """
    network = resnet50(weights=None, num_classes=classes, zero_init_residual=True)
    network.fc = nn.Sequential(nn.Dropout(dropout), network.fc)
    stem = nn.Conv2d(1, 64, kernel_size=7, stride=2, padding=3, bias=False)
    stem.weight = nn.Parameter(fold(network.conv1.weight.detach()))
    network.conv1 = stem
    return network.to(memory_format=torch.channels_last)


def fold(stem: torch.Tensor) -> torch.Tensor:
    """Return filters [64, 3, 7, 7] for three equal channels as one-channel filters [64, 1, 7, 7] that equal them."""
    return stem.sum(dim=1, keepdim=True)


def save(path: Path | str, network: nn.Module, meta: Meta) -> None:
    """Write weights and what they are as safetensors, which run no code when loaded. Atomic; same input, same bytes."""
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in network.state_dict().items()}
    with replacing(path) as part:
        # one JSON string: safetensors keeps several metadata keys in an order that changes from run to run
        write_tensors(part, tensors, json.dumps(asdict(meta), sort_keys=True))


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], about: str) -> None:
    """Write a safetensors file with one metadata key; a full disk is an OSError, as from any other write."""
    try:
        save_file(tensors, path, metadata={"brainmri": about})
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        if not number:
            raise
        raise OSError(int(number[1]), os.strerror(int(number[1])), str(path)) from None


def load(path: Path | str) -> tuple[nn.Module, Meta]:
    """Return the network of a weights file, in evaluation mode, and what the file says of itself.

    Raises
    ------
    InputError
        Where the file is no safetensors, was not written by `save`, or its tensors do not fit or are not finite.
    """
    state, metadata = read_tensors(path)
    try:
        meta = Meta(**json.loads(metadata["brainmri"]))
        network = build(len(meta.classes), float(meta.dropout))
    except (KeyError, TypeError, ValueError):
        raise InputError(
            f"{path}: a safetensors file, but not one that this pipeline wrote (no usable `brainmri` metadata); "
            "give it to the backbone stage as `backbone.weights` instead"
        ) from None
    fit(network, state, path)
    return network.eval(), meta


def read_tensors(path: Path | str) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """Return all tensors and the metadata of a safetensors file, or raise InputError."""
    try:
        with safe_open(path, framework="pt") as handle:
            return {name: handle.get_tensor(name) for name in handle.keys()}, handle.metadata() or {}  # noqa: SIM118
    except FileNotFoundError:
        raise InputError(f"{path} not found: expected a .safetensors file of ResNet-50 weights") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise InputError(
            f"{path} is not a readable safetensors file ({error}); pickled weights (.pt, .pth) are refused "
            "because loading them can run code: convert them first"
        ) from None


def fit(network: nn.Module, state: dict[str, torch.Tensor], path: Path | str) -> None:
    """Load `state` into `network`; InputError where a name, a shape or a value is wrong."""
    wanted = network.state_dict()
    for name, tensor in wanted.items():
        if name not in state:
            raise InputError(f"{path}: tensor {name!r} is missing; expected torchvision's ResNet-50")
        if state[name].shape != tensor.shape:
            raise InputError(
                f"{path}: tensor {name!r} has shape {list(state[name].shape)}, expected {list(tensor.shape)}"
            )
        if state[name].is_floating_point() and not bool(torch.isfinite(state[name]).all()):
            raise InputError(f"{path}: tensor {name!r} holds NaN or infinity")
    surplus = sorted(set(state) - set(wanted))
    if surplus:
        raise InputError(f"{path}: unexpected tensor {surplus[0]!r}; expected torchvision's ResNet-50")
    network.load_state_dict(state)
