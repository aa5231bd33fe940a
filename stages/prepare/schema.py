"""The parameters that the prepare stage reads."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from stages.params import Group, Isa


class Prepare(Group):
    """How one image becomes a square of grey levels."""

    crop: bool
    crop_threshold: Annotated[float, Field(ge=0, lt=1)]
    max_pixels: Annotated[int, Field(ge=1, le=1_000_000_000)]


class Split(Group):
    """Which images train, and which of them are held out for validation."""

    protocol: Literal["published", "leak_free", "by_patient"]
    val_fraction: Annotated[float, Field(gt=0, lt=0.9)]
    folds: dict[str, str]  # each one's folder, below those of the outputs; "" where there is one fold alone
    networks: Literal["model.safetensors", "folds"]
    parts: Annotated[int, Field(ge=2, le=100)]  # of all images, by patient
    unique: bool  # of each group of copies one picture

    @model_validator(mode="after")
    def _folds_have_the_folders_of_their_numbers(self) -> "Split":
        """Stages and commands find a fold's files by its number alone, and what is no such folder could be any path."""
        several = {str(number): f"/folds/{number}" for number in range(len(self.folds))}
        if len(self.folds) > 1:
            if self.folds != several or self.networks != "folds":
                raise ValueError('several folds are {"0": /folds/0, "1": /folds/1, ...}, with networks: folds')
        elif self.folds != {"0": ""} or self.networks != "model.safetensors":
            raise ValueError('one fold is {"0": ""}, with networks: model.safetensors')
        return self

    @model_validator(mode="after")
    def _what_is_by_patient_alone(self) -> "Split":
        if self.unique and self.protocol != "by_patient":
            raise ValueError("split.unique is for split.protocol: by_patient alone; set it to false")
        if self.protocol == "by_patient" and len(self.folds) > self.parts:
            raise ValueError(f"split.folds are {len(self.folds)}, and each tests on one of {self.parts} split.parts")
        return self


class Params(Group):
    """Keys of params.yaml that prepare reads."""

    isa: Isa
    seed: Annotated[int, Field(ge=0, lt=2**32)]
    classes: list[str]
    image_size: Annotated[int, Field(ge=16, le=1024)]
    prepare: Prepare
    split: Split
