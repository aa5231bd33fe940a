"""The parameters that the prepare stage reads."""

from typing import Annotated, Literal

from pydantic import Field

from stages.params import Group


class Prepare(Group):
    """How one image becomes a square of grey levels."""

    crop: bool
    crop_threshold: Annotated[float, Field(ge=0, lt=1)]
    max_pixels: Annotated[int, Field(ge=1, le=1_000_000_000)]


class Split(Group):
    """Which images train, and which of them are held out for validation."""

    protocol: Literal["published", "leak_free"]
    val_fraction: Annotated[float, Field(gt=0, lt=0.9)]


class Params(Group):
    """Keys of params.yaml that prepare reads."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    classes: list[str]
    image_size: Annotated[int, Field(ge=16, le=1024)]
    prepare: Prepare
    split: Split
