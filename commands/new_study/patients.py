"""Whose images they are: what `--patients` says, and a warning where nothing was said and names say much."""

from __future__ import annotations

import csv
import io
import re
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

from pydantic import ValidationError

from commands.new_study.look import Found
from stages.fetch import patients
from stages.fetch.names import shown
from stages.fetch.schema import PatientsParams
from stages.shell.errors import InputError

TABLE = "patients.csv"  # in the study's folder
LEAST = 3  # files of a series, and series of a class, from which on names look like slices of patients
GAPS = 4  # numbers that a file of a series may take up: some of its slices may lie elsewhere


@dataclass(frozen=True)
class Told:
    """What a person said: the parameter, and where it is a table the bytes of that which the study gets."""

    settings: PatientsParams
    table: bytes | None = None


def told(said: str | None, unknown: bool, two_classes: bool) -> Told | None:
    """Return what `--patients` and the two options beside it mean; None where nothing was said.

    Raises
    ------
    InputError
        For a table that cannot be read or is none, a pattern that is none, and an option without `--patients`.
    """
    allowed = {name: True for name, given in (("unknown", unknown), ("two_classes", two_classes)) if given}
    if said is None:
        if allowed:
            raise InputError(f"--patients-{next(iter(allowed)).replace('_', '-')} needs --patients, which tells them")
        return None
    try:
        if said == "tag":
            return Told(PatientsParams.model_validate({"tag": True, **allowed}))
        if "(?P<" in said:
            return Told(PatientsParams.model_validate({"pattern": said, **allowed}))
    except ValidationError as error:
        message = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise InputError(f"--patients {shown(said)}: {message}") from None
    return _table(Path(said), allowed)


def _table(path: Path, allowed: Mapping[str, bool]) -> Told:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise InputError(
            f"--patients {shown(str(path))}: {error.strerror}; expected a CSV of path and patient, a pattern on the "
            "files' names with (?P<patient>...) in it, or tag"
        ) from None
    text = io.StringIO()  # of all columns the two that are needed: others may name people
    csv.writer(text, lineterminator="\n").writerows([patients.COLUMNS, *patients.rows(data, str(path))])
    table = text.getvalue().encode()
    settings = {"table": TABLE, "sha256": patients.sha256(table), **allowed}
    return Told(PatientsParams.model_validate(settings), table)


def by_tag(said: Told | None, found: Found) -> Told | None:
    """Return what was said; where nothing was, and there are DICOM files, that their headers tell.

    InputError where DICOM's tag was asked for and there is no DICOM file.
    """
    dicom = found.intake.scans if found.intake else 0
    if said is not None and said.settings.tag and not dicom:
        raise InputError("--patients tag: there is no DICOM file here; give a CSV of path and patient, or a pattern")
    if said is None and dicom:
        return Told(PatientsParams(tag=True, unknown=dicom < len(found.hashes)))
    return said


def write(folder: Path, found: Found, said: Told | None) -> dict[str, str]:
    """Put the table into the study's folder; return {path: patient} of the files whose patient is known.

    Raises
    ------
    InputError
        As `fetch` would.
    """
    if said is None:
        return {}
    if said.table is not None:
        (folder / TABLE).write_bytes(said.table)
    rows = patients.read(said.settings, folder)
    tags = found.intake.patients() if found.intake else {}
    return patients.assign(found.hashes, said.settings, rows, found.split is not None, tags)


def summary(found: Found, known: Mapping[str, str], folds: int | None = None) -> list[str]:
    """Return the lines about patients that a person is to see: how many, and what a given test set has of them."""
    volumes = ["A volume whose patient nobody tells is a patient of its own."] * bool(
        found.intake and len(known) < len(found.hashes)
    )
    if not known:
        copies = ["Nobody's patient is known: groups of copies stand in, and slices of one head can part."]
        return volumes or (copies if folds else [])
    lines = [f"{len(known):,} of {len(found.hashes):,} files are of {len(set(known.values())):,} patients."]
    if found.split or folds:
        return [*lines, *volumes, "split.protocol is by_patient: no patient both trains and tests."]
    trained = {patient for path, patient in known.items() if not path.startswith("Testing/")}
    both = sum(patient in trained for path, patient in known.items() if path.startswith("Testing/"))
    if both:
        lines.append(
            f"{both:,} of the test images are of patients with training images; split.protocol: by_patient, in "
            "params.yaml, divides all of them anew."
        )
    return lines


def warning(paths: Iterable[str]) -> str | None:
    """Return a line where files (`<split>/<class>/<file>`) are named as several slices of one patient often are.

    That is: in one class at least LEAST series, which have half of its files; a series is LEAST files whose names are
    alike before their last number, and their numbers close together.
    """
    series: dict[str, dict[str, dict[int, str]]] = defaultdict(lambda: defaultdict(dict))
    count: dict[str, int] = defaultdict(int)
    for path in paths:
        _, label, name = path.split("/", 2)
        count[label] += 1
        if match := re.match(r"(.*?)(\d+)\D*$", name.rpartition(".")[0] or name):
            series[label][match[1]][int(match[2])] = name
    for label in sorted(series):
        found = [files for _, files in sorted(series[label].items()) if _is_series(files)]
        if len(found) >= LEAST and 2 * sum(map(len, found)) >= count[label]:
            two = [shown(found[0][number]) for number in sorted(found[0])[:2]]
            return (
                f"{' and '.join(two)} look like slices of one patient, and {len(found):,} such series are in {label}: "
                "without --patients one head can stand on both sides of the split (docs/patients.md)"
            )
    return None


def _is_series(numbers: Mapping[int, str]) -> bool:
    return len(numbers) >= LEAST and max(numbers) - min(numbers) < GAPS * len(numbers)
