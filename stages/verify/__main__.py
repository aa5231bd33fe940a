"""Read params.yaml and data/raw/; write the manifest, the pairs, the descriptors and metrics/integrity.csv."""

from pathlib import Path

import pandas as pd

from stages import runtime
from stages.files import replacing, write_csv, write_figures
from stages.params import load
from stages.shell.running import run
from stages.verify.schema import Params
from stages.verify.study import examine_study


def main() -> None:
    """Run the stage in the current folder."""
    params = load(Params)
    found = examine_study(Path("data/raw"), params, runtime.workers())
    write_csv("data/manifest.csv", found.manifest)
    write_csv("data/pairs.csv", pd.concat([found.pairs, found.neighbours]))
    with replacing("data/descriptors.npy") as part, part.open("wb") as handle:
        found.save_descriptors(handle)
    write_figures("metrics/integrity.csv", found.integrity)


if __name__ == "__main__":
    run("verify", main)
