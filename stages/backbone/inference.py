"""From uint8 images to logits, always in one batch shape."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import nn

from stages import runtime


def normalise(images: torch.Tensor, mean: float, std: float) -> torch.Tensor:
    """Return uint8 images [N, S, S] as float32 [N, 1, S, S], grey levels scaled to 0..1, then (x - mean) / std."""
    x = images.unsqueeze(1).to(torch.float32).mul_(1 / 255).sub_(mean).mul_(1 / std)
    return x.contiguous(memory_format=torch.channels_last)


def logits(
    network: nn.Module,
    images: np.ndarray,
    *,
    mean: float,
    std: float,
    batch_size: int,
    device: torch.device,
    precision: runtime.Precision = "fp32",
    mirror: bool = False,
    progress: Callable[[int], object] | None = None,
) -> np.ndarray:
    """Return logits float32 [N, C] for uint8 images [N, S, S].

    Every forward pass has exactly `batch_size` images, the last one padded with black: kernels are chosen by shape, so
    an image alone and the same image in a batch would otherwise differ in the last bits. With `mirror` the logits of
    an image and of its left-right mirror image are averaged.
    """
    network.eval()
    out = []
    for start in range(0, len(images), batch_size):
        chunk = np.asarray(images[start : start + batch_size])
        x = normalise(torch.from_numpy(padded(chunk, batch_size)).to(device), mean, std)
        y = _forward(network, x, device, precision)
        if mirror:
            y = (y + _forward(network, x.flip(3).contiguous(memory_format=torch.channels_last), device, precision)) / 2
        out.append(y[: len(chunk)].cpu().numpy())
        if progress:
            progress(len(chunk))
    return np.concatenate(out) if out else np.zeros((0, 0), np.float32)


def padded(images: np.ndarray, length: int) -> np.ndarray:
    """Return images [n, S, S] followed by black ones, [length, S, S], as a new array."""
    out = np.zeros((length, *images.shape[1:]), np.uint8)
    out[: len(images)] = images
    return out


def _forward(network: nn.Module, x: torch.Tensor, device: torch.device, precision: runtime.Precision) -> torch.Tensor:
    with torch.inference_mode(), runtime.autocast(device, precision):
        return network(x).float()
