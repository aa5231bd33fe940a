"""models/predictor.json: what `brainmri predict` must know beside the weights to treat a new image as a test image."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd

from stages.evaluate import likeness
from stages.evaluate.schema import Params
from stages.files import sha256_file
from stages.verify.schema import Volumes


def predictor(
    chosen: Params, index: pd.DataFrame, temperature: float, weights: Path, data: Path = Path("data")
) -> dict[str, Any]:
    """Return preparation, batch, calibration, and when an image is unlike the training images or a copy of one.

    `index` is data/prepared/index.csv. The hash names the weights that all this belongs to.
    """
    described = likeness.descriptors(data)
    train, val = (described(index.loc[index["array"] == array, "path"]) for array in ("train", "val"))
    volumes = chosen.verify.volumes
    return {
        "weights_sha256": sha256_file(weights),
        "prepare": chosen.prepare.model_dump(mode="json"),
        "threads": chosen.threads,
        "isa": chosen.isa,
        "batch_size": chosen.evaluate.batch_size,
        "mirror": chosen.evaluate.mirror,
        "temperature": temperature,
        "lowest_likeness": likeness.lowest_usual(val, likeness.store(train)),
        "twins": chosen.verify.twins.model_dump(mode="json"),
    } | ({} if volumes == Volumes() else {"volumes": volumes.model_dump(mode="json")})
