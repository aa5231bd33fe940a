"""Ending a command early: so that what it made for itself goes, and what it started ends with it."""

from __future__ import annotations

import signal
from types import FrameType

ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def unwind_when_ended() -> None:
    """Let Ctrl-C, `kill` and a closed terminal unwind, so that the temporary folders go, and DVC with them."""
    for each in ENDING:
        if signal.getsignal(each) != signal.SIG_IGN:  # `nohup` stays in force
            signal.signal(each, _ended)


def _ended(signum: int, frame: FrameType | None) -> None:
    for each in ENDING:  # a closed terminal may tell twice, which must not cut the removing short
        signal.signal(each, signal.SIG_IGN)
    raise KeyboardInterrupt
