"""Phantoms, and everything that is done to pictures before they are published twice. For the tests of the audit."""

from __future__ import annotations

import io
import random
from functools import cache

import numpy as np
from PIL import Image

from stages.fetch.phantom.picture import CLASSES, picture
from stages.fetch.phantom.schema import Copies, PhantomParams
from stages.verify.schema import Params, Twins, VerifyParams

PHANTOMS = PhantomParams(
    train_per_class=1,
    test_per_class=1,
    min_side=160,
    max_side=260,
    visibility=1.0,
    noise=0.06,
    copies=Copies(byte=0, recoded=0, contrast=0, mirrored=0),
    slices_per_head=1,
)
TWINS = Twins(
    neighbours=8,
    candidate=0.7,
    framed_neighbours=12,
    framed=0.35,
    similarity=0.84,
    neighbour=0.6,
    block=0.6,
    lines=0.9,
    exact_up_to=50000,
)
VERIFY = VerifyParams(max_quarantined=0, max_pixels=10**7, twins=TWINS)
TURNS = {
    "mirrored": (lambda a: a[:, ::-1],),
    "rotated": (
        lambda a: a[::-1],
        lambda a: a[::-1, ::-1],
        lambda a: a.T,
        lambda a: a.T[:, ::-1],
        lambda a: a.T[::-1],
        lambda a: a.T[::-1, ::-1],
    ),
}


def params(classes=("a", "b"), **changes):
    return Params(isa="avx2", classes=list(classes), verify=VERIFY.model_copy(update=changes))


@cache
def phantom(seed, number):
    return picture(seed, False, CLASSES[number % 4], number, PHANTOMS)


def jpeg(grey, quality):
    return np.asarray(Image.open(io.BytesIO(encoded(grey, "JPEG", quality=quality))))


def encoded(grey, kind="PNG", **options):
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(grey)).save(file, kind, **options)
    return file.getvalue()


def scaled(grey, factor):
    size = max(1, round(grey.shape[1] * factor)), max(1, round(grey.shape[0] * factor))
    return np.asarray(Image.fromarray(np.ascontiguousarray(grey)).resize(size, Image.Resampling.BICUBIC))


def toned(grey, gamma=1.0, gain=1.0, contrast=1.0):
    level = 255 * (grey / 255.0) ** gamma * gain
    return np.clip((level - level.mean()) * contrast + level.mean() + 0.5, 0, 255).astype(np.uint8)


def framed(grey, draw, level):
    height, width = grey.shape
    margins = [(int(draw.uniform(0, 0.2) * side), int(draw.uniform(0, 0.2) * side)) for side in (height, width)]
    return np.pad(grey, margins, constant_values=level)


# name -> (what is done, given a picture and a random.Random; which kind the audit must call it)
WAYS = {
    "jpeg_30": (lambda a, r: jpeg(a, 30), "copy"),
    "jpeg_any": (lambda a, r: jpeg(a, r.randint(30, 95)), "copy"),
    "scale_0.4": (lambda a, r: scaled(a, 0.4), "copy"),
    "scale_2": (lambda a, r: scaled(a, 2), "copy"),
    "gamma_0.6": (lambda a, r: toned(a, gamma=0.6), "copy"),
    "gamma_1.6": (lambda a, r: toned(a, gamma=1.6), "copy"),
    "brightness": (lambda a, r: toned(a, gain=r.uniform(0.6, 1.6)), "copy"),
    "contrast": (lambda a, r: toned(a, contrast=r.uniform(0.6, 1.6)), "copy"),
    "black_border": (lambda a, r: framed(a, r, 0), "copy"),
    "grey_border": (lambda a, r: framed(a, r, r.choice([90, 160, 255])), "copy"),
    "mirrored": (lambda a, r: TURNS["mirrored"][0](a), "mirrored"),
    "mirrored_jpeg": (lambda a, r: jpeg(a[:, ::-1], 50), "mirrored"),
    "turned": (lambda a, r: r.choice(TURNS["rotated"])(a), "rotated"),
    "all_at_once": (
        lambda a, r: jpeg(
            scaled(framed(toned(r.choice(TURNS["rotated"])(a), r.uniform(0.7, 1.4)), r, 0), r.uniform(0.6, 1.5)),
            r.randint(50, 90),
        ),
        "rotated",
    ),
}


def derived(grey, way, seed):
    """Return the picture after one of WAYS."""
    return np.ascontiguousarray(WAYS[way][0](grey, random.Random(f"{way} {seed}")))
