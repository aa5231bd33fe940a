"""Re-encode a whole dataset (JPEG 70, 224 x 224, every other file mirrored) and see whether the audit finds each pair.

    python bench/audit_reencoded.py FOLDER [--out bench/results/audit_reencoded.json]

FOLDER holds Training/<class>/* and Testing/<class>/*. The originals play Training, the copies Testing; nothing of them
stays on the disk.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path

from PIL import Image

from stages.files import write_json
from stages.params import load
from stages.runtime import workers
from stages.verify.decode import decode_grey
from stages.verify.schema import Params
from stages.verify.study import Examined, examine_study

STUDY = Path(__file__).parents[1]


def reencode(source: Path, target: Path, mirrored: bool) -> None:
    image = Image.fromarray(decode_grey(source.read_bytes(), 10**9)).resize((224, 224), Image.Resampling.BILINEAR)
    if mirrored:
        image = image.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    image.save(target, "JPEG", quality=70)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    files = sorted(path for path in options.folder.glob("T*ing/*/*") if path.is_file())
    verify = load(Params, STUDY / "params.yaml").verify.model_copy(update={"expected": None, "max_quarantined": 0})
    with tempfile.TemporaryDirectory() as scratch:
        for split in ("Training", "Testing"):
            for label in ("all", "none"):
                (Path(scratch) / split / label).mkdir(parents=True)
            Image.new("L", (9, 9)).save(Path(scratch) / split / "none" / "blank.png")
        for number, path in enumerate(files):
            (Path(scratch) / "Training/all" / f"{number:06}.jpg").symlink_to(path.resolve())
            reencode(path, Path(scratch) / "Testing/all" / f"{number:06}.jpg", mirrored=number % 2 == 1)
        found = examine_study(Path(scratch), Params(isa="avx2", classes=["all", "none"], verify=verify), workers())
    report(found, len(files), options.out)


def report(found: Examined, count: int, out: Path | None) -> None:
    table = found.manifest.set_index("path")
    groups = table.group
    tests = [f"Testing/all/{number:06}.jpg" for number in range(count)]
    twins = [f"Training/all/{number:06}.jpg" for number in range(count)]
    pairs = set(zip(found.pairs.path, found.pairs.twin, strict=True))
    pixels = table.pixel_sha256
    first: dict[str, str] = {}
    for path in twins:
        first.setdefault(pixels[path], path)
    known = list(zip(tests, twins, strict=True))
    direct = sum((test, first[pixels[twin]]) in pairs or (test, twin) in pairs for test, twin in known)
    missed = [number for number in range(count) if not table.twin_in_training[tests[number]]]
    result: dict[str, object] = {
        "pairs": count,
        "found_with_a_direct_twin": count - len(missed),
        "found_with_the_very_original_as_direct_twin": direct,
        "in_one_group": sum(bool(groups[test] == groups[twin]) for test, twin in known),
        "share_found": round(1 - len(missed) / count, 6),
    }
    print(json.dumps(result, indent=2), "missed:", missed[:20])
    if out:
        write_json(out, result)


if __name__ == "__main__":
    main()
