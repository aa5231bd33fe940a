"""The order of images and every random draw: functions of (seed, epoch, step), never of what was drawn before."""

from __future__ import annotations

import numpy as np

# What a draw is for: two purposes never share a stream.
ORDER, AUGMENT, TORCH = 1, 2, 3


def generator(*key: int) -> np.random.Generator:
    """Return a counter-based generator (Philox, Salmon et al. 2011) that depends on `key` alone."""
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def batches(n: int, batch_size: int, seed: int, epoch: int) -> np.ndarray:
    """Return the epoch's image numbers, int64 [steps, batch_size], a new permutation of 0..n-1 each epoch.

    The remainder that does not fill a batch is left out, other images in each epoch: batch norm needs more than one
    image, and one shape for all steps is what kernels are chosen for.
    """
    steps = n // batch_size
    return generator(seed, ORDER, epoch).permutation(n)[: steps * batch_size].reshape(steps, batch_size)
