"""A study's networks with all that belongs to them: preparation, calibration, and the pictures that they have seen."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from commands.isa import refuse_other
from commands.predict import predictor
from commands.predict.inputs import File, Picture, Unreadable, read_all, surviving
from commands.predict.networks import Networks
from stages import runtime
from stages.evaluate import likeness
from stages.report.gradcam import overlay_png
from stages.runtime import Device
from stages.shell.errors import InputError
from stages.shell.progress import progress_bar
from stages.verify import picture as pictures
from stages.verify.agreement import Agreement
from stages.verify.confirm import framed_similarities, framed_starts, similarities
from stages.verify.decode import DecodeError
from stages.verify.describe import CELLS, Described, describe
from stages.verify.frames import view_of, views_in
from stages.verify.overlap import best_starts
from stages.verify.schema import Twins
from stages.verify.search import best_products, best_turns, parts
from stages.verify.turns import INVERSE, KINDS, TURNS

CHUNK = 8  # files a task
LONGEST = 1000  # files after which what is known is said, though few of them are pictures
ALONE = (
    0.95  # cosine from which on a picture is called a copy where its twin is not there to be compared (docs/export.md)
)
TORN = (EOFError, IndexError, KeyError, ValueError)  # of tables that do not belong together
MAX_PIXELS = 1_000_000_000  # of a training image: verify has refused what is too large already


class Prediction(NamedTuple):
    """What is said of one picture."""

    path: str
    frame: int | None  # from 1; None in a file with one picture
    predicted: str
    probabilities: dict[str, float]  # calibrated
    nearest: str  # the training image most like it; "" for a picture with nothing in it
    likeness: float  # cosine of their descriptors
    unlike: bool  # less like any training image than nearly all validation images are
    copy_of: str  # the training image that it is a copy of, or ""
    copy_kind: str  # byte | copy | mirrored | rotated | alike (by descriptors alone), or ""


class Model:
    """The network of a study that has been run, or those of its folds, ready to be asked."""

    def __init__(
        self, study: Path, device: Device, gradcam_folder: Path | None = None, fold: str | None = None
    ) -> None:
        """Load it; of one fold alone where that fold's folder is given, "" or /folds/3 say.

        InputError where the study has not been run, or its files do not belong together.
        """
        self.study, self.gradcam_folder = study, gradcam_folder
        about = predictor.read(study)
        about = about if fold is None else {fold: about[fold]}
        self.about = next(iter(about.values()))  # what it says of preparation, batches and copies is all folds'
        refuse_other(self.about.isa)
        runtime.exact(self.about.threads, "fp32")
        self.networks = Networks(study, about, runtime.device(device))
        self.meta, self.classes, self.folds = self.networks.meta, self.networks.meta.classes, list(about)
        self.lowest = max(
            (each.lowest_likeness for each in about.values() if each.lowest_likeness is not None), default=None
        )
        self._load_training_images()

    def _load_training_images(self) -> None:
        """Load what any of the networks was trained on: of a cross-validation, nearly all images."""
        data = self.study / "data"
        try:
            indexes = [
                pd.read_csv(data / f"prepared{fold}/index.csv", usecols=["array", "path"], keep_default_na=False)
                for fold in self.folds
            ]
            manifest = digests(data)
            described = likeness.descriptors(data)
        except FileNotFoundError as error:
            raise InputError(f"{error.filename} not found: `dvc repro` or `dvc pull` in the study") from None
        index = pd.concat(indexes)
        self.training = index.loc[index["array"] == "train", "path"].drop_duplicates().tolist()
        self.stored = likeness.store(described(self.training))
        known = manifest[manifest["path"].isin(set(self.training))]
        rows = known[::-1]
        self.by_digest = dict(zip(zip(rows["sha256"], rows["frame"], strict=True), rows["path"], strict=True))

    def predictions(self, files: list[File]) -> Iterator[Prediction | Unreadable]:
        """Yield what is said of each picture in `files`, in their order. Reading goes on while the network computes."""
        waiting: list[Picture | Unreadable] = []
        many = len(files) > 1
        with progress_bar(total=len(files), unit="file", disable=None if many else True) as bar:
            for found in self._read(files, bar):
                waiting.append(found)
                full = sum(isinstance(each, Picture) for each in waiting) == self.about.batch_size
                if full or len(waiting) == LONGEST:
                    yield from self._answers(waiting)
                    waiting = []
            yield from self._answers(waiting)

    def _answers(self, waiting: list[Picture | Unreadable]) -> Iterator[Prediction | Unreadable]:
        """Yield what is said of each, in order; files that give no picture do not make a forward pass of their own."""
        asked = iter(self.ask([each for each in waiting if isinstance(each, Picture)]))
        yield from (each if isinstance(each, Unreadable) else next(asked) for each in waiting)

    def _read(self, files: list[File], bar: Any) -> Iterator[Picture | Unreadable]:
        chunks = [files[start : start + CHUNK] for start in range(0, len(files), CHUNK)]
        axis = self.about.volumes.axis
        work = partial(read_all, size=self.meta.image_size, prepare=self.about.prepare, axis=axis)
        for found in surviving(work, chunks):  # of one file, of however many pictures
            yield from found
            bar.update()

    def ask(self, pictures: list[Picture]) -> list[Prediction]:
        """Return predictions; a forward pass always has the pipeline's batch size, so its bits are the pipeline's."""
        if not pictures:
            return []
        images = np.stack([each.image for each in pictures])
        given = self.networks.probabilities(images)
        best = given.argmax(axis=1)
        near = likeness.nearest(np.stack([each.described.descriptors for each in pictures]), self.stored)
        if self.gradcam_folder:
            self._write_gradcams(pictures, images, best)
        return [
            self._prediction(*each)
            for each in zip(pictures, given, best, near.row.tolist(), near.cosine.tolist(), strict=True)
        ]

    def _prediction(
        self, picture: Picture, given: NDArray[np.float64], best: int, row: int, cosine: float
    ) -> Prediction:
        nearest = self.training[row] if row >= 0 else ""
        copy_of, kind = self._copy(picture, nearest, cosine)
        return Prediction(
            path=picture.path,
            frame=picture.frame,
            predicted=self.classes[best],
            probabilities=dict(zip(self.classes, given.tolist(), strict=True)),
            nearest=nearest,
            likeness=cosine,
            unlike=self.lowest is not None and cosine < self.lowest,
            copy_of=copy_of,
            copy_kind=kind,
        )

    def _copy(self, picture: Picture, nearest: str, cosine: float) -> tuple[str, str]:
        """Return the training image that a picture is a copy of, and the kind, by the audit's own measure."""
        which = "" if picture.frame is None else pictures.frame(picture.frame, self.about.volumes.axis)
        if same := self.by_digest.get((picture.sha256, which)):
            return same, "byte"
        if not nearest or cosine < self.about.twins.candidate:
            return "", ""
        try:
            other = describe(pictures.read(self.study / "data/raw", nearest, MAX_PIXELS).compared)
        except DecodeError:
            return "", ""
        except OSError:  # it is not there, or nobody lets us look
            return (nearest, "alike") if cosine >= ALONE else ("", "")
        kind = copy_kind(picture.described, other, self.about.twins) if other else ""
        return (nearest, kind) if kind else ("", "")

    def _write_gradcams(self, pictures: list[Picture], images: NDArray[np.uint8], best: NDArray[np.int64]) -> None:
        assert self.gradcam_folder
        for picture, image, heat in zip(pictures, images, self.heat(images, best), strict=True):
            name = picture.name if picture.frame is None else f"{picture.name}-{picture.frame}"
            overlay_png(self.gradcam_folder / f"{name}.png", image, heat)

    def heat(self, images: NDArray[np.uint8], classes: NDArray[np.int64]) -> NDArray[np.float32]:
        """Return how much each place of the network's pictures [N, S, S] speaks for one class each, [N, S, S]."""
        return self.networks.heat(images, classes)


def load(study: Path, device: Device, gradcam_folder: Path | None = None, fold: str | None = None) -> Model:
    """Return the network of a study; InputError also where the tables that belong to it are of several runs."""
    try:
        return Model(study, device, gradcam_folder, fold)
    except TORN:
        raise InputError(
            f"{study}: data/manifest.csv, data/descriptors.npy and data/prepared do not belong together: "
            "run `dvc repro` there"
        ) from None


def digests(data: Path) -> pd.DataFrame:
    """Return path, sha256 and frame of every picture in a study's manifest; frame is "" of a file's only one."""
    wanted = ["path", "sha256", "frame"]
    table = pd.read_csv(data / "manifest.csv", usecols=lambda name: name in wanted, keep_default_na=False, dtype=str)
    return table.reindex(columns=wanted, fill_value="")


def copy_kind(one: Described, other: Described, twins: Twins) -> str:
    """Return copy, mirrored or rotated where two pictures are the same one, else ""; as the verify stage decides."""
    for compare, first, second in ((_plain, one, other), (_framed, one, other), (_framed, other, one)):
        turns, found = compare(first, second, twins)
        alike = np.where(found.same, found.whole, -1.0)
        if alike.max(initial=-1.0) > -1:
            return KINDS[turns[alike.argmax()]]
    return ""


def _plain(one: Described, other: Described, twins: Twins) -> tuple[NDArray[np.int64], Agreement]:
    """Return turn and agreement, [1], of the two views most like each other."""
    products = best_products(parts(one.descriptors), parts(other.descriptors))
    view, its_view = np.unravel_index(int(products.argmax()), products.shape)
    turns = best_turns(one.descriptors[view][None], other.descriptors[its_view][None])
    turn = int(turns[0])
    return turns, similarities(
        one.views[view][None],
        _upright(other.views[its_view], turn),
        one.descriptors[view].reshape(1, CELLS, CELLS),
        _upright(other.descriptors[its_view].reshape(CELLS, CELLS), turn),
        twins,
    )


def _framed(one: Described, part: Described, twins: Twins) -> tuple[NDArray[np.int64], Agreement]:
    """Return the same from every start, [N], where `part` may be no more than a part of `one`, or turned a little."""
    pair, frame, view, turn = best_starts(one.frames[None], part.descriptors[None])
    cells = [_upright(part.descriptors[at].reshape(CELLS, CELLS), int(way)) for at, way in zip(view, turn, strict=True)]
    start, fit = framed_starts(one.frames[frame].reshape(-1, CELLS, CELLS), np.concatenate(cells), pair, turn)
    if not len(start):
        return start, Agreement.none(0)
    moving = np.concatenate([_upright(part.views[view[at]], int(turn[at])) for at in start])
    found = framed_similarities(
        one.views[view_of(frame[start], views_in(one.descriptors))], moving, fit, frame[start], twins
    )
    return turn[start], found


def _upright(square: NDArray[np.int8], turn: int) -> NDArray[np.int8]:
    return np.ascontiguousarray(TURNS[INVERSE[turn]](square))[None]
