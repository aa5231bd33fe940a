"""Names of members: which are safe to exist, and which two would be one file on another disk."""

from __future__ import annotations

import re
import unicodedata

from stages.shell.errors import InputError

Parts = tuple[str, ...]
BACKSLASH = "has a backslash"  # as some programs on Windows write for a slash


def shown(name: str) -> str:
    """Return a name in quotes, on one line, without control characters, of bearable length."""
    text = ascii(name)
    return text if len(text) <= 120 else text[:80] + "..." + text[-37:]


def safe_parts(name: str, where: str, archive: bool = True) -> Parts:
    """Return the path of an archive's member, or of a file in a folder, as its parts.

    Raises
    ------
    InputError
        If it leaves the folder (`..`, absolute, drive letter), has a backslash or a control character, is not UTF-8, or
        has a part that no file system takes.

    Examples
    --------
    >>> safe_parts("./Training/glioma/a.jpg", "x.zip")
    ('Training', 'glioma', 'a.jpg')
    >>> safe_parts("../a.jpg", "x.zip")
    Traceback (most recent call last):
    stages.shell.errors.InputError: x.zip: member '../a.jpg' leaves the folder; such an archive is refused
    """
    if reason := _unsafe(name):
        way_out = "such an archive is refused" if archive else "rename it"
        if archive and reason == BACKSLASH:
            way_out = "`unzip` the archive, which mends that, and give the folder"
        raise InputError(f"{where}: member {shown(name)} {reason}; {way_out}")
    return tuple(part for part in name.split("/") if part not in ("", "."))


def _unsafe(name: str) -> str | None:
    parts = name.split("/")
    if name.startswith("/"):
        return "has an absolute path"
    if re.match(r"[A-Za-z]:", name):
        return "has a drive letter"
    if ".." in parts:
        return "leaves the folder"
    if "\\" in name:
        return BACKSLASH
    if any(unicodedata.category(letter) in ("Cc", "Zl", "Zp") for letter in name):
        return "has a control character"
    try:
        long = max(len(part.encode()) for part in parts) > 255
    except UnicodeEncodeError:
        return "has a name that is not UTF-8"
    return "has a name longer than 255 bytes" if long or len(name) > 4096 else None


class Names:
    """The names seen so far in one source; a second one for the same file is refused."""

    def __init__(self, where: str) -> None:
        self.where = where
        self._spelling: dict[str, str] = {}  # a path as a careless disk would store it -> as it was first written
        self._files: set[str] = set()
        self._folders: set[str] = set()

    def add(self, parts: Parts) -> None:
        """Take a file's path.

        Raises
        ------
        InputError
            If it is there already, or differs from another only in case or in the way accents are written.
        """
        paths = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
        folders, path = set(paths[:-1]), paths[-1]
        if path in self._files:
            raise InputError(f"{self.where}: member {shown(path)} is there twice; such an archive is refused")
        if path in self._folders or folders & self._files:
            raise InputError(f"{self.where}: member {shown(path)} is both file and folder; such an archive is refused")
        for new in (part for part in paths if part not in self._folders):
            known = self._spelling.setdefault(unicodedata.normalize("NFC", new).casefold(), new)
            if known != new:
                raise InputError(
                    f"{self.where}: {shown(known)} and {shown(new)} differ only in case or accents; rename one"
                )
        self._files.add(path)
        self._folders |= folders
