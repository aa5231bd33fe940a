"""What a file must say of itself, for whoever has nothing else of the study."""

from __future__ import annotations

from typing import Any

from commands.predict.model import Model


def about(model: Model) -> dict[str, Any]:
    """Return classes, preparation and calibration of a study's network, as JSON has them."""
    (fold,), (_, known) = model.folds, model.networks.each[0]
    return {
        "classes": model.classes,
        "image_size": model.meta.image_size,
        "channels": 1,
        "prepare": preparation(model),
        "rescale": 1 / 255,
        "mean": model.meta.mean,
        "std": model.meta.std,
        "mirror": known.mirror,
        "temperature": known.temperature,
        "weights_sha256": known.weights_sha256,
        **({"fold": fold.rpartition("/")[2]} if fold else {}),
        "not_for": "Not a medical device: may not be used to treat anyone.",
    }


def preparation(model: Model) -> dict[str, Any]:
    """Return how a grey picture of any size becomes the network's square; `stages/prepare/image.py` in words."""
    about = model.about.prepare
    bright = f"brighter than {about.crop_threshold} times the 99th percentile"
    return {
        "grey": "8 bits, luma of colours (ITU-R 601)",
        "crop": f"to the rows and columns of which over 2 % are {bright}" if about.crop else "none",
        "crop_threshold": about.crop_threshold if about.crop else None,
        "pad": "centred on black in a square of the longer side",
        "resize": "bilinear, antialiased, as Pillow does it",
    }
