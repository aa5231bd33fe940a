"""`python -m stages.fetch`, in a study's folder: fills `data/raw`, whole and as pinned, or not at all.

And data/patients.csv, which says whose image each file is, and data/left_out.csv: what `fetch.scans` left out.
"""

from __future__ import annotations

import csv
import io
import os
from collections.abc import Mapping
from pathlib import Path

from stages import params, runtime
from stages.fetch import patients, series, source, tree
from stages.fetch.extract import unpack
from stages.fetch.schema import Params
from stages.files import atomic_folder, atomic_write
from stages.shell.errors import InputError
from stages.shell.running import run

PATIENTS = "data/patients.csv"
LEFT_OUT = "data/left_out.csv"


class Unpinned(InputError):
    """No digest to hold the data against."""


def main() -> None:
    """Read params.yaml, write data/raw, data/patients.csv and data/left_out.csv."""
    study = params.load(Params)
    told = patients.read(study.fetch.patients)  # first: a wrong table should cost no download
    hashes, intake = (draw(study), None) if study.fetch.source == "phantom" else bring(study)
    for path in (PATIENTS, LEFT_OUT):
        Path(path).unlink(missing_ok=True)  # it told of the images before
    tags = intake.patients() if intake else {}
    known = patients.assign(hashes, study.fetch.patients, told, study.fetch.split is not None, tags)
    write(PATIENTS, patients.COLUMNS, known)
    write(LEFT_OUT, series.COLUMNS, intake.counts() if intake else {})
    for line in series.said(intake.counts()) if intake else []:
        print(f"fetch: {line}")
    print(f"fetch: {len(hashes):,} files in data/raw, tree digest {tree.digest(hashes)}")
    if known:
        print(f"fetch: {len(known):,} of them are of {len(set(known.values())):,} known patients")


def write(path: str, head: tuple[str, str], rows: Mapping[str, str | int]) -> None:
    """Write a CSV of two columns; the head alone where nothing is known."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([head, *rows.items()])
    atomic_write(path, text.getvalue())


def draw(study: Params) -> dict[str, str]:
    """Draw phantoms into data/raw; return {path: sha256}."""
    from stages.fetch.phantom.study import write

    if os.environ.get(source.VARIABLE):
        print(f"fetch: {source.VARIABLE} is ignored, as fetch.source is phantom")
    with atomic_folder("data/raw") as folder:
        write(folder, list(study.classes), study.seed, study.fetch.phantom, runtime.workers())
        hashes = tree.hashes_of(folder)
        if study.fetch.tree_digest is not None:
            check(hashes, study.fetch.tree_digest, "what was drawn")
    return hashes


def bring(study: Params) -> tuple[dict[str, str], series.Intake | None]:
    """Copy the study's archive, folder or Kaggle dataset into data/raw; return {path: sha256} and what looked at scans.

    A copy that lay in a cache and is not as expected is got again, once.
    """
    found = source.find(study.fetch)
    try:
        return take(found, study)
    except InputError as error:
        if found.fresh or found.forget is None or isinstance(error, Unpinned):
            raise
        print(f"fetch: the copy kept in the cache will not do ({error}); getting it again")
        found.forget()
    return take(source.find(study.fetch), study)


def take(found: source.Source, study: Params) -> tuple[dict[str, str], series.Intake | None]:
    """Copy data at hand into data/raw if it is what the study pins; return what `bring` does."""
    fetch = study.fetch
    told = fetch.patients is not None and not fetch.patients.tag
    intake = series.Intake(fetch.scans, told) if fetch.scans else None
    with atomic_folder("data/raw") as folder:
        hashes = unpack(found.path, folder, study.classes, fetch.split, fetch.limits, found.name, found.links, intake)
        if study.fetch.tree_digest is None:
            raise Unpinned(
                f"fetch.tree_digest is null: an archive or kaggle study pins what it expects. {found.name} has "
                f"{len(hashes):,} files with tree digest {tree.digest(hashes)}; if they are right, set it to that"
            )
        check(hashes, study.fetch.tree_digest, found.name)
    return hashes, intake


def check(hashes: dict[str, str], pinned: str, where: str) -> None:
    """Raise an InputError if the files are not those that a digest was made from."""
    now = tree.digest(hashes)
    if now != pinned:
        raise InputError(
            f"{where} is not what fetch.tree_digest pins ({pinned[:16]}..., found {now[:16]}... with "
            f"{len(hashes):,} files): {tree.difference(hashes, pinned)}"
        )


if __name__ == "__main__":
    run("fetch", main)
