"""What a source has: its classes, its splits, and the hash of every image."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from stages.fetch.archive import members
from stages.fetch.extract import hashed, with_splits
from stages.fetch.layout import ALL_SPLITS, SPLITS, Layout, is_hidden, plain
from stages.fetch.names import Parts, shown
from stages.fetch.schema import ClassName, LimitParams, ScanParams, SplitParams
from stages.fetch.series import Intake
from stages.fetch.source import Source
from stages.scans import is_dicom
from stages.shell.errors import InputError

PLAIN = (
    ".jpg",
    ".jpeg",
    ".png",
    ".tif",
    ".tiff",
    ".bmp",
    ".gif",
    ".webp",
    ".ppm",
    ".jp2",
    ".csv",
    ".txt",
    ".json",
    ".md",
)
EXPECTED = "<class>/<file>, or Training/<class>/<file> and Testing/<class>/<file>"


@dataclass(frozen=True)
class Found:
    """What a source has: classes in order, the sha256 of each `<split>/<class>/<file>`, and how the split was made."""

    classes: list[str]
    hashes: dict[str, str]
    split: SplitParams | None
    intake: Intake | None = None  # where there are DICOM series or NIfTI volumes

    def counts(self) -> dict[str, dict[str, int]]:
        """Return {split: {class: files}}, of Validation too where it was given."""
        number = Counter(tuple(path.split("/")[:2]) for path in self.hashes)
        splits = [split for split in ALL_SPLITS if split in SPLITS or any(split == each for each, _ in number)]
        return {split: {label: number[split, label] for label in self.classes} for split in splits}


def look(
    at: Source,
    limits: LimitParams,
    test_fraction: float | None,
    seed: int | None,
    named: str | None = None,
    told: bool = False,
) -> Found:
    """Find the classes and hash every image; make a test set where there is none.

    Where there are DICOM series or NIfTI volumes, files may lie deeper, and those that are no picture of the study are
    left out; `named` is a pattern for the others, and `told` says that DICOM's tags are not what tells patients.

    Raises
    ------
    InputError
        One line for a source that is not laid out as expected, with the folder that is at fault.
    """
    folders: set[Parts] = set()
    files, scans = [], named is not None
    for parts, data in members(at.path, limits, at.name, at.links, folders):
        files.append(parts)
        scans = scans or (not is_hidden(parts) and is_scan(parts[-1], data))
    folders |= {parts[:-1] for parts in files}
    seen = {folder: plain(folder, splits=True) for folder in folders if not is_hidden(folder)}
    has_splits = any(set(folder[:2]) & set(ALL_SPLITS) for folder in seen.values())
    if not has_splits:
        seen = {folder: plain(folder, splits=False) for folder in seen}
    if has_splits and (test_fraction is not None or seed is not None):
        raise InputError(f"{at.name} has splits already: --test-fraction and --seed are for sources that have none")
    with_files = {seen[parts[:-1]] for parts in files if not is_hidden(parts)}
    classes = class_names(class_folders(set(seen.values()), has_splits), with_files, at.name)
    split = None if has_splits else split_params(0.2 if test_fraction is None else test_fraction, seed or 0)
    intake = Intake(scan_params(named), told) if scans else None
    layout = Layout(classes, has_splits, at.name, scans)
    hashes = hashed(members(at.path, limits, at.name, at.links), layout, intake)
    persons = intake.together() if intake else {}
    return Found(classes, with_splits(hashes, split, persons) if split else hashes, split, intake)


def is_scan(name: str, data: Iterator[bytes]) -> bool:
    """Say whether a file is DICOM or NIfTI, by its mark where its name does not tell."""
    lower = name.lower()
    if lower.endswith(PLAIN):
        return False
    return lower.endswith((".nii", ".nii.gz")) or is_dicom(next(data, b""), name)


def scan_params(named: str | None) -> ScanParams:
    """Return the usual rule for series, with the pattern that a person gave."""
    try:
        return ScanParams(files=named)
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InputError(f"--files {shown(str(named))}: {message}") from None


def class_folders(folders: Collection[Parts], has_splits: bool) -> set[Parts]:
    """Return those of all folders that are classes: in the splits, or at the top; one single folder may be around.

    Examples
    --------
    >>> sorted(class_folders([("x",), ("x", "cat"), ("x", "dog")], has_splits=False))
    [('x', 'cat'), ('x', 'dog')]
    """
    if not has_splits:
        depth = len({folder[0] for folder in folders if folder}) == 1 and any(len(folder) > 1 for folder in folders)
        return {folder[: depth + 1] for folder in folders if len(folder) > depth}
    found = set()
    for folder in folders:
        at = next((i for i in (0, 1) if folder[i : i + 1] and folder[i] in ALL_SPLITS), None)
        if at is not None and len(folder) > at + 1:
            found.add(folder[: at + 2])
    return found


def class_names(folders: Collection[Parts], with_files: Collection[Parts], where: str) -> list[str]:
    """Return the names of class folders, sorted; an InputError for one without an image and for a name that is none."""
    for folder in sorted(folders):
        if not any(each[: len(folder)] == folder for each in with_files):
            raise InputError(
                f"{where}: folder {shown('/'.join(folder))} has no image; put the images of that class there, or "
                "remove it"
            )
    names = sorted({folder[-1] for folder in folders} - set(ALL_SPLITS))
    if len(names) < 2:
        raise InputError(
            f"{where}: {len(names)} class folders{f' ({names[0]})' if names else ''}; expected at least 2, "
            f"each with its images: {EXPECTED}"
        )
    for name in names:
        try:
            TypeAdapter(ClassName).validate_python(name)
        except ValidationError as error:
            raise InputError(f"{where}: {error.errors()[0]['ctx']['error']}; rename the folder") from None
    return names


def split_params(test_fraction: float, seed: int) -> SplitParams:
    """Return the two options, checked."""
    try:
        return SplitParams(test_fraction=test_fraction, seed=seed)
    except ValidationError as error:
        item = error.errors()[0]
        option = str(item["loc"][0]).replace("_", "-")
        raise InputError(f"--{option} = {item['input']}: {item['msg'][:1].lower()}{item['msg'][1:]}") from None


def leading_out(folder: Path) -> Iterator[Path]:
    """Yield the symbolic links in a folder that lead out of it."""
    inside = folder.resolve()
    for path in sorted(folder.rglob("*")):
        if path.is_symlink() and not path.resolve().is_relative_to(inside):
            yield path
