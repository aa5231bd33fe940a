"""Writing so that a reader never sees half a file."""

from __future__ import annotations

import contextlib
import csv
import fcntl
import glob
import hashlib
import io
import json
import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from stages.shell.errors import InputError

if TYPE_CHECKING:
    import pandas as pd


FIGURES = ("figure", "value")  # columns of a table of figures


@contextmanager
def replacing(path: Path | str) -> Iterator[Path]:
    """Yield a temporary path beside `path`; it takes `path`'s place on success and is removed on any failure.

    The file is flushed to the disk before the rename, so a power cut leaves the old file or the new one. Parts left by
    a killed run are removed first; one that is being written is locked, and the kernel drops that lock with its writer.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in _parts(path):
        _remove_abandoned(stale)
    with _new_part(path) as lock:
        part = Path(lock.name)
        try:
            yield part
            with part.open("rb") as written:
                os.fsync(written.fileno())
            part.chmod(0o644)
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)


def _new_part(path: Path) -> IO[bytes]:
    """Return a new part of `path`, open and locked; again where it was swept before it was locked."""
    while True:
        part = tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}.", suffix=".part", delete=False)  # noqa: SIM115
        fcntl.flock(part, fcntl.LOCK_EX)
        if Path(part.name).exists():
            return part
        part.close()


def _parts(path: Path) -> Iterator[Path]:
    return path.parent.glob(f".{glob.escape(path.name)}.*.part")


def _remove_abandoned(part: Path) -> None:
    with contextlib.suppress(FileNotFoundError, IsADirectoryError, BlockingIOError), part.open("rb") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        part.unlink()


def atomic_write(path: Path | str, data: bytes | str) -> None:
    """Write `data` (text as UTF-8) to `path`, whole or not at all."""
    with replacing(path) as part:
        part.write_bytes(data.encode() if isinstance(data, str) else data)


@contextmanager
def atomic_folder(path: Path | str) -> Iterator[Path]:
    """Yield a temporary sibling folder; it replaces `path` on success and is removed on any failure.

    Parts left by a killed run are removed first: nothing else may write this folder at the same time.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    for stale in _parts(path):
        shutil.rmtree(stale, ignore_errors=True)
    part = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
    try:
        yield part
        part.chmod(0o755)
        if path.is_symlink() or path.is_file():
            path.unlink()
        elif path.exists():
            shutil.rmtree(path)
        part.replace(path)
    finally:
        shutil.rmtree(part, ignore_errors=True)


def sha256_file(path: Path | str) -> str:
    """Return the SHA-256 of a file's bytes as 64 hex digits."""
    with Path(path).open("rb") as handle:
        return hashlib.file_digest(handle, "sha256").hexdigest()


def write_json(path: Path | str, value: Any) -> None:
    """Write JSON with sorted keys and a newline at the end.

    Raises
    ------
    ValueError
        For NaN or infinity, which JSON does not have.
    """
    atomic_write(path, json.dumps(value, indent=2, sort_keys=True, allow_nan=False) + "\n")


def write_csv(path: Path | str, frame: pd.DataFrame) -> None:
    """Write a table as CSV without its index, lines ended by a newline alone."""
    atomic_write(path, frame.to_csv(index=False, lineterminator="\n"))


def write_figures(path: Path | str, figures: Mapping[str, Any]) -> None:
    """Write nested figures as CSV, a row each, sorted: `figure,value`, such as `all.sensitivity.glioma,0.89`.

    DVC lists every number of a JSON file under `metrics:`. A table under `plots:` is an output in Git as well, and is
    listed nowhere. Keys may hold no dot.
    """
    text = io.StringIO()
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(FIGURES)
    rows.writerows(sorted((name, json.dumps(value, allow_nan=False)) for name, value in _flat(figures, ())))
    atomic_write(path, text.getvalue())


def read_figures(path: Path | str) -> dict[str, Any]:
    """Return what `write_figures` wrote, nested as it was.

    Raises
    ------
    InputError
        Where the file is not there, or is not such a table: in the middle of a merge, say.
    """
    nested: dict[str, Any] = {}
    try:
        head, *rows = csv.reader(Path(path).read_text(encoding="utf-8").splitlines(), strict=True)
        if tuple(head) != FIGURES:
            raise ValueError
        for name, value in rows:
            *groups, last = name.split(".")
            group = nested
            for each in groups:
                group = group.setdefault(each, {})
            group[last] = json.loads(value)
    except FileNotFoundError:
        raise InputError(f"{path} not found in {Path.cwd().name}/: run `dvc repro` in the study's folder") from None
    except (AttributeError, TypeError, ValueError, csv.Error):
        raise InputError(
            f"{path} is no table of {' and '.join(FIGURES)}: is it in the middle of a merge? "
            "Finish that, or take the whole file from Git, then run `dvc repro`"
        ) from None
    return nested


def _flat(figures: Mapping[str, Any], groups: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    for name, value in figures.items():
        if isinstance(value, Mapping) and value:
            yield from _flat(value, (*groups, name))
        else:
            yield ".".join((*groups, name)), value
