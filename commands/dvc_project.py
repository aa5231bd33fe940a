"""A study as a DVC project of its own: then each plain `dvc` command means the study in which one stands."""

from __future__ import annotations

import shutil
from pathlib import Path

CONFIG = """\
[core]
    analytics = false
    check_update = false
[cache]
    dir = ../../../.dvc/cache
"""


def make(study: Path, root: Path) -> None:
    """Write what `dvc init --subdir` would into the folder of a study, `studies/NAME` once it is in its place.

    Its cache is the root's, so that studies share files; the plots' templates are copies of the root's.
    """
    (study / ".dvc").mkdir()
    (study / ".dvc/config").write_text(CONFIG)
    shutil.copy(root / ".dvc/.gitignore", study / ".dvc/.gitignore")
    shutil.copy(root / ".dvcignore", study / ".dvcignore")
    shutil.copytree(root / ".dvc/plots", study / ".dvc/plots")
