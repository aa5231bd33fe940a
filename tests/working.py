"""What worker processes run in tests; apart, so that they start without importing torch."""

from __future__ import annotations

import os
import time

from stages.shell.errors import InputError


def square_of(number: int) -> int:
    time.sleep(0.002 * (number % 3))  # so that later ones end before earlier ones
    if number == 99:
        raise InputError("99 is no number")
    return number * number


def own_pid(_: int) -> int:
    time.sleep(0.01)
    return os.getpid()
