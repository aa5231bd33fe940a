"""Several slices of one head: the same anatomy, contrast and scanner; the tumour grows and shrinks along them."""

from __future__ import annotations

from stages.fetch.phantom import anatomy, contrast, tissue, tumour
from stages.fetch.phantom.draws import Between, Draws
from stages.fetch.phantom.picture import CLASSES, Picture, grid_of, painted, scan
from stages.fetch.phantom.schema import PhantomParams

HEAD = 5  # purpose of a key, beside those in study.py
OWN = 0.45  # how far a slice lies from its head towards its own; from 0.3 down the audit takes some for copies
DRIFT = 0.1  # of a tumour's centre from the middle slice to the last, head units, at most
OUTERMOST = 0.55  # of its radius: the tumour in the first and the last slice


def slice_of(seed: int, label: str, head: int, place: int, params: PhantomParams) -> Picture:
    """Return slice `place` (0 to params.slices_per_head - 1) of a head, a function of the arguments alone."""
    key, own = (seed, HEAD, CLASSES.index(label), head), place + 1
    fixed = Draws(*key, 0)
    plane = fixed.choice(anatomy.PLANES)
    level = anatomy.SELLAR[plane] if label == "pituitary" else fixed.choice(anatomy.LEVELS[plane])
    grid = grid_of(fixed, plane, params)
    levels = contrast.drawn(fixed, params.visibility)
    mass = None
    if label != "notumor":
        middle = anatomy.outlines(Draws(*key, 1), grid, plane, level)
        mass = _along(tumour.placed(Draws(*key, 2), grid, middle, label), Draws(*key, 2, 1), place, params)
        grid.push(mass.x, mass.y, mass.radius, 0.06)
    draws = Between((*key, 1), (*key, 1, own), OWN)
    outlines = anatomy.outlines(draws, grid, plane, level)
    brush = tissue.paint(draws, grid, outlines, levels)
    box = None
    if mass is not None:
        box = painted(Between((*key, 3), (*key, 3, own), OWN), brush, outlines, mass, label, levels)
    return Picture(scan(Between((*key, 4), (*key, 4, own), OWN), brush.image, params.noise), box)


def _along(mass: tumour.Mass, draws: Draws, place: int, params: PhantomParams) -> tumour.Mass:
    """Return the tumour as slice `place` cuts it: largest in the middle slice, and drifting."""
    off = (2 * place + 1) / params.slices_per_head - 1  # -1 to 1
    x, y = (mass_at + off * draws.uniform(-DRIFT, DRIFT) for mass_at in (mass.x, mass.y))
    return tumour.Mass(x, y, mass.radius * (1 - (1 - OUTERMOST) * off * off))
