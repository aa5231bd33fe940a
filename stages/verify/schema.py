"""The parameters that the verify stage reads."""

from typing import Annotated, Literal

from pydantic import Field

from stages.params import Group, Isa

Share = Annotated[float, Field(ge=0, le=1)]


class Twins(Group):
    """When two pictures count as the same one. Calibrated in docs/audit.md, then frozen: change them and say why."""

    neighbours: Annotated[int, Field(ge=1, le=100)]  # candidates looked at for each file, in each split
    candidate: Share  # cosine of two descriptors from which on a pair is looked at closely
    framed_neighbours: Annotated[int, Field(ge=1, le=100)]  # the same, of parts and slight turns of a picture
    framed: Share  # cosine from which on such a pair is looked at closely
    similarity: Share  # correlation of two aligned views from which on they are one picture
    neighbour: Share  # the same from which on two pictures that are not one are of one head, a slice or so apart
    block: Share  # correlation that the worst part of the picture must reach as well
    lines: Share  # correlation that does instead where three in ten lines of pixels reach it, between those of a text
    exact_up_to: Annotated[
        int, Field(ge=0, le=1_000_000)
    ]  # descriptors, 1 to 4 a picture; an index of clusters is searched beyond


class Volumes(Group):
    """Which slices of a NIfTI volume are pictures of the study."""

    axis: Literal["taken", "axial", "coronal", "sagittal"] = (
        "taken"  # taken: the direction of the thickest voxels' side
    )
    every: Annotated[int, Field(ge=1, le=10_000)] = 1  # k: each k-th slice, from the first on
    foreground: Share = 0.1  # of a slice that must be over a tenth of white, or it is left out


class VerifyParams(Group):
    """What is checked, and what is tolerated."""

    max_quarantined: Annotated[int, Field(ge=0)]  # files that cannot be decoded before the run stops
    max_pixels: Annotated[int, Field(ge=1, le=1_000_000_000)]  # an image with more is quarantined
    expected: dict[Literal["Training", "Testing", "Validation"], dict[str, Annotated[int, Field(ge=1)]]] | None = None
    twins: Twins
    volumes: Volumes = Volumes()


class Params(Group):
    """Keys of params.yaml that verify reads."""

    isa: Isa
    classes: Annotated[list[str], Field(min_length=2)]
    verify: VerifyParams
