"""The parameters of `fetch`. Where the bytes come from is here; what they are is pinned by `tree_digest`."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from pydantic import AfterValidator, Field, model_validator

from stages.fetch.layout import ALL_SPLITS
from stages.fetch.phantom.schema import PhantomParams
from stages.params import Group, Isa

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


def _pattern(pattern: str) -> str:
    try:
        groups = re.compile(pattern).groupindex
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"it is no regular expression ({error})") from None
    if "patient" not in groups:
        raise ValueError("it has no group (?P<patient>...), which is the patient")
    return pattern


class PatientsParams(Group):
    """Whose image each file is: by a table, by a pattern on the files' names, or by DICOM's PatientID."""

    # CSV with path and patient, from the study's folder
    table: Annotated[str, Field(min_length=1, max_length=1000)] | None = None
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None  # of the table
    pattern: Annotated[str, Field(max_length=200), AfterValidator(_pattern)] | None = None  # of a file's whole name
    tag: bool = False
    unknown: bool = False  # whether files may have no patient
    two_classes: bool = False  # whether a patient may have images of two classes

    @model_validator(mode="after")
    def _one_form(self) -> PatientsParams:
        if (self.table is not None) + (self.pattern is not None) + self.tag != 1:
            raise ValueError("expected one of table (with its sha256), pattern and tag")
        if (self.table is None) != (self.sha256 is None):
            raise ValueError("expected sha256 with a table, and only there")
        return self


def _expression(pattern: str) -> str:
    try:
        re.compile(pattern)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(f"it is no regular expression ({error})") from None
    return pattern


class ScanParams(Group):
    """Which files of a source with DICOM series or NIfTI volumes are images of the study; they may lie at any depth."""

    # of DICOM; a file that names none is taken. []: all
    modalities: list[Annotated[str, Field(pattern=r"^[A-Z]{2,16}$")]] = Field(default_factory=lambda: ["MR"])
    localisers: bool = False  # whether planning pictures are taken, told by Image Type and Series Description
    secondary: bool = False  # whether captures of screens are taken, by their SOP class
    # a regular expression for the whole path below the class's folder; others are left out
    files: Annotated[str, Field(max_length=200), AfterValidator(_expression)] | None = None


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
    patients: PatientsParams | None  # null: nobody knows
    scans: ScanParams | None = None  # null: plain images, in the folders of their classes

    @model_validator(mode="after")
    def _tags_are_of_scans(self) -> FetchParams:
        if self.patients is not None and self.patients.tag and self.scans is None:
            raise ValueError("fetch.patients.tag is of DICOM files: set fetch.scans too, {} for its usual rule")
        return self


class Params(Group):
    """The top-level keys of params.yaml that `fetch` reads."""

    isa: Isa
    seed: Annotated[int, Field(ge=0, lt=2**63)]
    classes: Classes
    fetch: FetchParams
