"""Synthetic MR slices of heads with and without a tumour, and planted copies whose truth only tests can ask for.

`write` draws a study's files; `plan` tells what each of them is. Read study.py first, then picture.py.
"""

from stages.fetch.phantom.schema import PhantomParams
from stages.fetch.phantom.study import Planned, drawn, plan, tumour_box, write

__all__ = ["PhantomParams", "Planned", "drawn", "plan", "tumour_box", "write"]
