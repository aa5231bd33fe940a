"""Writes models/MODEL_CARD.md. Run as `python -m stages.card` in a study's folder.

A stage of its own: an output that lies in Git, and is no metric and no plot, keeps DVC from giving its stage back from
the run-cache. This one takes a second; the page does not.
"""

import pandas as pd

from stages import params
from stages.card.card import PATH, card
from stages.card.schema import Params
from stages.fetch.tree import digest, files
from stages.files import atomic_write, read_figures, sha256_file
from stages.shell.running import run


def main() -> None:
    """Read scores and manifest; write the card."""
    manifest = pd.read_csv("data/manifest.csv", keep_default_na=False, dtype={"label": str})
    chosen = params.load(Params)
    weights = [f"models{part}/model.safetensors" for part in chosen.split.folds.values()]
    digests = {path: sha256_file(path) for path in weights}
    digests["all images (tree digest)"] = digest(files(manifest))
    atomic_write(PATH, card(read_figures("metrics/scores.csv"), manifest, chosen, digests))


if __name__ == "__main__":
    run("card", main)
