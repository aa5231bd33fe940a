"""A test set taken from images that came without one."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Mapping
from types import MappingProxyType

from stages.fetch.schema import SplitParams
from stages.shell.errors import InputError


def testing(
    hashes: Mapping[str, str], split: SplitParams, persons: Mapping[str, str] = MappingProxyType({})
) -> set[str]:
    """Choose the test images: by class, at random, as a function of each file's bytes and the seed alone.

    Byte-equal files fall on the same side, also where they lie in two classes, and so do those of a known person. Names
    and order do not matter.

    Parameters
    ----------
    hashes
        {`<class>/<file>`: sha256}.
    split
        The fraction of each class and the seed.
    persons
        {`<class>/<file>`: whose it is}, of the files of which that is known.

    Returns
    -------
    set of str
        The paths that are for testing; in each class at least one and not all.

    Raises
    ------
    InputError
        If a class has too few distinct files for that.
    """
    classes: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    units = _units(hashes, persons)
    for path, unit in units.items():
        classes[path.split("/")[0]][unit].append(path)
    side: dict[str, bool] = {}
    for label in sorted(classes):
        _divide(label, classes[label], split, side)
    return {path for path, unit in units.items() if side[unit]}


def _units(hashes: Mapping[str, str], persons: Mapping[str, str]) -> dict[str, str]:
    """Return what each file is divided with: its SHA-256, or the smallest of all files of its person."""
    first: dict[str, str] = {}
    for path, person in persons.items():
        first[person] = min(hashes[path], first.get(person, hashes[path]))
    return {path: first[persons[path]] if path in persons else sha for path, sha in hashes.items()}


def _divide(label: str, copies: Mapping[str, list[str]], split: SplitParams, side: dict[str, bool]) -> None:
    """Decide for each distinct file of a class, keeping what an earlier class decided; `side` is filled in."""
    total = sum(map(len, copies.values()))
    wanted = max(1, round(total * split.test_fraction))
    taken = sum(len(paths) for sha, paths in copies.items() if side.get(sha))
    free = sorted((sha for sha in copies if sha not in side), key=lambda sha: _draw(sha, split.seed))
    for sha in free:
        side[sha] = taken == 0 or taken + len(copies[sha]) <= wanted
        taken += len(copies[sha]) * side[sha]
    if not 0 < taken < total:
        raise InputError(
            f"class {label!r} has {len(copies)} distinct files or patients, too few for fetch.split.test_fraction = "
            f"{split.test_fraction:g}: each class needs one in Training and one in Testing"
        )


def _draw(sha: str, seed: int) -> str:
    return hashlib.sha256(f"{seed}:{sha}".encode()).hexdigest()
