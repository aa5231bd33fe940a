"""Progress on the console, and lines that do not break it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from tqdm import tqdm


def progress_bar(items: Iterable[Any] | None = None, **options: Any) -> tqdm[Any]:
    """Return a bar over `items`, or one moved by `update`; gone when done, and none where no terminal is."""
    return tqdm(items, **({"leave": False, "disable": None} | options))


def say(line: str) -> None:
    """Print a line above the bar."""
    tqdm.write(line)
