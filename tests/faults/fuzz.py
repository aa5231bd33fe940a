"""Coverage-guided fuzzing of what reads bytes of strangers: python tests/faults/fuzz.py TARGET [--seconds 60]

TARGET is image, dicom, archive or weights; wants `pip install atheris`. A finding is any exception but the one that is
meant for people; atheris writes its bytes to the current folder. What was run, and what it found: docs/security.md.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/faults")]
import stages  # noqa: E402, F401

Target = Callable[[bytes], object]


def targets() -> dict[str, Target]:
    """Import what is fuzzed, here, so that `main` can have it instrumented."""
    from archives import LIMITS

    from commands.predict import dicom
    from stages.backbone.network import read_tensors
    from stages.fetch.archive import members
    from stages.verify.decode import decode_grey

    def as_file(read: Callable[[Path], object]) -> Target:
        def target(data: bytes) -> None:
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "file"
                path.write_bytes(data)
                read(path)

        return target

    return {
        "image": lambda data: decode_grey(data, 10**6),
        "dicom": lambda data: list(dicom.frames(data, 10**6)),
        "archive": as_file(lambda path: [b"".join(found) for _, found in members(path, LIMITS, "source")]),
        "weights": as_file(read_tensors),
    }


def seeds(target: str, folder: Path) -> None:
    """Write whole and damaged files to begin with: those of the hostile corpus."""
    if target == "archive":
        from archives import FILES, tarred, zipped

        zipped(folder / "zip", FILES)
        tarred(folder / "tar", FILES)
        tarred(folder / "tar.gz", FILES, "w:gz")
        return
    if target == "image":
        from test_hostile_images import CORPUS

        found = {f"{group} {name}": data for group, make in CORPUS.items() for name, data in make().items()}
    elif target == "dicom":
        from test_hostile_dicom import corpus

        found = corpus()
    else:
        import torch
        from safetensors.torch import save

        found = {"small": save({"a": torch.zeros(2, 3), "b": torch.ones(1)})}
    for number, data in enumerate(found.values()):
        if len(data) < 20_000:
            (folder / f"{number:04d}").write_bytes(data)


def main() -> None:
    import atheris

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target", choices=["image", "dicom", "archive", "weights"])
    parser.add_argument("--seconds", type=int, default=60)
    args = parser.parse_args()

    with atheris.instrument_imports(include=["pydicom", "zipfile", "tarfile", "commands", "stages"]):
        from stages.files import InputError

        target = targets()[args.target]

    def one(data: bytes) -> None:
        with contextlib.suppress(InputError):
            target(data)

    with tempfile.TemporaryDirectory() as folder:
        seeds(args.target, Path(folder))
        options = [f"-max_total_time={args.seconds}", "-timeout=30", "-rss_limit_mb=2048", "-max_len=65536"]
        atheris.Setup([sys.argv[0], *options, folder], one)
        atheris.Fuzz()


if __name__ == "__main__":
    main()
