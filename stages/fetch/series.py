"""DICOM series and NIfTI volumes on their way in: which files are left out, and whose the others are.

Of a header no more is looked at than TAGS, and nothing of it is kept but a reason and a number that stands for a
person: what fetch writes or says holds no text of it.
"""

from __future__ import annotations

import hashlib
import io
import re
import warnings
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from itertools import chain
from typing import Any, NamedTuple

from stages.fetch.schema import ScanParams
from stages.scans import is_dicom, silent_pydicom

TAGS = [
    *("SOPClassUID", "Modality", "ImageType", "SeriesDescription", "BurnedInAnnotation"),
    *("PatientID", "StudyInstanceUID", "SeriesInstanceUID"),
]
PERSONS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")  # the first that is not empty
STORAGE = "1.2.840.10008.5.1.4.1.1."
SECONDARY = f"{STORAGE}7"  # captures of a screen, of paper, of video
# directory of a disc; presentation states, waveforms, reports, documents, plans and structures of radiotherapy
NO_PICTURES = ("1.2.840.10008.1.3.10", *(f"{STORAGE}{part}." for part in ("11", "9", "88", "104", "481")))
LOCALISERS = re.compile(r"\b(3-?plane )?(locali[sz]er|loc|scout|survey)\b", re.IGNORECASE)
HEAD = 1 << 16  # bytes of a file that make the key
DIGITS = 16  # of the number that stands for a person
COLUMNS = ("reason", "files")  # of data/left_out.csv
BURNT = "burnt in"  # in the place of a reason: such files are taken


class Header(NamedTuple):
    """What fetch keeps of a DICOM file while it runs."""

    person: str  # whose it is, as the header has it: for `Intake.patients` alone
    reason: str  # why it is left out; "" where it is not
    burnt: bool  # whether it says that text is burnt into its pixels


class Intake:
    """Looks at the files that come in; knows what was left out, and whose the others are.

    `told` says that patients are told otherwise than by tags, which then say nothing of which files belong together.
    """

    def __init__(self, rule: ScanParams, told: bool = False) -> None:
        """Know nothing yet."""
        self.rule, self._told = rule, told
        self.left_out: Counter[str] = Counter()
        self.burnt = 0
        self.scans = 0  # files that are DICOM
        self._persons: dict[str, str] = {}
        self._heads: list[bytes] = []

    def __call__(self, path: str, below: str, data: Iterable[bytes]) -> Iterator[bytes] | None:
        """Return a file's bytes again; None where the rule leaves it out. `below` is its path in its class."""
        if self.rule.files and not re.fullmatch(self.rule.files, below):
            self.left_out["not named as fetch.scans.files says"] += 1
            return None
        pieces = iter(data)
        first = next(pieces, b"")
        if not is_dicom(first, below):
            return chain([first], pieces)
        whole = b"".join([first, *pieces])
        header = read(whole, self.rule)
        if header.reason:
            self.left_out[header.reason] += 1
            return None
        self.scans += 1
        self.burnt += header.burnt
        self._persons[path] = header.person
        self._heads.append(hashlib.blake2b(whole[:HEAD], digest_size=32).digest())
        return iter([whole])

    def patients(self) -> dict[str, str]:
        """Return {path: number of the patient} of the DICOM files; see `numbers`."""
        return numbers({path: person for path, person in self._persons.items() if person}, self._heads)

    def together(self) -> dict[str, str]:
        """Return {path: whose it is} of the files that a test set which is made must not divide."""
        return {} if self._told else self.patients()

    def counts(self) -> dict[str, int]:
        """Return {why they were left out: files}, and under BURNT those whose pixels have text in them."""
        return dict(sorted(self.left_out.items())) | ({BURNT: self.burnt} if self.burnt else {})


def said(counts: Mapping[str, int]) -> list[str]:
    """Return the lines that a person is to see, of `Intake.counts`: what was left out, and what is burnt in.

    Examples
    --------
    >>> said({"localisers": 3, "secondary captures": 1200})
    ['left out by fetch.scans: 3 localisers, 1,200 secondary captures']
    """
    lines = []
    if left_out := [f"{count:,} {reason}" for reason, count in counts.items() if reason != BURNT]:
        lines.append(f"left out by fetch.scans: {', '.join(left_out)}")
    if burnt := counts.get(BURNT):
        lines.append(
            f"{burnt:,} DICOM files say that text is burnt into their pixels (BurnedInAnnotation YES): it "
            "cannot be taken out, and may name a person"
        )
    return lines


def read(data: bytes, rule: ScanParams) -> Header:
    """Return what is kept of a file's header; one that cannot be read is left to verify, which names the file."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            file = silent_pydicom().dcmread(io.BytesIO(data), force=True, stop_before_pixels=True, specific_tags=TAGS)
            person = next(filter(None, (_text(file, tag) for tag in PERSONS)), "")
            return Header(person, reason(file, rule), _text(file, "BurnedInAnnotation").upper() == "YES")
    except Exception:  # the reader meets any bytes at all, and raises anything
        return Header("", "", False)


def reason(file: Any, rule: ScanParams) -> str:
    """Return why a file is left out; "" where it is not."""
    kind, modality = _text(file, "SOPClassUID"), _text(file, "Modality").upper()
    if kind.startswith(NO_PICTURES):
        return "reports and others without a picture"
    if not rule.secondary and (kind == SECONDARY or kind.startswith(f"{SECONDARY}.")):
        return "secondary captures"
    if rule.modalities and modality and modality not in rule.modalities:
        return "of another modality"
    image, description = _text(file, "ImageType").upper(), _text(file, "SeriesDescription")
    if not rule.localisers and ("LOCALIZER" in image or LOCALISERS.search(description.replace("_", " "))):
        return "localisers"
    return ""


def _text(file: Any, tag: str) -> str:
    value = file.get(tag)
    return "" if value is None else str(value).strip()


def numbers(persons: Mapping[str, str], heads: Iterable[bytes]) -> dict[str, str]:
    """Return {path: number} for {path: person}: a keyed hash, whose key only those can make who have the files.

    The key is a hash over hashes of the files' own first bytes, none of which is published: files.sha256 has hashes of
    whole files. Without the files nobody can try names or ids until one fits; who has the files has the ids anyway.

    Examples
    --------
    >>> one, other = (numbers({"a": "17", "b": "17"}, [head]) for head in (b"x", b"y"))
    >>> one["a"] == one["b"] != other["a"]
    True
    """
    key = hashlib.blake2b(b"".join(sorted(heads)), digest_size=32, person=b"brainmri patient").digest()
    return {
        path: hashlib.blake2b(person.encode(errors="surrogatepass"), key=key, digest_size=DIGITS // 2).hexdigest()
        for path, person in persons.items()
    }
