"""The parameters of `fetch`. Where the bytes come from is here; what they are is pinned by `tree_digest`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field

from stages.fetch.layout import ALL_SPLITS
from stages.fetch.phantom.schema import PhantomParams
from stages.params import Group

Bytes = Annotated[int, Field(ge=1, le=10**15)]


def _class_name(name: str) -> str:
    # no dot: metrics are keyed sensitivity.<class>; no slash or leading dot: it is a folder
    if not re.fullmatch(r"\w([\w +()-]{0,98}[\w+()-])?", name) or name in (*ALL_SPLITS, "__MACOSX"):
        raise ValueError(f"{name!r} cannot name a class: expected letters, digits, spaces, _ + ( ) or -, at most 100")
    return name


def _distinct(names: list[str]) -> list[str]:
    if len({name.casefold() for name in names}) != len(names):
        raise ValueError("each class may stand there once (upper and lower case count as the same)")
    return names


ClassName = Annotated[str, AfterValidator(_class_name)]
Classes = Annotated[list[ClassName], Field(min_length=2), AfterValidator(_distinct)]


class ArchiveParams(Group):
    """A zip, tar or folder."""

    location: Annotated[str, Field(min_length=1)] | None  # path (absolute, or from the study's folder) or http(s) URL


class KaggleParams(Group):
    """A dataset on Kaggle, in one version."""

    dataset: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]*/[A-Za-z0-9][A-Za-z0-9_-]*$")]
    version: Annotated[int, Field(ge=1)]


class SplitParams(Group):
    """How a test set is taken from a source that has class folders only."""

    test_fraction: Annotated[float, Field(gt=0, lt=1)]  # of each class's files
    seed: Annotated[int, Field(ge=0, lt=2**63)]


class LimitParams(Group):
    """What an archive may cost before it is refused; counted while unpacking, whatever the archive declares."""

    members: Annotated[int, Field(ge=1, le=10**8)]  # files and folders
    total_bytes: Bytes  # unpacked; also the largest download
    file_bytes: Bytes  # one file, unpacked
    ratio: Annotated[float, Field(gt=1)]  # unpacked bytes by packed bytes, of the whole archive


class FetchParams(Group):
    """Where the images come from and what they must be."""

    source: Literal["phantom", "archive", "kaggle"]
    phantom: PhantomParams
    archive: ArchiveParams
    kaggle: KaggleParams
    split: SplitParams | None  # null: the source has Training and Testing, perhaps Validation
    tree_digest: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None
    limits: LimitParams


class Params(Group):
    """The top-level keys of params.yaml that `fetch` reads."""

    seed: Annotated[int, Field(ge=0, lt=2**63)]
    classes: Classes
    fetch: FetchParams
