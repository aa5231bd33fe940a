"""Which images train, which validate, which test, and which of the test images are leaked."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import pandas as pd

from stages.prepare.parts import by_patient
from stages.prepare.schema import Split
from stages.shell.errors import InputError

COLUMNS = ["array", "row", "path", "label", "group", "leaked", "patient", "patient_in_training"]


def assign(manifest: pd.DataFrame, split: Split, seed: int, classes: Sequence[str], fold: int = 0) -> pd.DataFrame:
    """Return one row a used image: array (train | val | test), row, path, label, group, leaked, patient and so on.

    With `frame` where the manifest has it.

    Parameters
    ----------
    manifest
        What the verify stage found: path, split, label, patient, group, status, twin_kind, twin_in_training, and for
        `by_patient` sha256, width, height, format; rows whose status is not `ok` are left out.
    split
        The protocol, and the share of Training that validates where no Validation was given.
    seed
        Of the choice of validation images.
    classes
        Those that must have images to train and to validate on; by patient, to test on too.
    fold
        The part that tests, by patient; the other protocols have one test set.

    Raises
    ------
    InputError
        Where a class is left without such images, or the protocol has one test set and several folds are asked for.

    Notes
    -----
    `patient_in_training` is, for every row, `known` where its patient has images that train or validate, `new` where
    not, and `unknown` where nobody knows the patient.

    `leaked` is, for a test image with a confirmed direct copy among the training images that are used, the kind of the
    plainest such pair; else `none`. `leak_free` drops every training or validation image of a group with a test image
    in it, also where only a chain of copies joins the two. Rows stand in the manifest's order inside each array, so
    `row` is the position in `<array>.npy`. A given Validation is all of val, less what leak_free drops.
    """
    images = manifest[manifest["status"] == "ok"]
    if split.protocol == "by_patient":
        images = by_patient(images, split, seed, fold).assign(leaked="none")
    else:
        images = as_given(images, split, seed, (manifest["split"] == "Validation").any())
    images = images.assign(row=images.groupby("array").cumcount(), patient_in_training=in_training(images))
    for array in ("train", "val", "test") if split.protocol == "by_patient" else ("train", "val"):
        _every_class(images, array, classes, split)
    return images[[*COLUMNS, *(name for name in ("frame",) if name in images)]]


def as_given(images: pd.DataFrame, split: Split, seed: int, validated: bool) -> pd.DataFrame:
    """Return the images that are used of the given Training and Testing, with `array` and `leaked`.

    `validated` says whether a Validation was given; where not, it is taken from Training.
    """
    if len(split.folds) > 1:
        raise InputError(
            f'split.protocol = {split.protocol!r} has one test set: set split.folds to {{"0": ""}} and split.networks '
            "to model.safetensors"
        )
    images, testing = images.copy(), images["split"] == "Testing"
    images["leaked"] = images["twin_kind"].where(testing & (images["twin_in_training"] == 1), "none")
    if split.protocol == "leak_free":
        images = images[testing | ~images["group"].isin(images.loc[testing, "group"])].assign(leaked="none")
    images["array"] = images["split"].map({"Training": "train", "Testing": "test", "Validation": "val"})
    if not validated:
        images.loc[images["path"].isin(validation(images, split.val_fraction, seed)), "array"] = "val"
    return images


def in_training(images: pd.DataFrame) -> pd.Series:
    """Return what training has of each image's patient: known, new or unknown."""
    trained = set(images.loc[images["array"] != "test", "patient"])
    known = images["patient"].isin(trained).map({True: "known", False: "new"})
    return known.mask(images["patient"] == "", "unknown")


def validation(images: pd.DataFrame, fraction: float, seed: int) -> set[str]:
    """Return the paths held out of Training: `fraction` of each class, a group of copies never divided.

    Groups are taken in the order of a hash of (seed, group's first path), so which are taken does not depend on how
    many other images there are or on any generator's state.
    """
    training = images[images["array"] == "train"]
    groups = training.groupby("group", sort=False).agg(
        label=("label", "first"), first=("path", "min"), n=("path", "size")
    )
    groups["key"] = [hashlib.sha256(f"{seed} {path}".encode()).hexdigest() for path in groups["first"]]
    groups = groups.sort_values("key")
    wanted = training["label"].value_counts() * fraction
    # taken while the middle of the group still falls inside its class's share
    before = groups.groupby("label")["n"].cumsum() - groups["n"]
    taken = groups.index[before + groups["n"] / 2 <= groups["label"].map(wanted)]
    return set(training.loc[training["group"].isin(taken), "path"])


def _every_class(images: pd.DataFrame, array: str, classes: Sequence[str], split: Split) -> None:
    missing = sorted(set(classes) - set(images.loc[images["array"] == array, "label"]))
    if missing:
        mend = "another split.val_fraction where no Validation is given"
        if split.protocol == "by_patient":
            mend = f"fewer split.parts than {split.parts}, as it has too few patients"
        raise InputError(
            f"no {array} images of class {', '.join(missing)} are left after the split; "
            f"use more images of it, or {mend}"
        )
