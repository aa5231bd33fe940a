"""`brainmri export FORM OUT`: a study's network in a form that others load.

onnx         one file, from grey slices to calibrated probabilities; held against torch by onnxruntime on test images
hub          a folder that Hugging Face's hub takes as it is: the card, safetensors, config.json
zip          one file with which `brainmri predict --model FILE` answers anywhere, without the study and its images
torchvision  weights that torchvision's own resnet50 loads strictly; prints the lines that do it

The same study gives the same bytes. Nothing is sent anywhere.
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
    parser.set_defaults(run=run)


def run(args: argparse.Namespace) -> int:
    """Write it whole or not at all, and say what was written."""
    if args.out.exists() or args.out.is_symlink():
        raise InputError(f"{args.out} is there already: remove it, or name another")
    form = importlib.import_module(f"commands.export.{FORMS[args.form]}")
    form.check()
    # torch takes seconds to load: not before all else is right
    from commands.predict.model import Model

    print("\n".join(form.write(Model(args.study, "cpu"), args.out)))
    return 0
