"""How the names of classes are written in pictures: with the letters that the pictures' font has, and not too long."""

from __future__ import annotations

import unicodedata
from functools import cache

from matplotlib.font_manager import findfont, get_font

FONT = "DejaVu Sans"  # comes with matplotlib, so letters are the same everywhere; one of the machine's own would not be
LONGEST = 26  # letters; longer ones push the picture out of its frame


def drawn(classes: list[str]) -> list[str]:
    """Return for each class what stands for it in a picture: its name, or `class <its place, from 1>`.

    A name is cut in its middle where it is long. One whose letters the font lacks, or that cannot be told from another
    once cut, is a number.

    Examples
    --------
    >>> drawn(["glioma", "脑膜瘤"])
    ['glioma', 'class 2']
    """
    cut = [_cut(unicodedata.normalize("NFC", name)) for name in classes]
    return [
        text if _drawable(text) and cut.count(text) == 1 else _number(place, cut) for place, text in enumerate(cut, 1)
    ]


def told(classes: list[str]) -> str | None:
    """Return the line for people on which number stands for which class; None where there is no number.

    Examples
    --------
    >>> told(["glioma", "脑膜瘤"])
    "pictures write 'class 2' for '脑膜瘤': DejaVu Sans lacks its letters"
    """
    each = [
        f"{text!r} for {name!r}" + ("" if _drawable(name) else f": {FONT} lacks its letters")
        for text, name in zip(drawn(classes), classes, strict=True)
        if text != _cut(unicodedata.normalize("NFC", name))
    ]
    return f"pictures write {', '.join(each)}" if each else None


def _cut(name: str) -> str:
    if len(name) <= LONGEST:
        return name
    half = (LONGEST - 1) // 2
    return f"{name[:half].rstrip()}…{name[-half:].lstrip()}"


def _number(place: int, taken: list[str]) -> str:
    text = f"class {place}"
    while text in taken:
        text = f"({text})"
    return text


def _drawable(name: str) -> bool:
    """Whether the font has every letter; letters without a shape of their own would hide what a name is."""
    return all(letter.isprintable() and ord(letter) in _letters() for letter in unicodedata.normalize("NFC", name))


@cache
def _letters() -> frozenset[int]:
    return frozenset(get_font(findfont(FONT, fallback_to_default=False)).get_charmap())
