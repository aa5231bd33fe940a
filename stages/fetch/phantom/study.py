"""Which files a phantom study has, and writing them."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from stages import runtime
from stages.fetch.phantom.copies import KINDS, copied
from stages.fetch.phantom.draws import Draws
from stages.fetch.phantom.heads import slice_of
from stages.fetch.phantom.picture import CLASSES, Box, Picture, pictured
from stages.fetch.phantom.schema import PhantomParams
from stages.shell.errors import InputError

# Keys of draws that are no picture's: a picture's second number is 0 (training) or 1 (test).
SOURCES, COPY, FORM, SPLIT = 2, 3, 4, 6  # 5 is heads.HEAD
COLOUR_SHARE = 0.3  # of the files hold their grey levels three times, as many published ones do
CHUNK = 8  # files a process draws before it asks for more


@dataclass(frozen=True)
class Planned:
    """One file, and for a planted copy what it shows. Known to the generator and to tests, never written down."""

    split: str  # Training or Testing
    label: str
    number: int  # within its split and class
    kind: str | None = None  # one of copies.KINDS
    source: Planned | None = None  # the training file it shows
    head: int | None = None  # within its class, where there are several slices of one
    place: int = 0  # of the slice in its head

    def path(self, seed: int) -> str:
        """Return the path below the study's images.

        The name is a digest, so it tells neither order nor copies; where there are several slices of a head,
        `<head>_<digest>.bmp`, of which a copy has its source's head.
        """
        name = _digest(f"phantom {seed} {self.split} {self.label} {self.number}")
        head = (self.source or self).head
        of_head = "" if head is None else f"{_digest(f'phantom {seed} head {self.label} {head}')}_"
        return f"{self.split}/{self.label}/{of_head}{name}.bmp"


def plan(classes: list[str], seed: int, params: PhantomParams) -> list[Planned]:
    """Return every file of a study: training, test, then planted copies, which stand among the test files on disk.

    Raises
    ------
    InputError
        For a class that cannot be drawn, or more copies than there are training images.
    """
    _check(classes)
    heads = {label: _slices(label, seed, params) for label in classes}
    fresh = [
        Planned(split, label, number, None, None, *heads[label][first + number])
        for split, first, count in (
            ("Training", 0, params.train_per_class),
            ("Testing", params.train_per_class, params.test_per_class),
        )
        for label in sorted(classes)
        for number in range(count)
    ]
    return fresh + _planted(fresh, sorted(classes), seed, params)


def write(folder: Path, classes: list[str], seed: int, params: PhantomParams, workers: int) -> None:
    """Write `Training/<class>/*.bmp` and `Testing/<class>/*.bmp` below `folder`, the same bytes for any `workers`.

    Raises
    ------
    InputError
        As `plan` does, before anything is written.
    """
    # By path: the order in which files are written must not tell copies either.
    planned = sorted(plan(classes, seed, params), key=lambda file: file.path(seed))
    for split in ("Training", "Testing"):
        for label in classes:
            (folder / split / label).mkdir(parents=True, exist_ok=True)
    job = partial(_write_one, folder, seed, params)
    if workers < 2:
        for file in planned:
            job(file)
        return
    with runtime.Processes(workers) as pool:
        step = CHUNK * workers * 4  # bounds the jobs that wait
        for start in range(0, len(planned), step):
            for _ in pool.map(job, planned[start : start + step], chunksize=CHUNK):
                pass


def drawn(file: Planned, seed: int, params: PhantomParams) -> NDArray[np.uint8]:
    """Return a file's grey levels uint8 [H, W]."""
    if file.source is None or file.kind is None:
        return _picture(file, seed, params).grey
    return copied(drawn(file.source, seed, params), file.kind, Draws(*_key(seed, COPY, file)))


def tumour_box(file: Planned, seed: int, params: PhantomParams) -> Box | None:
    """Return where a file's tumour is; None where it has none. Only tests and bench/ may ask."""
    box = _picture(file.source or file, seed, params).box
    if box is None or file.kind != "mirrored":
        return box
    return box._replace(left=1 - box.right, right=1 - box.left)


def _picture(file: Planned, seed: int, params: PhantomParams) -> Picture:
    if file.head is not None:
        return slice_of(seed, file.label, file.head, file.place, params)
    return pictured(seed, file.split == "Testing", file.label, file.number, params)


def _slices(label: str, seed: int, params: PhantomParams) -> list[tuple[int | None, int]]:
    """Return (head, place) of each image of a class, training before test, in random order: heads are in both."""
    count, each = params.train_per_class + params.test_per_class, params.slices_per_head
    if each == 1:
        return [(None, 0)] * count
    order = Draws(seed, SPLIT, CLASSES.index(label)).shuffled(count)
    return [divmod(number, each) for number in order]


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _write_one(folder: Path, seed: int, params: PhantomParams, file: Planned) -> None:
    """Write one file as BMP: uncompressed, so that its bytes depend on no version of zlib, and any viewer opens it."""
    image = Image.fromarray(drawn(file, seed, params))
    form = file.source if file.kind == "byte" and file.source else file
    if Draws(*_key(seed, FORM, form)).chance(COLOUR_SHARE):
        image = image.convert("RGB")
    image.save(folder / file.path(seed), "BMP")


def _key(seed: int, purpose: int, file: Planned) -> tuple[int, ...]:
    return seed, purpose, int(file.split == "Testing"), CLASSES.index(file.label), file.number


def _planted(fresh: Sequence[Planned], labels: Sequence[str], seed: int, params: PhantomParams) -> list[Planned]:
    """Return the planted copies: classes in turn, no training image copied twice."""
    kinds = [kind for kind in KINDS for _ in range(getattr(params.copies, kind))]
    room = len(labels) * params.train_per_class
    if len(kinds) > room:
        raise InputError(
            f"fetch.phantom.copies: {len(kinds)} copies of {room} training images asked for, and each is "
            "copied once at most: plant fewer, or raise train_per_class"
        )
    training = {(file.label, file.number): file for file in fresh if file.split == "Training"}
    orders = {label: Draws(seed, SOURCES, CLASSES.index(label)).shuffled(params.train_per_class) for label in labels}
    copies = []
    for place, kind in enumerate(kinds):
        label, turn = labels[place % len(labels)], place // len(labels)
        source = training[label, orders[label][turn]]
        copies.append(Planned("Testing", label, params.test_per_class + turn, kind, source))
    return copies


def _check(classes: list[str]) -> None:
    unknown = [label for label in classes if label not in CLASSES]
    if unknown:
        raise InputError(
            f"classes: phantoms of {unknown[0]!r} cannot be drawn; known are {', '.join(CLASSES)}: "
            "correct it, or use another fetch.source"
        )
    if len(set(classes)) < len(classes):
        raise InputError(f"classes: {', '.join(classes)} names a class twice: name each once")
