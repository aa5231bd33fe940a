"""`brainmri predict PATH...`: what the study's network says of images, one line each; of folds, the mean of all.

JPEG, PNG, TIFF, DICOM, NIfTI and the other formats that the pipeline reads; a folder means every file below it. The
same code and settings as the pipeline, so an image gets the same probabilities, to the bit on a CPU, as a test image
of one network does.
Says when an image looks like nothing that the network was trained on, and when it is a copy of a training image.

Not a medical device: nothing here may be used to treat anyone.
"""

from __future__ import annotations

import argparse
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from stages.shell.errors import InputError

if TYPE_CHECKING:
    from commands.predict.model import Model


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "predict",
        help="say what images show, with the study's network",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("paths", metavar="PATH", nargs="+", type=Path, help="image file, or folder of them")
    add_network(parser)
    parser.add_argument("--gradcam", type=Path, metavar="DIR", help="write where the network looked there, as PNG")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="print one JSON object")
    form.add_argument("--csv", action="store_true", help="print a table as data/predictions.csv has it")
    parser.set_defaults(run=run)


def add_network(parser: argparse.ArgumentParser) -> None:
    """Register what says which network is asked, and where."""
    network = parser.add_mutually_exclusive_group()
    network.add_argument("--study", type=Path, default=Path(), help="folder of the study whose network is asked")
    network.add_argument("--model", type=Path, metavar="FILE", help="zip of `brainmri export zip`, instead of a study")
    parser.add_argument("--device", choices=["cpu", "cuda"], default="cpu", help="only a CPU gives the pipeline's bits")


def network(args: argparse.Namespace, gradcam_folder: Path | None = None) -> Model:
    """Load the network that the options of `add_network` name."""
    from commands.predict import bundle, model

    if args.model:
        return bundle.load(args.model, args.device, gradcam_folder)
    return model.load(args.study, args.device, gradcam_folder)


def run(args: argparse.Namespace) -> int:
    """Predict; exit status 1 where a file could not be read, after all the others."""
    if isinstance(sys.stdout, io.TextIOWrapper):  # a file's name need not be UTF-8
        sys.stdout.reconfigure(errors="backslashreplace")
    if args.gradcam:
        _check_folder(args.gradcam)
    # torch takes seconds to load: not before somebody wants a prediction
    from commands.predict import inputs, output

    files = inputs.files(args.paths)
    if args.gradcam:
        _check_apart(args.gradcam, [file.path for file in files])
    model = network(args, args.gradcam)
    write = output.writer("json" if args.json else "csv" if args.csv else "text", model.classes, sys.stdout)
    failed = 0
    for found in model.predictions(files):
        if isinstance(found, inputs.Unreadable):
            failed += 1
            print(output.printable(f"brainmri: {found.path}: {found.reason}"), file=sys.stderr)
        write.add(found)
    write.close()
    print(output.NOTICE, file=sys.stderr)
    if failed:
        print(f"brainmri: {failed} of {len(files)} files could not be read (named above)", file=sys.stderr)
    return 1 if failed else 0


def _check_apart(folder: Path, files: list[Path]) -> None:
    """Refuse a folder for pictures in which one of the files lies: a picture could take its place."""
    whole = os.path.realpath(folder)
    for file in files:
        if os.path.commonpath([whole, os.path.realpath(file)]) == whole:
            raise InputError(f"--gradcam {folder}: {file} lies in it, and could be replaced: name another folder")


def _check_folder(folder: Path) -> None:
    """Refuse a folder for pictures that cannot be written into or made; makes none."""
    there = next(each for each in (folder, *folder.absolute().parents) if each.is_symlink() or each.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        fault = "may not be written into" if there.is_dir() else "is no folder"
        raise InputError(f"--gradcam {folder}: {there} {fault}; expected a folder, or the name of a new one")
