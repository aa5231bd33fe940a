"""The parameters that the evaluate stage reads."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field, model_validator

from stages.params import Group, Isa
from stages.prepare.schema import Prepare, Split
from stages.runtime import Device
from stages.verify.schema import VerifyParams


class Evaluate(Group):
    """How the network is asked, and how finely its answers are looked at."""

    batch_size: Annotated[int, Field(ge=1, le=4096)]  # images a forward pass; always so many, padded
    mirror: bool  # average the logits of an image and of its left-right mirror image
    temperature_scaling: bool  # fitted on the validation images alone
    bootstrap: Annotated[int, Field(ge=0, le=100_000)]  # resamples for the intervals of AUC; 0: no such intervals
    bins: Annotated[int, Field(ge=2, le=100)]  # of confidence
    apart: list[str]  # classes whose images come from other sources: the others are scored without them as well


class Params(Group):
    """Keys of params.yaml that evaluate reads; `verify` and `prepare` it hands on to predict."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    classes: Annotated[list[str], Field(min_length=2)]
    threads: Annotated[int, Field(ge=1, le=256)]
    device: Device
    isa: Isa
    verify: VerifyParams
    prepare: Prepare
    split: Split
    evaluate: Evaluate

    @model_validator(mode="after")
    def _two_classes_are_left(self) -> Params:
        apart = self.evaluate.apart
        if unknown := [name for name in apart if name not in self.classes]:
            raise ValueError(f"evaluate.apart names {unknown[0]!r}, which is no class: {', '.join(self.classes)}")
        if apart and len(set(self.classes) - set(apart)) < 2:
            raise ValueError(f"evaluate.apart = {', '.join(apart)}: expected at least two other classes")
        return self
