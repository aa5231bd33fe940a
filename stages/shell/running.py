"""What is done around each stage's work: warnings, errors as one line, the log."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path

from stages.shell import provenance
from stages.shell.errors import InputError, os_error


def run(stage: str, main: Callable[[], None], key: str | None = None) -> None:
    """Run a stage's `main` and log who made which bits (see `provenance`).

    `key` is that of a stage which DVC runs for several things, as `stage@key`.
    Ends with one line and exit status 1 where a person's input or the disk is at fault.
    """
    begun = time.perf_counter()
    for name, versions in provenance.other_versions(provenance.LOCK).items():
        print(f"{stage}: {name} is not as in requirements.lock ({versions}): bits may differ", file=sys.stderr)
    try:
        _refuse_other_versions(Path.cwd())
        main()
        provenance.log(stage if key is None else f"{stage}@{key}", time.perf_counter() - begun)
    except (InputError, OSError) as error:
        line = _line(error)
        if line is None:
            raise
        sys.exit(f"{stage}: {line}")
    except KeyboardInterrupt:
        sys.exit(130)


def work(main: Callable[[], None]) -> None:
    """Run what one of several processes does for a stage. The stage says the line where that fails; it logs, too.

    The line is handed over as torch's elastic agent takes it: in the file that TORCHELASTIC_ERROR_FILE names.
    """
    try:
        main()
    except (InputError, OSError) as error:
        line = _line(error)
        if line is None:
            raise
        told = {"message": line, "line": line, "timestamp": int(time.time())}
        if path := os.environ.get("TORCHELASTIC_ERROR_FILE"):
            Path(path).write_text(json.dumps(told))
        sys.exit(1)
    except KeyboardInterrupt:
        sys.exit(130)


def _line(error: InputError | OSError) -> str | None:
    """Return the line for a person; None where a traceback helps more."""
    return str(error) if isinstance(error, InputError) else os_error(error)


def _refuse_other_versions(study: Path) -> None:
    """Raise an InputError where DVC would write down other versions than those that the code is locked to."""
    for name, versions in provenance.behind(study, provenance.LOCK).items():
        raise InputError(
            f"versions.yaml is not as requirements.lock ({name} {versions}): run `brainmri versions`, then again"
        )
