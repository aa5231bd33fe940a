"""models/predictor.json: what must be known of each network beside its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated

from pydantic import Field, PositiveFloat, PositiveInt, ValidationError

from stages.params import Group, Isa
from stages.prepare.schema import Prepare
from stages.shell.errors import InputError
from stages.verify.schema import Twins, Volumes


class Predictor(Group):
    """What the evaluate stage says of one network."""

    weights_sha256: str
    prepare: Prepare
    threads: PositiveInt
    isa: Isa
    batch_size: PositiveInt
    mirror: bool
    temperature: PositiveFloat
    lowest_likeness: float | None
    twins: Twins
    volumes: Volumes = Volumes()


class Folds(Group):
    """The same of each fold of a cross-validation, by its number."""

    folds: Annotated[dict[Annotated[str, Field(pattern=r"^[0-9]+$")], Predictor], Field(min_length=1)]


def read(study: Path) -> dict[str, Predictor]:
    """Return what is known of a study's networks, {folder of the fold: its predictor}; the folder of one alone is "".

    Raises
    ------
    InputError
        Where the study has not been run, or by another version of the code.
    """
    path = study / "models/predictor.json"
    try:
        found = _parsed(path.read_bytes())
    except FileNotFoundError:
        raise InputError(
            f"{path} not found: name a study that has been run with --study, or `dvc repro` or `dvc pull`"
        ) from None
    except ValidationError as error:
        first = error.errors()[0]
        raise _other(path, ": ".join(filter(None, [".".join(map(str, first["loc"])), first["msg"]]))) from None
    one, *others = (
        each.model_dump(exclude={"weights_sha256", "temperature", "lowest_likeness"}) for each in found.values()
    )
    if any(each != one for each in others):
        raise _other(path, "its folds have other settings than each other")
    return found


def _parsed(data: bytes) -> dict[str, Predictor]:
    try:
        several = "folds" in json.loads(data)
    except (ValueError, TypeError, RecursionError):
        several = False
    if not several:
        return {"": Predictor.model_validate_json(data, strict=True)}
    folds = Folds.model_validate_json(data, strict=True).folds
    return {f"/folds/{number}": found for number, found in folds.items()}


def _other(path: Path, what: str) -> InputError:
    return InputError(f"{path} is not as this version of the code writes it ({what}): run `dvc repro` in the study")
