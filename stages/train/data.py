"""The training images: on the device where they fit, else streamed from the memory map ahead of the step."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor

import numpy as np
import torch

AHEAD = 3  # batches read before they are needed
SHARE = 0.5  # of the free device memory that images may take
CHUNK = 1024  # images copied to the device at once


def batches(images: np.ndarray, order: np.ndarray, device: torch.device) -> Iterator[torch.Tensor]:
    """Yield uint8 batches [B, S, S] on `device`, for each row of `order` (int64 [steps, B]) in turn.

    `images` is uint8 [N, S, S], usually a memory map. Three ways to the same bits: on a CPU a batch is a gather from
    the map; on a GPU with room all images lie there (see `resident`); else a thread reads ahead into pinned memory.
    """
    if device.type == "cpu":
        for rows in order:
            yield torch.from_numpy(images[rows])
    else:
        yield from _streamed(images, order, device)


def resident(images: np.ndarray, device: torch.device) -> torch.Tensor | None:
    """Return all images as one tensor on a GPU, or None where they would take over half of its free memory."""
    if device.type == "cpu" or images.nbytes > SHARE * torch.cuda.mem_get_info(device)[0]:
        return None
    out = torch.empty(images.shape, dtype=torch.uint8, device=device)
    for start in range(0, len(images), CHUNK):  # a memory map is never whole in the host's memory
        out[start : start + CHUNK] = torch.from_numpy(np.array(images[start : start + CHUNK])).to(device)
    return out


def gathered(images: torch.Tensor, order: np.ndarray) -> Iterator[torch.Tensor]:
    """Yield batches [B, S, S] of images that lie on the device, for each row of `order`."""
    rows = torch.from_numpy(order).to(images.device)
    for row in rows:
        yield images[row]


def _streamed(images: np.ndarray, order: np.ndarray, device: torch.device) -> Iterator[torch.Tensor]:
    def read(rows: np.ndarray) -> torch.Tensor:
        return torch.from_numpy(images[rows]).pin_memory()

    with ThreadPoolExecutor(1) as reader:
        waiting: deque[Future[torch.Tensor]] = deque()
        for rows in order:
            waiting.append(reader.submit(read, rows))
            if len(waiting) > AHEAD:
                yield waiting.popleft().result().to(device, non_blocking=True)
        while waiting:
            yield waiting.popleft().result().to(device, non_blocking=True)
