"""Random changes of a whole batch at once, on the device that trains."""

from __future__ import annotations

import math

import numpy as np
import torch
from torch.nn import functional as F

from stages.train.schema import Augment


def augment(x: torch.Tensor, options: Augment, draws: np.random.Generator) -> torch.Tensor:
    """Return x (float32 [N, 1, S, S], normalised grey levels) with every image changed in its own way.

    Affine first (mirror, turn, scale, shift in one resampling; what enters at the border repeats its edge), then
    contrast and brightness, then noise. Torch draws the noise, so seed torch for the step first.
    """
    n = len(x)
    matrix = affine(n, options, draws)
    if matrix is not None:
        theta = _on(x.device, matrix)
        grid = F.affine_grid(theta, [n, 1, *x.shape[2:]], align_corners=False)
        x = F.grid_sample(x, grid, mode="bilinear", padding_mode="border", align_corners=False)
    gain, offset = draws.uniform(-1, 1, (2, n, 1, 1, 1)).astype(np.float32)
    if options.contrast:
        x = x * _on(x.device, 1 + options.contrast * gain)
    if options.brightness:
        x = x + _on(x.device, options.brightness * offset)
    if options.noise:
        x = x + options.noise * torch.randn_like(x)
    return x.contiguous(memory_format=torch.channels_last)


def _on(device: torch.device, values: np.ndarray) -> torch.Tensor:
    """Return values on the device; a GPU fetches them from pinned memory, so nobody waits for its stream."""
    found = torch.from_numpy(values)
    return found if device.type == "cpu" else found.pin_memory().to(device, non_blocking=True)


def affine(n: int, options: Augment, draws: np.random.Generator) -> np.ndarray | None:
    """Return float32 [n, 2, 3] that map output to input positions in -1..1, for `affine_grid`; None if all at rest.

    The same draws are made whatever is switched off, so one option does not change what another one does.
    """
    turn, zoom, right, down = draws.uniform(-1, 1, (4, n))
    coin = draws.random(n)
    flip = np.where((coin < 0.5) & options.mirror, -1.0, 1.0)
    if not (options.mirror or options.rotate or options.scale or options.translate):
        return None
    angle = turn * options.rotate * math.pi / 180
    stretch = 1 + zoom * options.scale
    cos, sin = np.cos(angle) * stretch, np.sin(angle) * stretch
    rows = [[cos * flip, -sin, right * 2 * options.translate], [sin * flip, cos, down * 2 * options.translate]]
    return np.array(rows).transpose(2, 0, 1).astype(np.float32)


def resample(x: torch.Tensor, size: int) -> torch.Tensor:
    """Return x [N, 1, S, S] at `size` pixels a side, antialiased; x itself where it has that size already."""
    if size == x.shape[-1]:
        return x
    x = F.interpolate(x, (size, size), mode="bilinear", antialias=True, align_corners=False)
    return x.contiguous(memory_format=torch.channels_last)
