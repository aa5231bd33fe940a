"""What changes over a run: learning rate, image size, averaging. Each a function of the step alone."""

from __future__ import annotations

import math
from collections.abc import Sequence


def lr_factor(step: int, steps: int, warmup: int) -> float:
    """Return the factor on the peak learning rate at `step` of `steps`: linear warm-up, then half a cosine to zero.

    Warm-up: Goyal et al. 2017; cosine: Loshchilov and Hutter 2017.
    """
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def size_at(progress: float, schedule: Sequence[tuple[float, int]], full: int) -> int:
    """Return the image side in pixels at `progress` (0..1 of the run): the latest entry of `schedule`, else `full`."""
    begun = [(start, size) for start, size in schedule if start <= progress]
    return max(begun)[1] if begun else full


def ema_decay_at(step: int, decay: float) -> float:
    """Return the averaging decay at `step`, smaller at first so that the random start is soon forgotten."""
    return min(decay, (1 + step) / (10 + step))
