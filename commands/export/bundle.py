"""One zip with what `brainmri predict` reads of a study, and nothing else: no image, no path of this machine."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pandas as pd

from commands.predict.bundle import DESCRIPTORS, INDEX, MANIFEST, PREDICTOR, WEIGHTS
from commands.predict.model import Model, digests
from stages.evaluate import likeness
from stages.files import replacing

OLDEST = (1980, 1, 1, 0, 0, 0)  # a zip has a date for each member: one that is the same everywhere


def check() -> None:
    """Nothing is needed beside what the pipeline has."""


def write(model: Model, out: Path) -> list[str]:
    """Write the zip; what it holds, and what it cannot do."""
    (fold,), (_, known) = model.folds, model.networks.each[0]
    weights = (model.study / f"models{fold}" / Path(WEIGHTS).name).read_bytes()
    about = json.dumps(known.model_dump(mode="json", exclude_defaults=True), indent=2, sort_keys=True) + "\n"
    members = {WEIGHTS: weights, PREDICTOR: about.encode()} | _tables(model)
    with replacing(out) as part, zipfile.ZipFile(part, "w") as file:
        for name, data in sorted(members.items()):
            file.writestr(zipfile.ZipInfo(name, OLDEST), data)  # stored: weights do not get smaller
    return [
        f"{out}: {out.stat().st_size / 1e6:.0f} MB; names, hashes and descriptors of {len(model.training)} training "
        "images, no image",
        f"brainmri predict --model {out} IMAGE    # copies of training images are told by descriptors alone",
    ]


def _tables(model: Model) -> dict[str, bytes]:
    """Return the study's tables, cut to the training images and to the columns that are read."""
    data = model.study / "data"
    known = digests(data).set_index("path").loc[model.training].reset_index()
    described = io.BytesIO()
    np.save(described, likeness.descriptors(data)(model.training))
    return {
        INDEX: _csv(pd.DataFrame({"array": "train", "path": model.training})),
        MANIFEST: _csv(known if (known["frame"] != "").any() else known.drop(columns="frame")),
        DESCRIPTORS: described.getvalue(),
    }


def _csv(table: pd.DataFrame) -> bytes:
    return table.to_csv(index=False, lineterminator="\n").encode()
