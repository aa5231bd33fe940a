"""The trail: hashes of a training's state every so many steps, so that any stretch of it can be checked by itself.

Proof-of-learning (Jia et al. 2021, https://arxiv.org/abs/2103.05633) compares distances of weights; training here is
exact, so hashes must be equal. docs/trail.md says what checking stretches of it proves.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

PARTS = {"weights": "network.", "average": "average.", "best": "best.", "optimizer": "adamw."}  # of a trainer's state
COLUMNS = ["step", "epoch", "train_loss", *PARTS]
Row = dict[str, str]


def digest(tensors: Mapping[str, torch.Tensor]) -> str:
    """Return the SHA-256, in hex, of named tensors on the CPU, whatever their order and their layout in memory.

    For each name, sorted: a line `name dtype [shape]`, then the values' bytes, little-endian, the last axis fastest.
    """
    found = hashlib.sha256()
    for name in sorted(tensors):
        values = tensors[name].detach().contiguous().numpy()
        found.update(f"{name} {values.dtype} {list(values.shape)}\n".encode())
        found.update(values.reshape(-1).data.cast("B") if values.size else b"")
    return found.hexdigest()


def hashes(state: Mapping[str, torch.Tensor]) -> Row:
    """Return the digest of each part of a trainer's state (`Trainer.state`); empty where the run has no such part."""
    parts = [
        {name.removeprefix(prefix): tensor for name, tensor in state.items() if name.startswith(prefix)}
        for prefix in PARTS.values()
    ]
    with ThreadPoolExecutor(len(parts)) as pool:  # hashing lets other threads run
        found = pool.map(lambda tensors: digest(tensors) if tensors else "", parts)
        return dict(zip(PARTS, found, strict=True))


def kept(row: Row) -> str:
    """Return the digest of the weights that a run which ends with this row keeps."""
    return row["best"] or row["average"] or row["weights"]


def before(step: int, every: int) -> int:
    """Return the step of the row before the one at `step`; 0 where that is the first."""
    return max(0, (step - 1) // every * every)


def spread(planned: int, every: int, count: int) -> list[int]:
    """Return at which rows, of a run of `planned` steps, a state is stored whenever it ends: all but the last of them.

    Evenly, at 2, 3, ... `count` of `count` + 1 parts of the run, each at the row before: the first part begins with the
    starting weights, which are there anyway, and what is late is nearest to the weights that are kept.

    Examples
    --------
    >>> spread(7120, 100, 2), spread(7120, 100, 3), spread(7120, 100, 1)
    ([4700], [3500, 5300], [])
    """
    steps = {planned * part // (count + 1) // every * every for part in range(2, count + 1)}
    return sorted(steps - {0})


def stored_at(end: int, planned: int, every: int, count: int) -> list[int]:
    """Return the steps of all stored states of a run that ended at `end`: `spread`, and the last row before the end.

    From the last one, training runs into the weights that are kept, so those cannot be exchanged unseen.

    Examples
    --------
    >>> stored_at(7120, 7120, 100, 2), stored_at(3560, 7120, 100, 2), stored_at(50, 50, 100, 2)
    ([4700, 7100], [3500], [])
    """
    last = before(end, every)
    steps = {step for step in spread(planned, every, count) if step < last} | ({last} if count else set())
    return sorted(steps - {0})


def may_end(step: int, every: int, steps: int, epochs: int, patience: int, best_epoch: int) -> bool:
    """Whether the run may end before or at the row after `step`, as far as it is known at `step`.

    `every` is the steps between rows, `steps` those of an epoch; `patience` the epochs without a better validation
    than that of `best_epoch` after which the run ends early, 0 for never.
    """
    epoch = min(epochs, (step + every) // steps) - 1  # the last one that ends by then
    if (epoch + 1) * steps <= step:
        return False
    return epoch + 1 == epochs or (patience > 0 and epoch - best_epoch >= patience)
