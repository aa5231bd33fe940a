"""The tree digest: one hash over the hashes and paths of all images, which is what a study pins.

A mirror may pack the same files otherwise, so the hash of an archive says nothing; this one does.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from stages.fetch.layout import ALL_SPLITS
from stages.fetch.names import shown
from stages.files import sha256_file

LISTING = "files.sha256"  # beside params.yaml, optional: the text whose hash is pinned; it only makes messages better


def listing(hashes: Mapping[str, str]) -> str:
    r"""Return a line `<sha256>  <path>\n` for each file, sorted by path; the form of `sha256sum`.

    Examples
    --------
    >>> listing({"b": "22", "a": "11"})
    '11  a\n22  b\n'
    """
    return "".join(f"{hashes[path]}  {path}\n" for path in sorted(hashes))


def digest(hashes: Mapping[str, str]) -> str:
    """Return the tree digest of {path: sha256} as 64 hex digits."""
    return hashlib.sha256(listing(hashes).encode()).hexdigest()


def files(pictures: Mapping[str, Any]) -> dict[str, str]:
    """Return {path: sha256} of the files in the manifest's columns: path, sha256, and perhaps frame.

    Examples
    --------
    >>> files({"path": ["a.nii#1", "a.nii#2", "b"], "sha256": ["11", "11", "22"], "frame": ["1", "2", ""]})
    {'a.nii': '11', 'b': '22'}
    """
    frames = pictures["frame"] if "frame" in pictures else [""] * len(pictures["path"])
    rows = zip(pictures["path"], pictures["sha256"], frames, strict=True)
    return {path.removesuffix(f"#{frame}") if frame else path: sha for path, sha, frame in rows}


def hashes_of(folder: Path | str) -> dict[str, str]:
    """Hash every file in a class's folder, `<split>/<class>/`, or deeper: {path: sha256}."""
    found = (path for split in ALL_SPLITS for path in Path(folder).glob(f"{split}/*/**/*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256_file(path) for path in found}


def tree_digest(folder: Path | str) -> str:
    """Return the tree digest of a folder with Training, Testing and perhaps Validation."""
    return digest(hashes_of(folder))


def difference(hashes: Mapping[str, str], pinned: str, known: Path | str = LISTING) -> str:
    """Say in what way files are not those that a digest was made from.

    How many are missing, extra or different can be told only where the listing that was hashed still lies at `known`.
    """
    try:
        text = Path(known).read_bytes()
    except OSError:
        text = b""
    if hashlib.sha256(text).hexdigest() != pinned:
        return f"which files differ cannot be told without a {Path(known).name} of the pinned digest"
    expected = {path: sha for sha, path in (line.split("  ", 1) for line in text.decode().splitlines())}
    kinds = {
        "missing": expected.keys() - hashes.keys(),
        "extra": hashes.keys() - expected.keys(),
        "different": {path for path in expected.keys() & hashes.keys() if expected[path] != hashes[path]},
    }
    return ", ".join(f"{len(paths):,} {kind}{_first(paths)}" for kind, paths in kinds.items())


def _first(paths: Iterable[str]) -> str:
    names = [shown(path) for path in sorted(paths)]
    return f" ({', '.join(names[:3])}{', ...' if len(names) > 3 else ''})" if names else ""
