"""The parameters that the report stage reads."""

from typing import Annotated, Any

from pydantic import Field

from stages.params import Group


class Report(Group):
    """What the page shows."""

    title: str
    published: dict[str, float] | None
    pairs: Annotated[int, Field(ge=0, le=500)]
    errors: Annotated[int, Field(ge=0, le=500)]


class Params(Group):
    """Keys of params.yaml that report reads; those of type Any are shown as they are, other stages check them."""

    seed: Any
    lr: Any
    epochs: Any
    batch_size: Any
    image_size: Any
    classes: Annotated[list[str], Field(min_length=2)]
    threads: Any
    device: Any
    precision: Any
    fetch: Any
    verify: Any
    prepare: Any
    split: Any
    backbone: Any
    train: Any
    augment: Any
    evaluate: Any
    report: Report
