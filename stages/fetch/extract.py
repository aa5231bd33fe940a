"""From a source's members to files in a folder, or to their hashes only."""

from __future__ import annotations

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from types import MappingProxyType

from stages.fetch import split as splits
from stages.fetch.archive import Member, members
from stages.fetch.layout import Layout
from stages.fetch.schema import LimitParams, SplitParams
from stages.fetch.series import Intake
from stages.shell.progress import progress_bar

NOBODY: Mapping[str, str] = MappingProxyType({})


def extract(found: Iterable[Member], layout: Layout, folder: Path, intake: Intake | None = None) -> dict[str, str]:
    """Write every image that `layout` places to `<folder>/[<split>/]<class>/<file>`, each new, and hash it.

    Returns
    -------
    dict
        {path below `folder`: sha256 as 64 hex digits}.

    Raises
    ------
    InputError
        For anything wrong with the source.
    OSError
        If the disk is full, and the like: only writes raise it.
    """
    hashes, made = {}, set()
    for path, data in placed(found, layout, intake):
        target = folder / path
        if target.parent not in made:
            target.parent.mkdir(parents=True, exist_ok=intake is not None)  # a series lies below what may be there
            made.add(target.parent)
        sha = hashlib.sha256()
        with target.open("xb") as handle:
            for piece in data:
                sha.update(piece)
                handle.write(piece)
        hashes[path] = sha.hexdigest()
    return hashes


def hashed(found: Iterable[Member], layout: Layout, intake: Intake | None = None) -> dict[str, str]:
    """Hash every image that `layout` places, writing nothing: {path: sha256}."""
    hashes = {}
    for path, data in placed(found, layout, intake):
        sha = hashlib.sha256()
        for piece in data:
            sha.update(piece)
        hashes[path] = sha.hexdigest()
    return hashes


def placed(
    found: Iterable[Member], layout: Layout, intake: Intake | None = None
) -> Iterator[tuple[str, Iterator[bytes]]]:
    """Yield (`[<split>/]<class>/<file>`, bytes) of images that `intake` takes, then check that no class is empty."""
    for parts, data in progress_bar(found, desc="fetch", unit="file"):
        if place := layout.place(parts):
            path = "/".join(filter(None, (place.split, place.label, place.name)))
            taken = intake(path, place.name, data) if intake else data
            if taken is None:
                layout.leave_out(place)
            else:
                yield path, taken
    layout.check()


def unpack(
    path: Path,
    folder: Path,
    classes: list[str],
    split: SplitParams | None,
    limits: LimitParams,
    where: str,
    links: bool = False,
    intake: Intake | None = None,
) -> dict[str, str]:
    """Fill `folder` with Training, Testing and perhaps Validation from an archive or folder; return {path: sha256}.

    `split` says how to make the test set where the source has class folders only; None where it has splits. `links`:
    whether symbolic links in a folder are followed. `intake` looks at series and volumes, which may lie deeper.
    """
    layout = Layout(classes, split is None, where, intake is not None)
    hashes = extract(members(path, limits, where, links), layout, folder, intake)
    if layout.left_out:
        print(f"fetch: {layout.left_out:,} other files in {where} left out")
    persons = intake.together() if intake else {}
    return hashes if split is None else _move_apart(folder, hashes, split, persons)


def with_splits(hashes: dict[str, str], split: SplitParams, persons: Mapping[str, str] = NOBODY) -> dict[str, str]:
    """Return {`<class>/<file>`: sha256} as {`<split>/<class>/<file>`: sha256}, by a test set made from it."""
    chosen = splits.testing(hashes, split, persons)
    return {f"{'Testing' if path in chosen else 'Training'}/{path}": sha for path, sha in hashes.items()}


def _move_apart(folder: Path, hashes: dict[str, str], split: SplitParams, persons: Mapping[str, str]) -> dict[str, str]:
    result = with_splits(hashes, split, persons)
    for path in result:
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        (folder / path.split("/", 1)[1]).rename(target)
    for label in {path.split("/")[0] for path in hashes}:
        shutil.rmtree(folder / label)  # what is left are the folders of series
    return result
