"""Run as `python loading.py STAGE OUT AFTER MUTED...`: a stage without some packages, and what it loads beside them.

Muted packages are replaced by objects that take any call and do nothing. AFTER is code run behind the stage, to load
what only other settings need. OUT gets the paths of all modules' files and of all files mapped into memory.
"""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import re
import runpy
import sys
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock


class Mute(MagicMock):
    """Takes any call and does nothing; what is named as an exception, or asked for by `isinstance`, is a class."""

    def __getattr__(self, name: str) -> Any:
        if name.endswith(("Error", "Exception", "NoSCM")):
            return type(name, (Exception,), {})
        return super().__getattr__(name)


class Muted(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds muted packages, and any module in them."""

    def __init__(self, names: list[str]) -> None:
        self.names = names

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> importlib.machinery.ModuleSpec | None:
        return importlib.machinery.ModuleSpec(name, self, is_package=True) if name.split(".")[0] in self.names else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> Any:
        return Mute()

    def exec_module(self, module: Any) -> None:
        pass


def main(stage: str, out: str, after: str, *muted: str) -> None:
    begun = set(sys.modules)  # the interpreter's own, and what .pth files of its environment load into any program
    sys.meta_path.insert(0, Muted(list(muted)))
    import stages  # noqa: F401

    if stage == "train" and "dvc" in muted:  # dvclive finds no repository there: say so in DVC's stead
        import dvclive.live

        dvclive.live.get_dvc_repo = lambda: None
    sys.argv = [stage]
    runpy.run_module(f"stages.{stage}", run_name="__main__", alter_sys=True)
    exec(after)
    files = [getattr(module, "__file__", None) for name, module in list(sys.modules.items()) if name not in begun]
    mapped = re.findall(r"\s(/\S+)$", Path("/proc/self/maps").read_text(), re.MULTILINE)
    Path(out).write_text("\n".join(sorted({file for file in [*files, *mapped] if isinstance(file, str)})))


if __name__ == "__main__":
    main(*sys.argv[1:])
