"""What DICOM costs beside PNG: python bench/scan_speed.py [--slices 2000] [--runs 3]

The same pictures, 256 x 256, as uncompressed DICOM of 12 bits and as PNG, each through fetch, verify and prepare as
whole processes; the forms take turns. Seconds are of processor time with one worker, which others on the machine
disturb least; wall time stands beside them. Pictures are phantoms' slices, each of them shifted and dimmed into twenty.
Medians, with the least and the most; the test images' arrays must be equal. Writes bench/results/scan_speed.json.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]

import stages  # noqa: E402, F401, I001
import numpy as np  # noqa: E402
from PIL import Image  # noqa: E402

from conftest import set_params  # noqa: E402
from scans import CLASSES, PARAMS, dicom, put  # noqa: E402
from stages.fetch import tree  # noqa: E402
from stages.fetch.phantom.heads import slice_of  # noqa: E402
from stages.files import write_json  # noqa: E402
from stages.shell.provenance import cpu  # noqa: E402

SIDE, LIKE = 256, 20  # pixels; pictures made of one slice
STAGES = ("fetch", "verify", "prepare")


def write(folder: Path, slices: int) -> None:
    """Write the pictures below folder/dicom and folder/png."""
    kept: dict[str, np.ndarray] = {}
    for number in range(slices):
        label, split = CLASSES[number % 2], "Testing" if number % 5 == 0 else "Training"
        head, place = divmod(number // LIKE, PARAMS.slices_per_head)
        if number % LIKE < 2:
            drawn = Image.fromarray(slice_of(0, label, head, place, PARAMS).grey).resize((SIDE - 40, SIDE - 40))
            grey = np.zeros((SIDE, SIDE), np.uint8)
            grey[20:-20, 20:-20] = np.asarray(drawn)
            kept[label] = grey
        shown = np.roll(kept[label], number % LIKE, 1) // (1 + number % 3)
        name = f"{split}/{label}/{number:05d}"
        put(folder / f"dicom/{name}", dicom(shown, PatientID=f"{number // LIKE}", SeriesInstanceUID="1.2.3"))
        (folder / f"png/{name}.png").parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(shown).save(folder / f"png/{name}.png")


def study(folder: Path, form: str) -> Path:
    """Make the study's folder of one form."""
    made = folder / f"study-{form}"
    made.mkdir()
    (made / "params.yaml").write_bytes((ROOT / "params.yaml").read_bytes())
    scans = {"modalities": ["MR"], "localisers": False, "secondary": False, "files": None}
    changes = {"classes": CLASSES, "fetch.source": "archive", "fetch.archive.location": str(folder / form)}
    changes |= {"fetch.tree_digest": tree.tree_digest(folder / form), "fetch.scans": scans if form == "dicom" else None}
    set_params(made, **changes)
    return made


def timed(made: Path) -> dict[str, float]:
    """Run the three stages; return the processor seconds of each, of all, and the wall seconds of all."""
    found, begun = {}, time.perf_counter()
    for stage in STAGES:
        command = [sys.executable, "-m", f"stages.{stage}"]
        child = subprocess.Popen(
            command,
            cwd=made,
            env=os.environ | {"PYTHONPATH": str(ROOT), "BRAINMRI_WORKERS": "1"},
            stdout=subprocess.DEVNULL,
        )
        _, status, used = os.wait4(child.pid, 0)
        child.returncode = os.waitstatus_to_exitcode(status)
        if child.returncode:
            sys.exit(f"{stage} of {made} failed with {child.returncode}")
        found[stage] = used.ru_utime + used.ru_stime
    return found | {"all": sum(found.values()), "wall": time.perf_counter() - begun}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--slices", type=int, default=2000)
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    runs: dict[str, list[dict[str, float]]] = {"png": [], "dicom": []}
    with tempfile.TemporaryDirectory() as scratch:
        write(Path(scratch), args.slices)
        made = {form: study(Path(scratch), form) for form in runs}
        for _ in range(args.runs):
            for form, found in runs.items():
                found.append(timed(made[form]))
        arrays = [
            [(each / f"data/prepared/{name}.npy").read_bytes() for name in ("train", "test")] for each in made.values()
        ]
        sizes = [len(np.load(made["png"] / f"data/prepared/{name}.npy")) for name in ("train", "val", "test")]
    result = {"slices": args.slices, "side": SIDE, "runs": args.runs, "cpu": cpu(), "prepared": sum(sizes)}
    result["same_test_images"] = arrays[0][1] == arrays[1][1]
    for form, found in runs.items():
        result[form] = {key: round(statistics.median(each[key] for each in found), 2) for key in found[0]}
        result[form]["range"] = [round(end(each["all"] for each in found), 2) for end in (min, max)]
    ratios = [one["all"] / other["all"] for one, other in zip(runs["dicom"], runs["png"], strict=True)]
    result["ratio"] = round(statistics.median(ratios), 3)
    result["ratio_range"] = [round(min(ratios), 3), round(max(ratios), 3)]
    write_json(ROOT / "bench/results/scan_speed.json", result)
    print(result)


if __name__ == "__main__":
    main()
