"""What people do to pictures beyond re-encoding them: turned a little, cropped, written on, other tones."""

from __future__ import annotations

import random
from collections.abc import Callable

import numpy as np
from copying import encoded, phantom
from matplotlib import colormaps
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont, ImageOps

from stages.prepare import image
from stages.verify.describe import otsu

Grey = NDArray[np.uint8]
LETTERS = "ABCDEFGHKLMNPRSTUVXYZ0123456789 .-/"


def head_box(grey: Grey) -> tuple[float, float, float, float]:
    """Return the box of the lines of which a seventh is brighter than Otsu's threshold.

    Where a tumour is far brighter than the rest, that is the tumour, and what is left of the head's box a part of it.
    """
    head = grey > otsu(np.bincount(grey.ravel(), minlength=256))
    rows, columns = (np.nonzero(head.mean(axis=axis) > 0.15)[0] for axis in (1, 0))
    return float(columns[0]), float(rows[0]), float(columns[-1] + 1), float(rows[-1] + 1)


def outline(grey: Grey) -> tuple[float, float, float, float]:
    """Return the box of all that is head, as `prepare` cuts it."""
    rows, columns = image.head_box(grey, 0.1)
    return columns.start or 0, rows.start or 0, columns.stop or grey.shape[1], rows.stop or grey.shape[0]


def turned(grey: Grey, degrees: float) -> Grey:
    return np.asarray(Image.fromarray(grey).rotate(degrees, Image.Resampling.BICUBIC))


def cropped(grey: Grey, box: tuple[float, float, float, float], left: float, top: float, right: float, bottom: float):
    """Cut such shares off the sides of a box."""
    width, height = box[2] - box[0], box[3] - box[1]
    x0, x1 = round(box[0] + left * width), round(box[2] - right * width)
    y0, y1 = round(box[1] + top * height), round(box[3] - bottom * height)
    return grey[y0:y1, x0:x1]


def neck_cropped(grey: Grey, share: float) -> Grey:
    """Cut off so much of the head from below, and nothing beside it."""
    _, top, _, bottom = head_box(grey)
    return cropped(grey, (0, top, grey.shape[1], bottom), 0, 0, 0, share)


def whole(grey: Grey) -> tuple[float, float, float, float]:
    return 0, 0, grey.shape[1], grey.shape[0]


def written(grey: Grey, at: tuple[float, float], text: str, share: float, level: int) -> Grey:
    """Write text that begins at a place given as shares of the sides, its height a share of the picture's."""
    image = Image.fromarray(grey)
    font = ImageFont.load_default(max(8, round(share * grey.shape[0])))
    ImageDraw.Draw(image).text((at[0] * grey.shape[1], at[1] * grey.shape[0]), text, fill=level, font=font)
    return np.asarray(image)


def text(draw: random.Random, count: int) -> str:
    return "".join(draw.choice(LETTERS) for _ in range(count))


def captioned(grey: Grey, draw: random.Random, paper: int, ink: int) -> Grey:
    strip = round(0.1 * grey.shape[0])
    taller = np.pad(grey, [(0, strip), (0, 0)], constant_values=paper)
    at = grey.shape[0] / taller.shape[0] + 0.02
    return written(taller, (draw.uniform(0.02, 0.3), at), text(draw, 24), 0.05, ink)


def barred(grey: Grey, draw: random.Random) -> Grey:
    """Add a strip at the right with a scale bar and its ticks."""
    height, width = grey.shape
    strip = max(8, round(0.1 * width))
    wider = np.pad(grey, [(0, 0), (0, strip)])
    top, bottom = round(draw.uniform(0.2, 0.35) * height), round(draw.uniform(0.65, 0.8) * height)
    thick, at = max(1, strip // 12), width + strip // 3
    wider[top:bottom, at : at + thick] = 255
    for tick in np.linspace(top, bottom - thick, 11).astype(int):
        wider[tick : tick + thick, at : at + strip // 3] = 255
    return wider


def corner_text(grey: Grey, draw: random.Random) -> Grey:
    at = draw.choice([(0.02, 0.02), (0.5, 0.02), (0.02, 0.93), (0.5, 0.93)])
    return written(grey, at, text(draw, 14), 0.05, 255)


def watermarked(grey: Grey, draw: random.Random) -> Grey:
    """Lay a text over the whole picture, again and again, a third of the way to white."""
    height, width = grey.shape
    sheet = Image.new("L", (width, height))
    pen, font, word = ImageDraw.Draw(sheet), ImageFont.load_default(max(8, height // 16)), text(draw, 10)
    for row, y in enumerate(range(0, height, max(10, height // 6))):
        for x in range(-(row % 2) * width // 5, width, max(20, round(width / 2.5))):
            pen.text((x, y), word, fill=255, font=font)
    share = np.asarray(sheet) / 255 * 0.35
    return np.asarray(np.rint(grey * (1 - share) + 255 * share), np.uint8)


def jet(grey: Grey) -> NDArray[np.uint8]:
    """Return its false colours, uint8 [H, W, 3]."""
    return (colormaps["jet"](grey)[..., :3] * 255 + 0.5).astype(np.uint8)


def beside_another(grey: Grey, draw: random.Random) -> Grey:
    """Put another head, a phantom of the same height, at the left or at the right."""
    other = Image.fromarray(phantom(8101, draw.randrange(64)))
    other = other.resize((max(1, round(other.width * grey.shape[0] / other.height)), grey.shape[0]))
    both = [grey, np.asarray(other)]
    return np.concatenate(both if draw.random() < 0.5 else both[::-1], axis=1)


Change = Callable[[Grey, random.Random], NDArray[np.uint8]]  # grey [H, W], or colours [H, W, 3]
CHANGES: dict[str, Change] = {
    **{f"turned_{d}": lambda a, r, d=d: turned(a, r.choice((-d, d))) for d in (1, 2, 3, 5, 10)},
    **{f"head_cropped_{c}": lambda a, r, c=c / 100: cropped(a, head_box(a), c, c, c, c) for c in (2, 5, 10)},
    **{f"outline_cropped_{c}": lambda a, r, c=c / 100: cropped(a, outline(a), c, c, c, c) for c in (2, 5, 10)},
    **{f"all_cropped_{c}": lambda a, r, c=c / 100: cropped(a, whole(a), c, c, c, c) for c in (5, 10)},
    **{f"bottom_cropped_{c}": lambda a, r, c=c / 100: cropped(a, whole(a), 0, 0, 0, c) for c in (10, 20)},
    **{f"neck_cropped_{c}": lambda a, r, c=c / 100: neck_cropped(a, c) for c in (20, 30)},
    "caption": lambda a, r: captioned(a, r, 0, 255),
    "caption_on_white": lambda a, r: captioned(a, r, 255, 0),
    "scale_bar": barred,
    "corner_text": corner_text,
    "watermark": watermarked,
    "equalised": lambda a, r: np.asarray(ImageOps.equalize(Image.fromarray(a))),
    "negative": lambda a, r: 255 - a,
    "jet": lambda a, r: jet(a),
    "beside_another": beside_another,
    "jet_as_grey": lambda a, r: np.asarray(Image.fromarray(jet(a)).convert("L")),
}


def changed(grey: Grey, name: str, seed: str, quality: int = 90) -> bytes:
    """Return a JPEG of the picture after one of CHANGES."""
    return encoded(CHANGES[name](np.ascontiguousarray(grey), random.Random(f"{name} {seed}")), "JPEG", quality=quality)
