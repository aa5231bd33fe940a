"""How bright each tissue is: T1 with contrast medium, T2 and FLAIR, near enough for a radiologist to tell which."""

from __future__ import annotations

from dataclasses import dataclass, fields

from stages.fetch.phantom.draws import Draws


@dataclass(frozen=True)
class Contrast:
    """Levels of tissue, 0 (black) to about 1."""

    fluid: float  # cerebrospinal
    grey: float
    white: float
    fat: float  # scalp, orbit
    bone: float
    muscle: float
    vessel: float
    plexus: float  # choroid
    gland: float  # pituitary, healthy
    adenoma: float
    meningioma: float
    rim: float  # of a glioma
    necrosis: float
    oedema: float


T1 = Contrast(
    fluid=0.12, grey=0.36, white=0.48, fat=0.68, bone=0.06, muscle=0.36, vessel=0.74,
    plexus=0.62, gland=0.6, adenoma=0.8, meningioma=0.88, rim=0.95, necrosis=0.14, oedema=0.25,
)  # fmt: skip
T2 = Contrast(
    fluid=0.92, grey=0.5, white=0.34, fat=0.52, bone=0.06, muscle=0.24, vessel=0.05,
    plexus=0.7, gland=0.5, adenoma=0.76, meningioma=0.74, rim=0.42, necrosis=0.98, oedema=0.76,
)  # fmt: skip
FLAIR = Contrast(
    fluid=0.1, grey=0.46, white=0.38, fat=0.52, bone=0.06, muscle=0.32, vessel=0.12,
    plexus=0.36, gland=0.46, adenoma=0.76, meningioma=0.8, rim=0.72, necrosis=0.26, oedema=0.88,
)  # fmt: skip
SHARES = ((0.82, T1), (0.92, T2), (1.0, FLAIR))  # cumulative


def drawn(draws: Draws, visibility: float) -> Contrast:
    """Return one contrast with every tissue a little off, tumours drawn towards grey matter by `visibility` below 1."""
    place = draws.uniform(0, 1)
    base = next(contrast for share, contrast in SHARES if place < share)
    levels = {field.name: getattr(base, field.name) * draws.uniform(0.9, 1.1) for field in fields(base)}
    for name in ("adenoma", "meningioma", "rim", "necrosis", "oedema"):
        levels[name] = levels["grey"] + visibility * (levels[name] - levels["grey"])
    return Contrast(**levels)
