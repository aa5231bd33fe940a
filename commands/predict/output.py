"""How predictions are printed: lines for people as they come, a CSV table, or one JSON object."""

from __future__ import annotations

import csv
import json
from typing import IO, Any, Literal, Protocol

from commands.predict.inputs import Unreadable
from commands.predict.model import Prediction

NOTICE = "Not a medical device: these are outputs of a study of method and may not be used to treat anyone."

Form = Literal["text", "csv", "json"]


class Writer(Protocol):
    """Takes predictions one by one."""

    def add(self, found: Prediction | Unreadable) -> None:
        """Take one."""

    def close(self) -> None:
        """Write what is left."""


def writer(form: Form, classes: list[str], to: IO[str]) -> Writer:
    """Return what writes predictions in a form."""
    kinds: dict[Form, type[Text | Csv | Json]] = {"text": Text, "csv": Csv, "json": Json}
    return kinds[form](classes, to)


class Text:
    """One line a picture, under a heading; nothing where there is no picture."""

    def __init__(self, classes: list[str], to: IO[str]) -> None:
        """Write nothing yet."""
        self.to, self.width, self.headed = to, max(len("predicted"), *map(len, classes)), False

    def add(self, found: Prediction | Unreadable) -> None:
        """Write one line; unreadable files are told elsewhere."""
        if isinstance(found, Unreadable):
            return
        if not self.headed:
            self.headed = True
            print(f"{'predicted':{self.width}}  probability  image", file=self.to)
        name = found.path if found.frame is None else f"{found.path}, frame {found.frame}"
        probability = f"{found.probabilities[found.predicted]:.4f}"
        line = f"{found.predicted:{self.width}}  {probability:>11}  {name}"
        print(printable(line + "".join(f"  [{each}]" for each in remarks(found))), file=self.to, flush=True)

    def close(self) -> None:
        """All is written."""


class Csv:
    """The columns of data/predictions.csv that are known of any image, and the hints."""

    def __init__(self, classes: list[str], to: IO[str]) -> None:
        """Write the heading."""
        self.to = to
        hints = ["nearest", "likeness", "unlike", "copy_of", "copy_kind"]
        self._write(["path", "frame", "predicted", *(f"p_{name}" for name in classes), *hints])

    def add(self, found: Prediction | Unreadable) -> None:
        """Write one row; unreadable files have none."""
        if isinstance(found, Prediction):
            hints = [found.nearest, found.likeness, int(found.unlike), found.copy_of, found.copy_kind]
            self._write([found.path, found.frame, found.predicted, *found.probabilities.values(), *hints])

    def _write(self, row: list[Any]) -> None:
        # a carriage return, which is not our end of a line, would stand unquoted; readers take it for one
        odd = any("\r" in str(cell) for cell in row)
        csv.writer(self.to, lineterminator="\n", quoting=csv.QUOTE_ALL if odd else csv.QUOTE_MINIMAL).writerow(row)

    def close(self) -> None:
        """All is written."""


class Json:
    """One object: images, unreadable files, and what this may not be used for."""

    def __init__(self, classes: list[str], to: IO[str]) -> None:
        """Write nothing yet."""
        self.to = to
        self.found: dict[str, Any] = {"classes": classes, "images": [], "unreadable": []}

    def add(self, found: Prediction | Unreadable) -> None:
        """Keep one."""
        self.found["images" if isinstance(found, Prediction) else "unreadable"].append(found._asdict())

    def close(self) -> None:
        """Write the object."""
        print(json.dumps(self.found | {"notice": NOTICE}, indent=2), file=self.to)


def printable(line: str) -> str:
    """Return a line with whatever in it would move the cursor, colour the console or hide written out."""
    return "".join(each if each.isprintable() else each.encode("unicode_escape").decode() for each in line)


def remarks(found: Prediction) -> list[str]:
    """Return what a person should know before believing a prediction."""
    said = []
    if found.unlike:
        said.append(f"unlike the training images: {found.likeness:.2f} at most")
    if found.copy_of:
        kind = {"byte": "same file as", "copy": "copy of", "mirrored": "mirror image of", "rotated": "turned copy of"}
        kind["alike"] = "by descriptors alone a copy of"
        said.append(f"{kind[found.copy_kind]} {found.copy_of}, which it was trained on")
    return said
