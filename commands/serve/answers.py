"""What the page is told: an object for each picture, the study, and pictures. Values in, values and bytes out."""

from __future__ import annotations

import base64
import io
from typing import Any

import numpy as np
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image

from commands.predict.inputs import Picture, Unreadable
from commands.predict.model import Prediction
from commands.predict.output import Csv, remarks
from commands.serve.series import Place
from stages.report.gradcam import LEVELS, SIDE, png

WORDS = {"notumor": "no tumour", "pituitary": "pituitary tumour"}  # what a class is called, where not by its name


def words(name: str) -> str:
    """Return what a class is called.

    Examples
    --------
    >>> words("notumor"), words("low_grade glioma")
    ('no tumour', 'low grade glioma')
    """
    return WORDS.get(name, name.replace("_", " ").strip() or name)


def unreadable(found: Unreadable) -> dict[str, Any]:
    """Return what is told of a file that gives no picture."""
    return {"path": found.path, "reason": found.reason}


def answer(found: Prediction, picture: Picture, where: Place) -> dict[str, Any]:
    """Return what is told of a picture: the prediction, its row of the table, and how it looks."""
    return found._asdict() | {
        "probabilities": list(found.probabilities.values()),
        "remarks": remarks(found),
        "row": row(found),
        "empty": not found.nearest,
        "place": where._asdict(),
        "shown": base64.b64encode(picture.shown).decode(),
        "seen": base64.b64encode(picture.image.tobytes()).decode(),
    }


def row(found: Prediction) -> str:
    """Return the line of a picture in `brainmri predict --csv`."""
    return _csv(list(found.probabilities), found)[1]


def heading(classes: list[str]) -> str:
    """Return the first line of that table."""
    return _csv(classes)[0]


def _csv(classes: list[str], found: Prediction | None = None) -> tuple[str, str]:
    to = io.StringIO()
    table = Csv(classes, to)
    end = to.tell()
    if found:
        table.add(found)
    return to.getvalue()[:end], to.getvalue()[end:]


def heat_png(heat: NDArray[np.float32]) -> bytes:
    """Return heat [S, S] in 0..1 as a PNG to be laid over a picture: the hotter, the less transparent.

    Laid over with the strength of the report's pictures, it gives what they show.
    """
    coarse = Image.fromarray(np.rint(heat * LEVELS).astype(np.uint8) * (255 // LEVELS))
    level = np.asarray(coarse.resize((SIDE, SIDE), Image.Resampling.BILINEAR))
    colour = np.rint(colormaps["inferno"](np.arange(256))[:, :3] * 255).astype(np.uint8)[level]
    return png(np.dstack([colour, level]))
