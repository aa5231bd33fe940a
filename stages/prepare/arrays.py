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
from stages.shell.errors import InputError
from stages.verify.decode import Decoded, DecodeError
from stages.verify.picture import read_all, whole_files

CHUNK = 64  # images a task; more, where one file holds more


def write_arrays(folder: Path, paths: dict[str, list[str]], raw: Path, size: int, prepare: Prepare) -> None:
    """Write `<array>.npy`, uint8 [N, size, size], for each array's list of paths below `raw`.

    The bytes do not depend on the number of processes: each image is a pure function of its file, and results are
    taken in order.
    """
    work = partial(_squares, raw=raw, size=size, prepare=prepare)
    done = runtime.in_order(work, [chunk for listed in paths.values() for chunk in whole_files(listed, CHUNK)])
    for array, listed in paths.items():
        _write(folder / f"{array}.npy", (len(listed), size, size), done)


def _write(path: Path, shape: tuple[int, int, int], chunks: Iterator[np.ndarray]) -> None:
    """Write by plain writes, not through a memory map: that would die of a signal where the disk is full."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    with replacing(path) as part, part.open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        written = 0
        while written < shape[0]:
            squares = next(chunks)
            file.write(squares.data)
            written += len(squares)


def _squares(paths: list[str], raw: Path, size: int, prepare: Prepare) -> np.ndarray:
    found = read_all(raw, paths, prepare.max_pixels)
    return np.stack([_square(raw / path, found, size, prepare) for path in paths])


def _square(path: Path, found: Iterator[Decoded], size: int, prepare: Prepare) -> np.ndarray:
    try:
        grey = next(found).grey
    except (DecodeError, OSError) as error:
        raise InputError(f"{path} is not as the verify stage found it ({error}): run `dvc repro`") from None
    if max(grey.shape) ** 2 > 4 * prepare.max_pixels:
        raise InputError(
            f"{path}: {grey.shape[1]} x {grey.shape[0]} pixels are too long and thin: padded to a square they would be "
            f"over four times {prepare.max_pixels} (prepare.max_pixels)"
        )
    return square(grey, size, prepare.crop, prepare.crop_threshold)
