"""Which file of a source is an image of which class and split."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass

from stages.fetch.names import Parts, shown
from stages.shell.errors import InputError

SPLITS = ("Training", "Testing")  # that every study has
ALL_SPLITS = (*SPLITS, "Validation")  # that a study may have
CALLED = {
    **dict.fromkeys(("train", "training"), "Training"),
    **dict.fromkeys(("test", "testing"), "Testing"),
    **dict.fromkeys(("val", "valid", "validation"), "Validation"),
}


@dataclass(frozen=True)
class Place:
    """Where a file goes: `split` is None where the source does not say."""

    split: str | None
    label: str
    name: str


def is_hidden(parts: Parts) -> bool:
    """Say whether a file is the leavings of an operating system, not an image."""
    return any(part.startswith(".") or part in ("__MACOSX", "Thumbs.db", "desktop.ini") for part in parts)


def is_directory(parts: Parts) -> bool:
    """Say whether a file is a DICOM disc's table of contents, which shows nothing."""
    return parts[-1].upper() == "DICOMDIR"


def split_of(folder: str) -> str | None:
    """Return the split that a folder is by its name, in any case; None where it is none.

    Examples
    --------
    >>> [split_of(name) for name in ("train", "TEST", "Valid", "glioma")]
    ['Training', 'Testing', 'Validation', None]
    """
    return CALLED.get(folder.casefold())


def plain(folders: Parts, splits: bool, classes: Collection[str] = ()) -> Parts:
    """Return folders inside one another with splits by our names, and one of the same name as that around it left out.

    Unpacking often doubles folders. A class may be called as splits are.

    Examples
    --------
    >>> plain(("archive", "archive", "train", "Training", "glioma"), splits=True)
    ('archive', 'Training', 'glioma')
    """
    names = [(splits and folder not in classes and split_of(folder)) or folder for folder in folders]
    return tuple(name for i, name in enumerate(names) if i == 0 or name != names[i - 1])


class Layout:
    """Finds `<split>/<class>/<file>` (or `<class>/<file>`), at the top or below one single wrapping folder.

    Splits may be called as `split_of` says, and folders doubled (`plain`), as long as each class of a split is one
    folder.

    Parameters
    ----------
    classes
        The folder names that are classes.
    has_splits
        Whether the source has Training and Testing, perhaps Validation, or class folders only.
    where
        The source, as messages name it.
    deep
        Whether files may lie in folders inside a class, as series do.
    """

    def __init__(self, classes: Sequence[str], has_splits: bool, where: str, deep: bool = False) -> None:
        self._classes, self._has_splits, self._where, self._deep = classes, has_splits, where, deep
        self._known = set(ALL_SPLITS if has_splits else classes)
        self._top: Parts | None = None
        self._beside: set[Parts] = set()  # folders with files that were left out
        self._folders: dict[tuple[str | None, str], Parts] = {}  # of each split and class, as the source has it
        self.left_out = 0
        self.counts = {(split, label): 0 for split in (SPLITS if has_splits else [None]) for label in classes}

    def place(self, parts: Parts) -> Place | None:
        """Return where a file goes, or None for one that is no image of the data set (a README).

        Raises
        ------
        InputError
            For a folder in a split that is no class, a folder inside a class, two copies of the layout.
        """
        folders = plain(parts[:-1], self._has_splits, self._classes)
        depth = next((i for i in (0, 1) if len(folders) > i and folders[i] in self._known), None)
        if (
            is_hidden(parts)
            or (self._deep and is_directory(parts))
            or depth is None
            or (self._has_splits and len(folders) == depth + 1)
        ):
            self.left_out += 1
            if not is_hidden(parts) and len(self._beside) < 10_000:
                self._beside.add(folders)
            return None
        self._one_top(folders[:depth])
        split, inner = (folders[depth], folders[depth + 1 :]) if self._has_splits else (None, folders[depth:])
        self._check_class(parts, split, inner)
        below = self._below(parts, folders[: len(folders) - len(inner) + 1]) if self._deep else len(parts) - 1
        self._count(split, inner[0], parts[:below])
        return Place(split, inner[0], "/".join(parts[below:]))

    def leave_out(self, place: Place) -> None:
        """Take back that a file was placed."""
        self.counts[place.split, place.label] -= 1

    def _below(self, parts: Parts, until: Parts) -> int:
        """Return how many of a file's folders lead to its class, which is the last of the plain ones in `until`."""
        return max(n for n in range(len(parts)) if plain(parts[:n], self._has_splits, self._classes) == until)

    def check(self) -> None:
        """Raise an InputError if, after the last file, a class is empty or files lie in a folder that is no class."""
        if self._top is None:
            raise self._nothing()
        if not self._has_splits:
            for folder in sorted(self._beside):
                if folder and folder[:-1] == self._top:
                    raise self._unknown("/".join(folder), folder[-1])
        splits = list(dict.fromkeys(split for split, _ in self.counts if split))
        for each in splits:
            if not any(self.counts[each, label] for label in self._classes):
                raise self._no_split(each)
        for (split, label), count in self.counts.items():
            if count == 0:
                raise InputError(
                    f"{self._where}: no file in {f'{split}/' if split else ''}{label}; every class of `classes` "
                    f"needs files{' in ' if split else ''}{' and in '.join(splits)}"
                )

    def _check_class(self, parts: Parts, split: str | None, inner: Parts) -> None:
        if split and inner[0] in ALL_SPLITS and inner[0] not in self._classes:
            raise InputError(
                f"{self._where}: {shown('/'.join(parts[:-1]))} is a folder for {inner[0]} inside one for {split}; "
                "expected them side by side: Training/<class>/<file> and Testing/<class>/<file>"
            )
        if inner[0] not in self._classes:
            raise self._unknown("/".join(parts[:-1]), inner[0])
        if len(inner) > 1 and not self._deep:
            raise InputError(
                f"{self._where}: {shown('/'.join(parts))} lies in a folder inside a class; expected "
                f"{f'{split}/' if split else ''}{inner[0]}/<file>"
            )

    def _count(self, split: str | None, label: str, folder: Parts) -> None:
        if (split, label) not in self.counts:  # the first file for Validation: from now on every class needs some
            self.counts |= {(split, each): 0 for each in self._classes}
        known = self._folders.setdefault((split, label), folder)
        if known != folder:
            one, other = sorted("/".join(each) for each in (known, folder))
            raise InputError(
                f"{self._where}: {shown(one)} and {shown(other)} are both {f'{split}/' if split else ''}{label}; "
                "expected one folder: join them or remove one"
            )
        self.counts[split, label] += 1

    def _one_top(self, top: Parts) -> None:
        if self._top is None:
            self._top = top
        if not self._has_splits and top and top[0] in SPLITS:
            raise InputError(f"{self._where}: it has {top[0]} already; set fetch.split to null")
        if self._top != top:
            places = [("/".join(t) or "the top") for t in (self._top, top)]
            known = SPLITS if self._has_splits else sorted(self._known)
            raise InputError(
                f"{self._where}: {' and '.join(known)} lie both in {places[0]} and in {places[1]}; "
                "expected one data set"
            )

    def _unknown(self, path: str, label: str) -> InputError:
        return InputError(
            f"{self._where}: folder {shown(path)} is no known class; `classes` has {', '.join(self._classes)}: "
            f"remove the folder, or add {shown(label)} to `classes`"
        )

    def _no_split(self, split: str) -> InputError:
        has = " and ".join(dict.fromkeys(str(each) for (each, _), count in self.counts.items() if count))
        return InputError(
            f"{self._where}: it has {has} but no {split}; add a folder {split} with the same classes, or give the "
            "folder that has the classes alone, from which a test set is then taken"
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
