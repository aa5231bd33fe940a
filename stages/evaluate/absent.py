"""Which classes have no image in a group of test images: its accuracy is then over the other classes alone."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any


def absent(found: dict[str, Any], classes: Iterable[str]) -> list[str]:
    """Return the classes without an image, given a group's scores: those whose sensitivity is not defined.

    None of them where the group has no image at all, or its scores tell nothing of classes.
    """
    return [name for name in classes if name not in found["sensitivity"]] if found.get("sensitivity") else []


def without(names: Sequence[str]) -> str:
    """Return what stands beside a number that is not of these classes; nothing where there are none.

    Examples
    --------
    >>> without(["glioma", "notumor"]), without(["notumor"]), without([])
    ('no glioma or notumor among them', 'no notumor among them', '')
    """
    *most, last = names or [""]
    return f"no {', '.join(most)}{' or ' if most else ''}{last} among them" if names else ""


def counted(found: dict[str, Any], classes: Iterable[str]) -> str:
    """Return how many images a group has, and which classes none of them is of.

    Examples
    --------
    >>> counted({"n": 1313, "sensitivity": {"glioma": 0.9}}, ["glioma", "notumor"])
    'n = 1,313, no notumor among them'
    """
    return ", ".join(filter(None, [f"n = {found['n']:,}", without(absent(found, classes))]))
