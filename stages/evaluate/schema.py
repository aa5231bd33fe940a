"""The parameters that the evaluate stage reads."""

from typing import Annotated, Any

from pydantic import Field

from stages.params import Group
from stages.runtime import Device


class Evaluate(Group):
    """How the network is asked, and how finely its answers are looked at."""

    batch_size: Annotated[int, Field(ge=1, le=4096)]  # images a forward pass; always so many, padded
    mirror: bool  # average the logits of an image and of its left-right mirror image
    temperature_scaling: bool  # fitted on the validation images alone
    bootstrap: Annotated[int, Field(ge=0, le=100_000)]  # resamples for the intervals of AUC; 0: no such intervals
    bins: Annotated[int, Field(ge=2, le=100)]  # of confidence


class Params(Group):
    """Keys of params.yaml that evaluate reads; those of type Any it hands on to predict, other stages check them."""

    seed: Annotated[int, Field(ge=0, lt=2**32)]
    classes: Annotated[list[str], Field(min_length=2)]
    threads: Annotated[int, Field(ge=1, le=256)]
    device: Device
    verify: Any
    prepare: Any
    evaluate: Evaluate
