"""`brainmri`: one entry point, one file a command."""

from __future__ import annotations

import argparse
import importlib
import importlib.metadata
import sys
import traceback

from commands.isa import OtherIsa, start_again
from stages.shell.errors import InputError

COMMANDS = [
    "show",
    "predict",
    "serve",
    "export",
    "compare",
    "sweep",
    "replay",
    "adopt",
    "record",
    "new_study",
    "versions",
    "readme",
]


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit status; a person's mistake, or the disk's, is one line."""
    parser = argparse.ArgumentParser("brainmri", description="What people run beside `dvc repro`.")
    parser.add_argument("--version", action="version", version=f"brainmri {_version()}", help="print the version")
    parser.set_defaults(failed=1)  # the status of a failure, where a command has no other
    subparsers = parser.add_subparsers(metavar="COMMAND", dest="command")
    for name in COMMANDS:
        importlib.import_module(f"commands.{name}").add_parser(subparsers)
    args = parser.parse_args(argv)
    if args.command is None:
        parser.print_help()
        return 0
    try:
        return int(args.run(args))
    except OtherIsa as other:
        start_again(other)
    except BrokenPipeError:
        return 141
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        print(_said(error, args.command), file=sys.stderr)
        return int(args.failed)


def _version() -> str:
    """Return the version that pip knows; a clone may also run without having been installed."""
    try:
        return importlib.metadata.version("brainmri")
    except importlib.metadata.PackageNotFoundError:
        return "(not installed: run `make`)"


def _said(error: Exception, command: str) -> str:
    """Return the line for a person; the traceback where only that helps."""
    if isinstance(error, InputError):
        return f"brainmri: {error}"
    if isinstance(error, OSError) and error.strerror:
        where = f"{error.filename}: " if error.filename else ""
        return f"brainmri: {command}: {where}{error.strerror}; mend that and run it again"
    return traceback.format_exc()


if __name__ == "__main__":
    sys.exit(main())
