"""`brainmri`: one entry point, one file a command."""

from __future__ import annotations

import argparse
import importlib
import sys

from stages import runtime
from stages.files import InputError

COMMANDS = ["show", "predict", "compare", "replay", "record", "new_study", "readme"]


def main(argv: list[str] | None = None) -> int:
    """Run a command and return its exit status; a person's mistake is one line."""
    parser = argparse.ArgumentParser("brainmri", description="What people run beside `dvc repro`.")
    subparsers = parser.add_subparsers(required=True, metavar="COMMAND")
    for name in COMMANDS:
        importlib.import_module(f"commands.{name}").add_parser(subparsers)
    args = parser.parse_args(argv)
    try:
        return int(args.run(args))
    except InputError as error:
        print(f"brainmri: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:
        return 141
    except OSError as error:
        line = runtime.os_error(error)
        if line is None:
            raise
        print(f"brainmri: {line}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main())
