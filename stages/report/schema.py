"""The parameters that the report stage reads."""

from typing import Annotated

from pydantic import Field

from stages.params import Group


class Report(Group):
    """What the page shows."""

    title: str
    published: dict[str, float] | None
    pairs: Annotated[int, Field(ge=0, le=500)]
    errors: Annotated[int, Field(ge=0, le=500)]


class Params(Group):
    """Keys of params.yaml that report reads."""

    classes: Annotated[list[str], Field(min_length=2)]
    report: Report
