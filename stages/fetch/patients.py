"""data/patients.csv: whose image each file is, as far as a study's parameters tell."""

from __future__ import annotations

import csv
import hashlib
import io
import re
import unicodedata
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from stages import runtime
from stages.fetch.names import shown
from stages.fetch.schema import PatientsParams
from stages.shell.errors import InputError

COLUMNS = ("path", "patient")
SECONDS = 20  # that a pattern may take over all files
LONGEST = 200  # letters of a patient's name
KEY = "fetch.patients"


def read(settings: PatientsParams | None, folder: Path | str = ".") -> list[tuple[str, str]]:
    """Return the rows (path, patient) of the study's table, if there is one; the table must be as pinned.

    Raises
    ------
    InputError
        Where the table is not there, has another SHA-256, is not UTF-8 or no such CSV, or names a path twice.
    """
    if settings is None or settings.table is None:
        return []
    name = settings.table
    try:
        data = (Path(folder) / name).read_bytes()
    except OSError as error:
        raise InputError(f"{name} cannot be read ({error.strerror}): {KEY}.table names a file by this folder") from None
    now = sha256(data)
    if now != settings.sha256:
        raise InputError(f"{name} has sha256 {now}, not that of {KEY}.sha256: if the table is right, set it to that")
    found = list(rows(data, name))
    _once((unicodedata.normalize("NFC", path) for path, _ in found), name)
    return found


def sha256(table: bytes) -> str:
    """Return what a table is pinned by, as 64 hex digits."""
    return hashlib.sha256(table).hexdigest()


def rows(data: bytes, name: str) -> Iterator[tuple[str, str]]:
    """Yield (path, patient) of a table, a CSV in UTF-8; its other columns are not read.

    Raises
    ------
    InputError
        Where it is no such table.
    """
    try:
        lines = csv.DictReader(io.StringIO(data.decode("utf-8-sig"), newline=""), strict=True)
        if missing := [column for column in COLUMNS if column not in (lines.fieldnames or [])]:
            raise InputError(
                f"{name} has no column {missing[0]!r}, but {shown(', '.join(lines.fieldnames or []))}; "
                "expected a CSV with commas whose first line has path and patient"
            )
        for line in lines:
            path, patient = (line[column] for column in COLUMNS)
            if not path or patient is None or None in line:
                raise InputError(f"{name}, line {lines.line_num}: expected a path, a patient and a cell for each head")
            yield path, _checked(patient.strip(), f"{name}, line {lines.line_num}")
    except UnicodeDecodeError as error:
        raise InputError(f"{name} is not UTF-8 (byte {error.start}): save it as CSV in UTF-8") from None
    except csv.Error as error:
        raise InputError(f"{name} is no plain CSV ({error}): save it as CSV in UTF-8, with commas") from None


def _checked(patient: str, where: str) -> str:
    patient = unicodedata.normalize("NFC", patient)  # one name that was typed in two ways is one patient
    if len(patient) > LONGEST or any(unicodedata.category(letter).startswith("C") for letter in patient):
        raise InputError(
            f"{where}: {shown(patient)} cannot name a patient: at most {LONGEST} letters, no control characters"
        )
    return patient


def _once(paths: Iterable[str], name: str) -> None:
    known: set[str] = set()
    for path in paths:
        if path in known:
            raise InputError(f"{name} has {shown(path)} twice: expected one line a file")
        known.add(path)


def assign(
    paths: Iterable[str],
    settings: PatientsParams | None,
    table: Iterable[tuple[str, str]] = (),
    drawn: bool = False,
    tags: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, str]:
    """Return {path: patient}, sorted, of the files (`<split>/<class>/<file>`) whose patient is known.

    Where the test set was `drawn`, the table may name files as their source does, by `<class>/<file>`; and `tags`, what
    DICOM headers say ({path: patient}), does so.

    Raises
    ------
    InputError
        For a path of the table that is no file, a pattern that matches nothing or takes too long, and for what the
        settings do not allow: files without a patient, a patient in two classes.
    """
    if settings is None:
        return {}
    names = sorted(paths)
    if settings.tag:
        found = {path: tags.get(path.split("/", 1)[1] if drawn else path, "") for path in names}
    elif settings.pattern:
        found = _by_pattern(names, settings.pattern)
    else:
        found = _by_table(names, table, str(settings.table), drawn)
    known = {path: found[path] for path in names if found.get(path)}
    if not known:
        raise InputError(f"{KEY} tells no file's patient, of {len(names):,}; set it to null where none is known")
    if len(known) < len(names) and not settings.unknown:
        first = shown(next(path for path in names if path not in known))
        raise InputError(
            f"{KEY} tells no patient for {len(names) - len(known):,} of {len(names):,} files, {first} the first; "
            f"tell them, or allow that: {KEY}.unknown: true"
        )
    if not settings.two_classes:
        _one_class(known)
    return known


def _by_table(names: list[str], table: Iterable[tuple[str, str]], name: str, drawn: bool) -> dict[str, str]:
    spelled = {unicodedata.normalize("NFC", path): path for path in names}  # some disks store accents apart
    if drawn:
        spelled |= {path.split("/", 1)[1]: spelled[path] for path in spelled}
    given = [(unicodedata.normalize("NFC", path), patient) for path, patient in table]
    if missing := sorted(path for path, _ in given if path not in spelled):
        expected = "<class>/<file>, as in the source" if drawn else "<split>/<class>/<file>"
        raise InputError(
            f"{name} has {len(missing):,} paths that are no file of data/raw, {shown(missing[0])} the first; "
            f"expected {expected}, as {shown(min(spelled))}"
        )
    _once((spelled[path] for path, _ in given), name)
    return {spelled[path]: patient for path, patient in given}


def _by_pattern(names: list[str], pattern: str) -> dict[str, str]:
    found: dict[str, str] = {}
    slow = InputError(f"{KEY}.pattern takes more than {SECONDS} s: expected one without repeats inside repeats")
    with runtime.limited(SECONDS, slow):
        for path in names:
            if match := re.fullmatch(pattern, _below(path)):
                found[path] = _checked((match["patient"] or "").strip(), f"{KEY}.pattern on {shown(path)}")
    if not found:
        raise InputError(f"{KEY}.pattern matches no file's whole name, such as {shown(_below(names[0]))}")
    return found


def _below(path: str) -> str:
    """Return a file's path in its class's folder: its name, but for what lies in series."""
    return path.split("/", 2)[2]


def _one_class(known: Mapping[str, str]) -> None:
    classes: dict[str, str] = {}
    for path, patient in known.items():
        label = path.split("/")[1]
        if classes.setdefault(patient, label) != label:
            raise InputError(
                f"patient {shown(patient)} is in two classes, {classes[patient]} and {label} ({shown(path)}): mend the "
                f"table, the pattern or the tags, or allow that: {KEY}.two_classes: true"
            )
