"""`brainmri new-study`: make a study from one's own images in class folders."""

from __future__ import annotations

import argparse
import os
import re
import shlex
import sys
from pathlib import Path
from typing import Any

from commands import dvc_project
from commands.new_study import keep, patients
from commands.new_study.look import Found, leading_out, look
from commands.new_study.parameters import by_patient, filled_in
from stages import params
from stages.fetch import series, source, tree
from stages.files import atomic_folder
from stages.report.schema import Params
from stages.shell.errors import InputError

IGNORED = "/data/\n/models/*\n!/models/MODEL_CARD.md\n/logs/\n/report/\n"


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser("new-study", help="make a study from your own images", description=__doc__)
    parser.add_argument("name", metavar="NAME", help="the study becomes studies/NAME")
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="zip, tar, folder or http(s) URL with a folder for each class in folders for training, testing and "
        "perhaps validation, or with a folder for each class only, from which a test set is then taken",
    )
    parser.add_argument(
        "--test-fraction", type=float, metavar="F", help="of each class, where a test set is made (default: 0.2)"
    )
    parser.add_argument("--seed", type=int, metavar="N", help="by which it is drawn (default: 0)")
    parser.add_argument(
        "--patients",
        metavar="P",
        help="whose image each file is: a CSV of path and patient; a pattern on files' names, such as "
        '"(?P<patient>[^_]+)_.*"; or tag, for DICOM\'s PatientID, which is usual where there are DICOM files',
    )
    parser.add_argument(
        "--files",
        metavar="P",
        help="of DICOM series and NIfTI volumes, a pattern for the path in the class's folder of those that are taken, "
        r'such as ".*_t1ce\.nii\.gz"',
    )
    parser.add_argument("--patients-unknown", action="store_true", help="files may have no patient")
    parser.add_argument("--patients-two-classes", action="store_true", help="a patient may have files of two classes")
    parser.add_argument(
        "--folds", type=folds, metavar="N", help="cross-validate by patient: N networks, each image tested by one"
    )
    parser.add_argument("--commit", action="store_true", help="commit the study's files, and nothing else, to Git")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Look through the source, write studies/NAME, put it into Git's index, print the counts and what comes next."""
    root = find_root(Path.cwd())
    study = free_folder(root, args.name)
    git = keep.in_git(root)
    if args.commit and not git:
        raise InputError(f"--commit: {root} is in no Git repository; run `git init` there first")
    said = patients.told(args.patients, args.patients_unknown, args.patients_two_classes)
    limits = params.load(Params, root / "params.yaml").fetch.limits
    local = None if "://" in args.source else Path(os.path.realpath(args.source))
    at = source.locate(str(local or args.source), limits.total_bytes, "SOURCE")
    found = look(at, limits, *drawn(args), args.files, said is not None and not said.settings.tag)
    said = patients.by_tag(said, found)
    if drawn(args) != (None, None) and by_patient(found, said, args.folds):
        raise InputError(
            "--test-fraction and --seed draw a test set by class, and this study is divided by patient: leave them "
            "out; one of `split.parts` parts tests, divided by `seed`, both in params.yaml"
        )
    if local:
        source.remember(local, tree.digest(found.hashes))
    with atomic_folder(study) as folder:
        known = patients.write(folder, found, said)
        text = filled_in(template(root), args.name, None if local else args.source, found, said, args.folds)
        fill(folder, root, text, found)
        free_folder(root, args.name)  # looking through the source takes long
    if git:
        keep.stage(study)
    if args.commit:
        keep.commit(study)
    print(counts_table(found, by_patient(found, said, args.folds)))
    for line in patients.summary(found, known, args.folds):
        print(line)
    for told in series.said(found.intake.counts()) if found.intake else []:
        print(told[:1].upper() + told[1:] + ".")
    if said is None and not found.intake and (warning := patients.warning(found.hashes)):
        print(f"warning: {warning}", file=sys.stderr)
    print(f"\n{where(local)}studies/{args.name} is made. Look at its params.yaml, then:")
    print(f"  {then(study, git, args.commit)}")
    return 0


def folds(text: str) -> int:
    """Return a number of folds, as a person types it."""
    if not text.isdecimal() or not 2 <= int(text) <= 100:
        raise argparse.ArgumentTypeError(f"{text!r}: expected a whole number from 2 to 100")
    return int(text)


def drawn(args: argparse.Namespace) -> tuple[float | None, int | None]:
    """Return how a test set is to be drawn, as the person said it."""
    return args.test_fraction, args.seed


def template(root: Path) -> str:
    """Return the root's params.yaml."""
    return (root / "params.yaml").read_text(encoding="utf-8-sig")


def fill(folder: Path, root: Path, text: str, found: Found) -> None:
    """Write the study's files; `text` is its params.yaml."""
    (folder / "params.yaml").write_text(text, encoding="utf-8")
    params.load(Params, folder / "params.yaml")
    for same in ("dvc.yaml", "versions.yaml"):  # in every study
        (folder / same).write_bytes((root / same).read_bytes())
    (folder / ".gitignore").write_text(IGNORED)
    (folder / tree.LISTING).write_text(tree.listing(found.hashes), encoding="utf-8")
    dvc_project.make(folder, root)


def find_root(here: Path) -> Path:
    """Return the project's root, in or above a folder."""
    for folder in (here, *here.parents):
        if (
            (folder / "stages" / "fetch").is_dir()
            and (folder / "params.yaml").is_file()
            and (folder / "dvc.yaml").is_file()
        ):
            return folder
    raise InputError(
        f"{here} is not in a clone of the project: expected to stand where params.yaml and stages/ are, or below"
    )


def free_folder(root: Path, name: str) -> Path:
    """Return where a study of that name goes; an InputError if the name is bad or taken."""
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_-]{0,63}", name):
        raise InputError(
            f"NAME is {name!r}: expected letters, digits, _ and -, at most 64, beginning with a letter or digit"
        )
    if os.path.lexists(root / "studies" / name):
        raise InputError(f"studies/{name} is there already: choose another name, or remove it first")
    return root / "studies" / name


def counts_table(found: Found, anew: bool) -> str:
    """Return the counts as a table for people; `anew` where the study divides all images by patient instead."""
    number = found.counts()
    rows: list[tuple[str, ...]] = [("class", *number)]
    rows += [(label, *(f"{number[split][label]:,}" for split in number)) for label in found.classes]
    rows.append(("all", *(f"{sum(counts.values()):,}" for counts in number.values())))
    width, *widths = (max(8 * (at > 0), *map(len, column)) for at, column in enumerate(zip(*rows, strict=True)))
    made = " (both are divided anew, by patient)" if anew else " (test set made here)" if found.split else ""
    return "\n".join("  ".join([f"{row[0]:<{width}}", *map(str.rjust, row[1:], widths)]) for row in rows) + made


def where(local: Path | None) -> str:
    """Return what a person is to know of a source on this machine; nothing of a URL, which params.yaml names."""
    if local is None:
        return ""
    out = list(leading_out(local)) if local.is_dir() else []
    links = f"Links that lead out of it: {len(out):,}, as {out[0].name}; what they lead to is taken.\n" if out else ""
    return (
        f"params.yaml names no path: this machine remembers {local}. Elsewhere, or when it has moved, set "
        f"{source.VARIABLE}.\n{links}"
    )


def then(study: Path, git: bool, committed: bool) -> str:
    """Return the line to be typed next, from where the person stands."""
    path = shlex.quote(os.path.relpath(study))
    # before the first experiment: DVC queues what is committed
    commit = f'git commit -m "Study {study.name}" -- {path} && ' if git and not committed else ""
    return f"{commit}cd {path} && dvc repro"
