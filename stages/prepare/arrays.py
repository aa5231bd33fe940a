"""Many images: decoded in parallel, written in order, never all in memory."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np

from stages import runtime
from stages.files import replacing
from stages.prepare.image import square
from stages.prepare.schema import Prepare
from stages.verify.decode import decode_grey

CHUNK = 64  # images a task


def write_arrays(folder: Path, paths: dict[str, list[str]], raw: Path, size: int, prepare: Prepare) -> None:
    """Write `<array>.npy`, uint8 [N, size, size], for each array's list of paths below `raw`.

    The bytes do not depend on the number of processes: each image is a pure function of its file, and results are
    taken in order.
    """
    tasks = [(array, listed[i : i + CHUNK]) for array, listed in paths.items() for i in range(0, len(listed), CHUNK)]
    work = partial(_squares, raw=raw, size=size, prepare=prepare)
    done = runtime.in_order(work, [chunk for _, chunk in tasks])
    for array, listed in paths.items():
        _write(folder / f"{array}.npy", (len(listed), size, size), done)


def _write(path: Path, shape: tuple[int, int, int], chunks: Iterator[np.ndarray]) -> None:
    with replacing(path) as part:
        out = np.lib.format.open_memmap(part, mode="w+", dtype=np.uint8, shape=shape)
        start = 0
        while start < len(out):
            squares = next(chunks)
            out[start : start + len(squares)] = squares
            start += len(squares)
        out.flush()
        del out


def _squares(paths: list[str], raw: Path, size: int, prepare: Prepare) -> np.ndarray:
    images = (decode_grey((raw / path).read_bytes(), prepare.max_pixels) for path in paths)
    return np.stack([square(grey, size, prepare.crop, prepare.crop_threshold) for grey in images])
