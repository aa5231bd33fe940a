"""Where a study's bytes come from, seen from params.yaml and the environment."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from stages.fetch import download, kaggle
from stages.fetch.schema import FetchParams
from stages.files import atomic_write
from stages.shell.errors import InputError

VARIABLE = "BRAINMRI_SOURCE"


@dataclass(frozen=True)
class Source:
    """Data at hand.

    Attributes
    ----------
    path
        A folder, zip or tar on this machine.
    name
        How messages call it.
    forget
        Removes it from the cache, where it came from one; None where it is a person's own copy.
    fresh
        Whether it was downloaded just now.
    links
        Whether symbolic links in a folder are followed: in a person's own, and in none that came from an archive.
    """

    path: Path
    name: str
    forget: Callable[[], None] | None = None
    fresh: bool = True
    links: bool = False


def is_url(text: str) -> bool:
    """Say whether a location is an http(s) URL."""
    return text.lower().startswith(("http://", "https://"))


def find(params: FetchParams) -> Source:
    """Return the data that an `archive` or `kaggle` study reads, downloaded where it has to be.

    BRAINMRI_SOURCE, an absolute path or a URL, replaces the download: where bytes come from changes no output.

    Raises
    ------
    InputError
        If there is nothing at that place.
    """
    most = params.limits.total_bytes
    if instead := os.environ.get(VARIABLE):
        if not is_url(instead) and not Path(instead).is_absolute():
            raise InputError(
                f"{VARIABLE} is {instead!r}: expected an absolute path or an http(s) URL, as experiments run in "
                "other folders"
            )
        return locate(instead, most, VARIABLE)
    if params.source == "kaggle":
        return _from_kaggle(params.kaggle.dataset, params.kaggle.version)
    location = params.archive.location or remembered(params.tree_digest)
    if location is None:
        raise InputError(
            "fetch.archive.location is null: expected the path or http(s) URL of a zip, tar or folder; set it, "
            f"or the environment variable {VARIABLE}"
        )
    key = (
        "fetch.archive.location"
        if params.archive.location
        else f"the place of these images ({VARIABLE} may name another)"
    )
    return locate(location, most, key)


def remember(location: Path, digest: str) -> None:
    """Keep in this machine's cache where the images of a tree digest lie, so that no path need stand in params.yaml.

    Unlike a file beside params.yaml, an experiment in a temporary workspace finds it too.
    """
    atomic_write(_memory(digest), os.fsencode(location))


def remembered(digest: str | None) -> str | None:
    """Return where images of that tree digest were on this machine; None where that was not kept."""
    try:
        return os.fsdecode(_memory(digest).read_bytes()) if digest else None
    except FileNotFoundError:
        return None


def _memory(digest: str) -> Path:
    return download.cache() / "sources" / digest


def locate(location: str, most: int, key: str) -> Source:
    """Return the data at a path or URL; `key` is what a message tells the person to correct."""
    if is_url(location):
        target = download.cached(location)
        fresh = not target.exists()
        path = download.download(location, most)
        return Source(path, download.shown_url(location), lambda: download.forget(path), fresh)
    path = Path(location)
    try:
        if "://" not in location and (path.is_dir() or path.is_file()):
            return Source(path, path.name or location, links=True)
        what = "not an http(s) URL" if "://" in location else "not a file or folder" if path.exists() else "not there"
    except OSError as error:  # a name that is too long, for one
        what = str(error.strerror).lower()
    raise InputError(f"{key} is {location[:200]!r}: {what}; expected a zip, tar or folder, or an http(s) URL")


def _from_kaggle(dataset: str, version: int) -> Source:
    fresh = not kaggle.is_cached(dataset, version)
    path = kaggle.download(dataset, version)
    return Source(path, f"Kaggle {dataset} version {version}", lambda: kaggle.forget(dataset, version), fresh)
