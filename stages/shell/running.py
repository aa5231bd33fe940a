"""What is done around each stage's work: warnings, errors as one line, the log."""

from __future__ import annotations

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
    except InputError as error:
        sys.exit(f"{stage}: {error}")
    except OSError as error:
        line = os_error(error)
        if line is None:
            raise
        sys.exit(f"{stage}: {line}")
    except KeyboardInterrupt:
        sys.exit(130)


def _refuse_other_versions(study: Path) -> None:
    """Raise an InputError where DVC would write down other versions than those that the code is locked to."""
    for name, versions in provenance.behind(study, provenance.LOCK).items():
        raise InputError(
            f"versions.yaml is not as requirements.lock ({name} {versions}): run `brainmri versions`, then again"
        )
