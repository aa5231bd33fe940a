"""The parameters that the report stage reads."""

from typing import Annotated

from pydantic import Field

import stages.backbone.schema as backbone
import stages.evaluate.schema as evaluate
import stages.fetch.schema as fetch
import stages.prepare.schema as prepare
import stages.train.schema as train
import stages.verify.schema as verify
from stages.params import Group


class Boxes(Group):
    """A table of where tumours are (stages/report/boxes.py), in the study's folder."""

    table: Annotated[str, Field(min_length=1, max_length=1000)]
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]


class Report(Group):
    """What the page shows."""

    title: str
    published: dict[str, float] | None
    pairs: Annotated[int, Field(ge=0, le=500)]
    errors: Annotated[int, Field(ge=0, le=500)]
    boxes: Boxes | None


class Params(fetch.Params, verify.Params, prepare.Params, backbone.Params, train.Params, evaluate.Params):
    """All of params.yaml but `root`, checked as the stages check it: the page shows it."""

    report: Report
