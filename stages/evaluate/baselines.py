"""What things that know no anatomy score on the same test images: so much of any accuracy is worth little.

The classes of a merged dataset come from different sources, so a file's size or an image's border may give them away.
Each learns from the training images of the study alone, and chooses nothing by looking at test images.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from stages.evaluate.intervals import wilson
from stages.evaluate.likeness import BLOCK, descriptors
from stages.shell.errors import InputError
from stages.verify.search import best_products, parts

RING = 2  # pixels: how wide the border is that the border model sees

Labels = NDArray[np.int64]
Floats = NDArray[np.float64]


def majority(labels: Labels, n: int) -> Labels:
    """Return the commonest class of the training labels, n times; the first of equals."""
    return np.full(n, np.bincount(labels).argmax(), np.int64)


def nearest(train: NDArray[np.int8], labels: Labels, test: NDArray[np.int8]) -> Labels:
    """Return the class of the training image whose descriptor is most like each test image's, in any turn or mirroring.

    Descriptors are those of the audit's first view, int8 [N, 256]; products of integers, so the choice is exact.
    """
    stored = parts(train)
    blocks = [parts(test[start : start + BLOCK]) for start in range(0, len(test), BLOCK)]
    return labels[np.concatenate([best_products(block, stored).argmax(axis=1) for block in blocks])]


def linear(train: Floats, labels: Labels, test: Floats) -> Labels:
    """Return what a logistic regression on standardised features [N, F] predicts for `test`."""
    if len(np.unique(labels)) < 2:
        return majority(labels, len(test))
    model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=5000))
    # rounded, so that the last bits of a library's sums cannot decide between two classes
    likelihood = np.round(model.fit(train, labels).predict_proba(test), 6)
    return np.asarray(model.classes_[likelihood.argmax(axis=1)], np.int64)


def file_facts(paths: list[str], root: Path, sides: Mapping[str, tuple[int, int]] = MappingProxyType({})) -> Floats:
    """Return what a file tells without its picture: size, dimensions, mode, JPEG tables; float64 [N, 11].

    `sides` has width and height of the pictures whose files are no plain images: series and volumes.
    """
    return np.array([_facts(root, path, sides.get(path)) for path in paths])


def _facts(root: Path, path: str, sides: tuple[int, int] | None) -> list[float]:
    try:
        if sides is None:
            return _facts_of((root / path).read_bytes())
        return _facts_of_scan(_size(root, path), *sides)
    except OSError as error:  # Pillow's are too
        raise InputError(f"{root / path} is not as the verify stage found it ({error}): run `dvc repro`") from None


def _size(root: Path, path: str) -> int:
    """Return the bytes of the file that an address means: the path itself, or what stands before its `#`."""
    file = root / path
    return (file if file.exists() else root / path.rpartition("#")[0]).stat().st_size


def _facts_of_scan(size: int, width: int, height: int) -> list[float]:
    shape = [np.log(width), np.log(height), float(width == height)]
    return [np.log(size), size / (width * height), *shape, 0.0, 0.0, 0.0, 1.0, 0.0, 0.0]


def _facts_of(data: bytes) -> list[float]:
    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        tables = getattr(image, "quantization", None) or {}
        coarse = [float(np.mean(tables[number])) if number in tables else 0.0 for number in (0, 1)]
        kinds = [image.mode == "L", image.mode == "RGB", image.format == "JPEG"]
    shape = [np.log(width), np.log(height), float(width == height)]
    return [np.log(len(data)), len(data) / (width * height), *shape, *coarse, len(tables), *map(float, kinds)]


def borders(images: NDArray[np.uint8]) -> Floats:
    """Return the outermost RING pixels of images, uint8 [N, S, S], as float64 [N, F]."""
    ring = np.ones(images.shape[1:], bool)
    ring[RING:-RING, RING:-RING] = False
    return images[:, ring].astype(np.float64)


def score(predicted: Labels, labels: Labels, leaked: NDArray[np.bool_]) -> dict[str, Any]:
    """Return accuracy, with Wilson's interval, of all, clean and leaked test images; what is empty is left out."""
    found: dict[str, Any] = {}
    for name, rows in {"all": np.ones_like(leaked), "clean": ~leaked, "leaked": leaked}.items():
        if n := int(rows.sum()):
            right = int((predicted[rows] == labels[rows]).sum())
            low, high = wilson(right, n)
            found[name] = {"accuracy": right / n, "accuracy_low": low, "accuracy_high": high}
            found[name] = {key: round(value, 6) for key, value in found[name].items()}
    return found


def baselines(indexes: dict[str, pd.DataFrame], classes: list[str], root: Path = Path("data")) -> dict[str, Any]:
    """Return the scores of all of them: {name: {all, clean, leaked: accuracy}}, over all folds' test images.

    `indexes` has each fold's index.csv by its folder below data/prepared, "" where there is one fold alone; images,
    descriptors and files are read below `root`.
    """
    found = [guesses(index, classes, root, f"prepared{part}") for part, index in indexes.items()]
    test = pd.concat([index[index["array"] == "test"] for index in indexes.values()])
    truth = test["label"].map({name: number for number, name in enumerate(classes)}).to_numpy(np.int64)
    leaked = (test["leaked"] != "none").to_numpy()
    pooled = {name: np.concatenate([each[name] for each in found]) for name in found[0]}
    return {name: score(guess, truth, leaked) if len(test) else {} for name, guess in pooled.items()}


def guesses(index: pd.DataFrame, classes: list[str], root: Path, prepared: str) -> dict[str, Labels]:
    """Return the class that each gives to a fold's test images, having learned from its training images."""
    train, test = index[index["array"] == "train"], index[index["array"] == "test"]
    numbers = {name: number for number, name in enumerate(classes)}
    labels = train["label"].map(numbers).to_numpy(np.int64)
    described = descriptors(root)
    ways: dict[str, Callable[[], Labels]] = {
        "majority_class": lambda: majority(labels, len(test)),
        "file_facts": lambda: linear(*_both(partial(file_facts, sides=scans(root)), train, labels, test, root / "raw")),
        "border": lambda: linear(
            borders(np.load(root / prepared / "train.npy", mmap_mode="r")),
            labels,
            borders(np.load(root / prepared / "test.npy", mmap_mode="r")),
        ),
        "nearest_neighbour": lambda: nearest(described(train["path"])[:, 0], labels, described(test["path"])[:, 0]),
    }
    return {name: way() if len(test) else np.zeros(0, np.int64) for name, way in ways.items()}


def scans(root: Path) -> dict[str, tuple[int, int]]:
    """Return {path: (width, height)} of the pictures that are frames of their files, or of formats of scanners."""
    known = pd.read_csv(root / "manifest.csv", keep_default_na=False)
    frames = known["frame"].astype(str) if "frame" in known else pd.Series("", known.index)
    rows = known[known["format"].isin(["DICOM", "NIfTI"]) | (frames != "")]
    return dict(zip(rows["path"], zip(rows["width"], rows["height"], strict=True), strict=True))


def _both(
    features: Callable[[list[str], Path], Floats], train: pd.DataFrame, labels: Labels, test: pd.DataFrame, root: Path
) -> tuple[Floats, Labels, Floats]:
    return features(train["path"].tolist(), root), labels, features(test["path"].tolist(), root)
