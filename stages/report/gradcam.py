"""Where the network looked: Grad-CAM (Selvaraju et al. 2017) by cell, and its picture."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import nn
from torch.nn import functional as F

from stages.backbone.inference import normalise
from stages.files import atomic_write

STRIDES = {"layer4": 32, "layer3": 16, "layer2": 8}  # pixels from one cell of a layer's map to the next
CELLS = 4  # a side that a map has at least: the last layer's from 128 px on; a smaller image is read off an earlier one
BATCH = 8  # images at a time
SIDE = 224  # pixels a side of a picture made of it
STRENGTH = 0.6  # how much of the hottest pixel is heat
LEVELS = 32  # of heat in a picture: coarser than any last bits


def gradcam(
    network: nn.Module, images: NDArray[np.uint8], classes: NDArray[np.int64], *, mean: float, std: float
) -> NDArray[np.float32]:
    """Return how much each place of uint8 images [N, S, S] speaks for one class each, float32 [N, S, S] in 0..1.

    The channels of the deepest of ResNet's four stages that still has CELLS x CELLS cells, each cell weighed by its own
    gradient of the class's logit, summed; what speaks against the class is cut off (HiResCAM, Draelos and Carin 2020).
    At the last stage, which is averaged before the logits, this is Grad-CAM; on earlier ones it is more faithful
    (docs/predict.md). A map of nothing is all zeros.
    """
    network.eval()
    found = [
        _maps(network, images[start : start + BATCH], classes[start : start + BATCH], mean, std)
        for start in range(0, len(images), BATCH)
    ]
    return np.concatenate(found) if found else np.zeros(images.shape, np.float32)


def _maps(
    network: nn.Module, images: NDArray[np.uint8], classes: NDArray[np.int64], mean: float, std: float
) -> NDArray[np.float32]:
    device = next(network.parameters()).device
    x = normalise(torch.from_numpy(np.ascontiguousarray(images)).to(device), mean, std)
    kept: dict[str, torch.Tensor] = {}

    def keep(_module: nn.Module, _inputs: object, output: torch.Tensor) -> None:
        kept["activation"] = output

    layer = _layer(images.shape[1])
    hook = network.get_submodule(layer).register_forward_hook(keep)
    try:
        with torch.enable_grad():
            scores = network(x.requires_grad_())
            picked = scores[torch.arange(len(images)), torch.from_numpy(classes).to(device)].sum()
            (gradient,) = torch.autograd.grad(picked, kept["activation"])
    finally:
        hook.remove()
    heat = F.relu((gradient * kept["activation"].detach()).sum(dim=1, keepdim=True))
    heat = heat / heat.amax(dim=(2, 3), keepdim=True).clamp_min(1e-12)
    return enlarged(heat[:, 0], images.shape[1], STRIDES[layer]).cpu().numpy()


def _layer(size: int) -> str:
    """Return the deepest stage of the network whose map is CELLS a side at least; the second where none is."""
    return next((name for name, stride in STRIDES.items() if -(-size // stride) >= CELLS), "layer2")


def enlarged(cells: torch.Tensor, size: int, stride: int) -> torch.Tensor:
    """Return maps [N, C, C] as [N, size, size], bilinear, each cell where the network sees it.

    ResNet's windows that skip pixels are padded by half their width, so cell i looks around pixel i * stride, and not
    around the middle of the i-th part of the image. Beyond the last cell its heat is kept.
    """
    count = cells.shape[-1]
    at = (torch.arange(size, device=cells.device) / stride).clamp(max=count - 1)
    weights = (1 - (at[:, None] - torch.arange(count, device=cells.device)).abs()).clamp_min(0)
    return weights @ cells @ weights.T


def overlay(image: NDArray[np.uint8], heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return a grey image [S, S] with heat [S, S] laid over it in matplotlib's inferno, uint8 [SIDE, SIDE, 3]."""
    from matplotlib import colormaps

    grey = np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.int64)
    coarse = Image.fromarray(np.rint(heat * LEVELS).astype(np.uint8) * (255 // LEVELS))
    level = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BILINEAR), np.int64)
    colour = np.rint(colormaps["inferno"](np.arange(256))[:, :3] * 255).astype(np.int64)[level]
    share = level[..., None] * int(STRENGTH * 100)  # of 25,500
    return np.asarray((grey[..., None] * (25_500 - share) + colour * share) // 25_500, np.uint8)


def overlay_png(path: Path, image: NDArray[np.uint8], heat: NDArray[np.float32]) -> None:
    """Write image and overlay side by side."""
    both = np.concatenate([np.repeat(_large(image)[..., None], 3, axis=2), overlay(image, heat)], axis=1)
    atomic_write(path, png(both))


def png(picture: NDArray[np.uint8]) -> bytes:
    """Return a picture, uint8 [H, W] or [H, W, 3], as PNG."""
    out = io.BytesIO()
    Image.fromarray(picture).save(out, "PNG")
    return out.getvalue()


def _large(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
    return np.asarray(Image.fromarray(image).resize((SIDE, SIDE), Image.Resampling.BILINEAR))
