"""The instruction set of the study that a command is asked about, where that is not the folder in which one stands."""

from __future__ import annotations

import os
import sys
from typing import NoReturn

import stages
from stages.params import Isa
from stages.shell.errors import InputError


class OtherIsa(Exception):
    """A study's instruction set is not the one in force: libraries that have loaded it must load again."""

    def __init__(self, isa: Isa) -> None:
        super().__init__(isa)
        self.isa = isa


def refuse_other(isa: Isa) -> None:
    """Raise OtherIsa where another instruction set is in force; InputError where this CPU lacks it."""
    if not stages.has_isa(isa):
        raise InputError(f"the network was made with isa = {isa!r}, which this CPU lacks: ask it on one that has it")
    if isa != stages.ISA:
        raise OtherIsa(isa)


def start_again(other: OtherIsa) -> NoReturn:
    """Become the same command with that instruction set."""
    sys.stdout.flush()
    os.execve(sys.executable, sys.orig_argv, os.environ | {"BRAINMRI_ISA": other.isa})
