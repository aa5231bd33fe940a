"""Do two trainings differ in their low bits alone? Asked where a replay's weights are not the committed ones."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from commands.repository import cached
from stages.shell.errors import InputError

if TYPE_CHECKING:
    import torch

TOLERANCE = 1e-3  # of a tensor's root mean square: far above rounding, far below what one more epoch changes


def weights(path: str) -> bool:
    """Say whether an output is a network's weights: of one alone, or of a fold."""
    return re.fullmatch(r"models(/folds/\d+)?/model\.safetensors", path) is not None


def difference(own: Path, study: Path, path: str, committed: str) -> float | None:
    """Return how far the weights at `path` in `study` are from those of hash `committed` in the cache of `own`.

    The largest difference of two weights, as a share of their tensor's root mean square. None where the cache, of the
    study in the folder `own`, does not have the committed weights, or the two are not weights of one network.
    """
    from stages.backbone.network import read_tensors  # torch takes seconds to load

    try:
        before, _ = read_tensors(cached(own, committed))
        after, _ = read_tensors(study / path)
    except InputError:
        return None
    if {name: tensor.shape for name, tensor in before.items()} != {name: t.shape for name, t in after.items()}:
        return None
    return max((_apart(before[name].double(), after[name].double()) for name in before), default=0.0)


def _apart(one: torch.Tensor, other: torch.Tensor) -> float:
    scale = float(one.square().mean().sqrt()) if one.numel() else 0.0
    return float((one - other).abs().max()) / (scale or 1.0) if one.numel() else 0.0
