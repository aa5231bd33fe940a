"""Writes data/prepared/{train,val,test}.npy and index.csv, of several folds each in its folder.

Run as `python -m stages.prepare` in a study's folder.
"""

from pathlib import Path

import pandas as pd

from stages import params
from stages.files import atomic_folder, write_csv
from stages.prepare.arrays import write_arrays
from stages.prepare.schema import Params
from stages.prepare.split import assign
from stages.shell.running import run


def main() -> None:
    """Read the manifest, split, decode and resize, write the arrays and their index."""
    chosen = params.load(Params)
    manifest = pd.read_csv("data/manifest.csv", keep_default_na=False, dtype={"label": str, "patient": str})
    indexes = {
        part: assign(manifest, chosen.split, chosen.seed, chosen.classes, int(fold))
        for fold, part in chosen.split.folds.items()
    }
    with atomic_folder("data/prepared") as folder:
        for part, index in indexes.items():
            paths = {array: index.loc[index["array"] == array, "path"].tolist() for array in ("train", "val", "test")}
            write_arrays(Path(f"{folder}{part}"), paths, Path("data/raw"), chosen.image_size, chosen.prepare)
            write_csv(f"{folder}{part}/index.csv", index)


if __name__ == "__main__":
    run("prepare", main)
