"""`brainmri export FORM OUT`: a study's network in a form that others load.

onnx         one file, from grey slices to calibrated probabilities; held against torch by onnxruntime on test images
hub          a folder that Hugging Face's hub takes as it is: the card, safetensors, config.json
zip          one file with which `brainmri predict --model FILE` answers anywhere, without the study and its images
torchvision  weights that torchvision's own resnet50 loads strictly; prints the lines that do it

Of a cross-validation one network is written, that of `--fold`. The same study gives the same bytes. Nothing is sent
anywhere.
"""

from __future__ import annotations

import argparse
import importlib
from pathlib import Path
from typing import Any

from stages.shell.errors import InputError

FORMS = {"onnx": "onnx_file", "hub": "hub", "zip": "bundle", "torchvision": "plain"}


def add_parser(subparsers: Any) -> None:
    """Register the command."""
    parser = subparsers.add_parser(
        "export",
        help="write a study's network as ONNX, for Hugging Face's hub, as one zip, or for torchvision",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("form", metavar="FORM", choices=FORMS, help=", ".join(FORMS))
    parser.add_argument("out", metavar="OUT", type=Path, help="name of a new file, or of a new folder for the hub")
    parser.add_argument("--study", type=Path, default=Path(), help="folder of the study whose network is written")
    parser.add_argument("--fold", metavar="N", help="fold of a cross-validation whose network is written")
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write it whole or not at all, and say what was written."""
    if args.out.exists() or args.out.is_symlink():
        raise InputError(f"{args.out} is there already: remove it, or name another")
    form = importlib.import_module(f"commands.export.{FORMS[args.form]}")
    form.check()
    from commands.predict import predictor

    fold = _fold(list(predictor.read(args.study)), args.fold)
    # torch takes seconds to load: not before all else is right
    from commands.predict.model import load

    print("\n".join(form.write(load(args.study, "cpu", fold=fold), args.out)))
    return 0


def _fold(folders: list[str], asked: str | None) -> str:
    """Return the folder of the fold that is meant; InputError where that is not clear."""
    numbers = {folder.rpartition("/")[2]: folder for folder in folders if folder}
    if not numbers and asked is None:
        return folders[0]
    if not numbers:
        raise InputError(f"--fold {asked}: this study has one network: leave --fold out")
    if asked not in numbers:
        found = "this study is a cross-validation" if asked is None else f"no fold {asked} in this study"
        raise InputError(f"export: {found}: say which network with --fold N, N being one of {', '.join(numbers)}")
    return numbers[asked]
