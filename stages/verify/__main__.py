"""From data/raw/ and data/patients.csv to the manifest, the pairs, the descriptors and metrics/integrity.csv."""

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
    found = examine_study(Path("data/raw"), params, runtime.workers(), read_patients())
    write_csv("data/manifest.csv", found.manifest)
    write_csv("data/pairs.csv", pd.concat([found.pairs, found.neighbours]))
    with replacing("data/descriptors.npy") as part, part.open("wb") as handle:
        found.save_descriptors(handle)
    write_figures("metrics/integrity.csv", found.integrity)


def read_patients() -> dict[str, str]:
    """Return {path: patient} of the files whose patient is known."""
    table = pd.read_csv("data/patients.csv", keep_default_na=False, dtype=str)
    return dict(zip(table["path"], table["patient"], strict=True))


if __name__ == "__main__":
    run("verify", main)
