"""What tells a DICOM file, and what reads it: for fetch, which looks at headers, and verify, which decodes."""

from __future__ import annotations

import logging
from typing import Any

SUFFIXES = (".dcm", ".dicom", ".ima")


def is_dicom(data: bytes, name: str) -> bool:
    """Tell a DICOM file by its mark after 128 bytes, or, where it has none, by its name."""
    return data[128:132] == b"DICM" or name.lower().endswith(SUFFIXES)


def silent_pydicom() -> Any:
    """Return pydicom, silenced: what it warns of quotes what it read, names of people too."""
    import pydicom

    logging.getLogger("pydicom").setLevel(logging.CRITICAL + 1)
    return pydicom
