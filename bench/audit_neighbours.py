"""How many of the neighbours that the audit names are of one patient, and how many next slices it names.

    python bench/audit_neighbours.py FOLDER PATIENTS [--out bench/results/audit_neighbours.json]

FOLDER holds the public set's Training/<class>/* and Testing/<class>/*; PATIENTS is a CSV of path and patient.

The order of a patient's slices is lost. So the *next slice* of a picture is here, by definition, the picture of the
same patient and another group of copies whose descriptor is most like it, if its cosine reaches 0.75: what is below
is of another plane or several slices away. It counts as found where the audit names the two groups a pair of
neighbours.
Patients are also parted in halves by their name's hash. The threshold in use was read off all of them at once, so
neither half is unseen; choose the next one on the first alone.
"""

import stages  # isort: skip  # noqa: F401 - pins the instruction set before numpy loads

import argparse
import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from stages.files import write_json
from stages.params import load
from stages.runtime import workers
from stages.shell.provenance import cpu
from stages.verify.describe import UNIT
from stages.verify.schema import Params
from stages.verify.search import best_products, parts
from stages.verify.study import Examined, examine_study

ROOT = Path(__file__).parents[1]
NEXT = 0.75


def half(patient: str) -> int:
    return hashlib.sha256(patient.encode()).digest()[0] % 2


def pairs_named(found: Examined, patients: dict[str, str]) -> dict[str, Any]:
    near = found.neighbours
    one, two = (near[key].map(patients) for key in ("path", "twin"))
    known = one.notna() & two.notna()
    result: dict[str, Any] = {"pairs": len(near), "both_patients_known": int(known.sum())}
    for number, name in ((None, "all"), (0, "first half"), (1, "second half")):
        inside = known if number is None else known & (one.fillna("").map(half) == number)
        right = one[inside] == two[inside]
        result[name] = {
            "pairs": int(inside.sum()),
            "same_patient": int(right.sum()),
            "precision": round(right.mean(), 5),
        }
    return result


def next_slices(found: Examined, patients: dict[str, str]) -> dict[str, Any]:
    table = found.manifest.assign(patient=found.manifest.path.map(patients))
    firsts = table[table.patient.notna()].drop_duplicates("group")
    group = table.set_index("path").group
    named = {
        frozenset((group[one], group[two]))
        for one, two in zip(found.neighbours.path, found.neighbours.twin, strict=True)
    }
    counts = {0: [0, 0], 1: [0, 0]}
    for patient, slices in firsts.groupby("patient"):
        described = found.descriptors[slices.index]
        flat = described.reshape(-1, described.shape[-1])
        products = best_products(parts(flat), parts(flat)).reshape(len(slices), described.shape[1], len(slices), -1)
        cosine = products.max(axis=(1, 3)) / (4 * UNIT * UNIT)
        np.fill_diagonal(cosine, -1)
        numbers = slices.group.tolist()
        wanted = {
            frozenset((numbers[row], numbers[int(cosine[row].argmax())]))
            for row in range(len(numbers))
            if cosine[row].max() >= NEXT
        }
        counts[half(str(patient))][0] += len(wanted)
        counts[half(str(patient))][1] += len(wanted & named)
    return {
        name: {"next_slices": wanted, "found": hits, "recall": round(hits / max(wanted, 1), 4)}
        for name, (wanted, hits) in (
            ("all", [a + b for a, b in zip(*counts.values(), strict=True)]),
            ("first half", counts[0]),
            ("second half", counts[1]),
        )
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("patients", type=Path)
    parser.add_argument("--out", type=Path, default=ROOT / "bench/results/audit_neighbours.json")
    options = parser.parse_args()
    found = examine_study(options.folder, load(Params, ROOT / "studies/nickparvar/params.yaml"), workers())
    patients = pd.read_csv(options.patients, dtype=str).set_index("path").patient.to_dict()
    copies = found.pairs.assign(one=found.pairs.path.map(patients), two=found.pairs.twin.map(patients)).dropna()
    result = {
        "cpu": cpu(),
        "leaked": found.integrity["leaked"]["by_kind"],
        "test_images_with_a_neighbour_in_training": found.integrity["neighbours"],
        "copies": {"pairs_of_known_patients": len(copies), "of_two_patients": int((copies.one != copies.two).sum())},
        "neighbours": pairs_named(found, patients),
        "next_slices": next_slices(found, patients),
    }
    write_json(options.out, result)
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
