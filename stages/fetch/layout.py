"""Which file of a source is an image of which class and split."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from stages.fetch.names import Parts, shown
from stages.shell.errors import InputError

SPLITS = ("Training", "Testing")


@dataclass(frozen=True)
class Place:
    """Where a file goes: `split` is None where the source does not say."""

    split: str | None
    label: str
    name: str


def is_hidden(parts: Parts) -> bool:
    """Say whether a file is the leavings of an operating system, not an image."""
    return any(part.startswith(".") or part in ("__MACOSX", "Thumbs.db", "desktop.ini") for part in parts)


class Layout:
    """Finds `Training/<class>/<file>` (or `<class>/<file>`), at the top or below one single wrapping folder.

    Parameters
    ----------
    classes
        The folder names that are classes.
    has_splits
        Whether the source has Training and Testing, or class folders only.
    where
        The source, as messages name it.
    """

    def __init__(self, classes: Sequence[str], has_splits: bool, where: str) -> None:
        self._classes, self._has_splits, self._where = classes, has_splits, where
        self._known = set(SPLITS if has_splits else classes)
        self._top: Parts | None = None
        self._beside: set[Parts] = set()  # folders with files that were left out
        self.left_out = 0
        self.counts = {(split, label): 0 for split in (SPLITS if has_splits else [None]) for label in classes}

    def place(self, parts: Parts) -> Place | None:
        """Return where a file goes, or None for one that is no image of the data set (a README).

        Raises
        ------
        InputError
            For a folder in Training or Testing that is no class, a folder inside a class, two copies of the layout.
        """
        depth = next((i for i in (0, 1) if len(parts) > i + 1 and parts[i] in self._known), None)
        if is_hidden(parts) or depth is None or (self._has_splits and len(parts) == depth + 2):
            self.left_out += 1
            if not is_hidden(parts) and len(self._beside) < 10_000:
                self._beside.add(parts[:-1])
            return None
        self._one_top(parts[:depth])
        split, inner = (parts[depth], parts[depth + 1 :]) if self._has_splits else (None, parts[depth:])
        if inner[0] not in self._classes:
            raise self._unknown("/".join(parts[:-1]), inner[0])
        if len(inner) != 2:
            raise InputError(
                f"{self._where}: {shown('/'.join(parts))} lies in a folder inside a class; expected "
                f"{'Training/' if split else ''}{inner[0]}/<file>"
            )
        self.counts[split, inner[0]] += 1
        return Place(split, inner[0], inner[1])

    def check(self) -> None:
        """Raise an InputError if, after the last file, a class is empty or files lie in a folder that is no class."""
        if self._top is None:
            raise self._nothing()
        if not self._has_splits:
            for folder in sorted(self._beside):
                if folder and folder[:-1] == self._top:
                    raise self._unknown("/".join(folder), folder[-1])
        for (split, label), count in self.counts.items():
            if count == 0:
                raise InputError(
                    f"{self._where}: no file in {f'{split}/' if split else ''}{label}; every class of `classes` "
                    f"needs files{' in Training and in Testing' if split else ''}"
                )

    def _one_top(self, top: Parts) -> None:
        if self._top is None:
            self._top = top
        if not self._has_splits and top and top[0] in SPLITS:
            raise InputError(f"{self._where}: it has {top[0]} already; set fetch.split to null")
        if self._top != top:
            places = [("/".join(t) or "the top") for t in (self._top, top)]
            raise InputError(
                f"{self._where}: {' and '.join(sorted(self._known))} lie both in {places[0]} and in {places[1]}; "
                "expected one data set"
            )

    def _unknown(self, path: str, label: str) -> InputError:
        return InputError(
            f"{self._where}: folder {shown(path)} is no known class; `classes` has {', '.join(self._classes)}: "
            f"remove the folder, or add {shown(label)} to `classes`"
        )

    def _nothing(self) -> InputError:
        found = _some({folder[0] for folder in self._beside if folder})
        if self._has_splits:
            return InputError(
                f"{self._where}: no Training and Testing in it (folders found: {found}); expected "
                "Training/<class>/<file>, or set fetch.split where there are class folders only"
            )
        return InputError(
            f"{self._where}: no class folder in it (folders found: {found}); expected <class>/<file> "
            f"for {', '.join(self._classes)}"
        )


def _some(names: Iterable[str]) -> str:
    names = sorted(names)
    return ", ".join(shown(name) for name in names[:6]) + (", ..." if len(names) > 6 else "") or "none"
