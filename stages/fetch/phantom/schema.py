"""The parameters of the phantom source."""

from typing import Annotated

from pydantic import Field, model_validator

from stages.params import Group

Count = Annotated[int, Field(ge=0, le=100_000)]
Side = Annotated[int, Field(ge=48, le=1024)]


class Copies(Group):
    """How many test images are copies of training images, by what was done to them; in all classes together."""

    byte: Count  # the same file under another name
    recoded: Count  # through JPEG at quality 30 to 85, rescaled by 0.5 to 1.8
    contrast: Count  # other brightness, contrast and tone curve
    mirrored: Count  # left and right exchanged, some through JPEG too


class PhantomParams(Group):
    """How many phantoms are drawn, how large, how hard they are to tell apart, and how many copies are planted."""

    train_per_class: Annotated[int, Field(ge=1, le=100_000)]  # images
    test_per_class: Annotated[int, Field(ge=1, le=100_000)]  # images, planted copies not counted
    min_side: Side  # pixels
    max_side: Side  # pixels
    visibility: Annotated[float, Field(gt=0, le=1.5)]  # of tumours against the brain around them; smaller is harder
    noise: Annotated[float, Field(ge=0, le=0.5)]  # strongest Rician noise drawn, as a fraction of full scale
    copies: Copies
    slices_per_head: Annotated[int, Field(ge=1, le=100)]  # 1: each image is of another head

    @model_validator(mode="after")
    def _sides_in_order(self) -> "PhantomParams":
        if self.min_side > self.max_side:
            raise ValueError(f"min_side = {self.min_side} is more than max_side = {self.max_side}")
        return self
