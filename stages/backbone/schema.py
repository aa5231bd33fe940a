"""The parameters that the backbone stage reads."""

from typing import Annotated

from pydantic import Field

from stages.params import Group, Isa


class Backbone(Group):
    """Where the starting weights come from, and how grey levels are normalised for them."""

    weights: Annotated[str, Field(min_length=1)]
    sha256: Annotated[str, Field(pattern="^[0-9a-f]{64}$")] | None
    mean: Annotated[float, Field(ge=0, le=1)]
    std: Annotated[float, Field(gt=0, le=10)]


class Params(Group):
    """Keys of params.yaml that backbone reads."""

    isa: Isa
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    classes: Annotated[list[str], Field(min_length=2)]
    image_size: Annotated[int, Field(ge=16, le=1024)]
    backbone: Backbone
