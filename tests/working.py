"""What worker processes run in tests; apart, so that they start without importing torch."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from typing import Any

from stages.shell.errors import InputError


def square_of(number: int) -> int:
    time.sleep(0.002 * (number % 3))  # so that later ones end before earlier ones
    if number == 99:
        raise InputError("99 is no number")
    return number * number


def own_pid(_: int) -> int:
    time.sleep(0.01)
    return os.getpid()


def slowly(number: int) -> tuple[int, int]:
    time.sleep(0.3)
    return number * number, os.getpid()


def once_fatal(marker: str) -> str:
    """End this process, as a lack of memory would, where a file does not say that it was done before."""
    from pathlib import Path

    if marker and not Path(marker).exists():
        Path(marker).touch()
        os._exit(9)
    return marker


def always_fatal(_: int) -> None:
    os._exit(9)


def pins(_: int) -> dict[str, str | None]:
    import numpy  # noqa: F401

    import stages

    return {name: os.environ.get(name) for name in stages.PINS} | {"folder": os.getcwd()}  # noqa: PTH109


class Asked(list[int]):
    """Numbers that remember which of them were asked for."""

    def __init__(self, count: int) -> None:
        super().__init__(range(count))
        self.asked: list[int] = []

    def __iter__(self) -> Iterator[int]:
        for item in super().__iter__():
            self.asked.append(item)
            yield item


def named_or_fatal(chunk: list[Any]) -> list[list[Any]]:
    """Say that files were read; end this process, as a crash in a decoder would, where one is called so."""
    from commands.predict.inputs import Unreadable

    if any("fatal" in file.path.name for file in chunk):
        os._exit(9)
    return [[Unreadable(str(file.path), "read")] for file in chunk]
