"""Coverage-guided fuzzing of what reads bytes of strangers: python tests/faults/fuzz.py TARGET [--seconds 60]

TARGET is image, dicom, nifti, archive or weights; wants `pip install atheris`. It begins with the hostile corpus that
the tests generate and with the files in corpus/TARGET/. A finding is any exception but the one that is meant for
people, more than 30 s or 2 GiB; its bytes are kept in findings/TARGET/, and test_random_bytes.py replays both folders.
`--seeds` writes corpus/TARGET/ anew instead. What was run, and what it found: docs/security.md.
"""

from __future__ import annotations

import argparse
import contextlib
import re
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path[:0] = [str(ROOT), str(ROOT / "tests"), str(ROOT / "tests/faults")]
import stages  # noqa: E402, F401

CORPUS, FINDINGS = (Path(__file__).parent / name for name in ("corpus", "findings"))
MOST, MOST_KEPT = 20_000, 8_000  # bytes of a file to begin with; of one that is kept in Git
Target = Callable[[bytes], object]


def targets() -> dict[str, Target]:
    """Import what is fuzzed, here, so that `main` can have it instrumented."""
    from archives import LIMITS

    from stages.backbone.network import read_tensors
    from stages.fetch.archive import members
    from stages.verify import dicom, nifti
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
        "nifti": lambda data: list(nifti.slices(data, 10**6)),
        "archive": as_file(lambda path: [b"".join(found) for _, found in members(path, LIMITS, "source")]),
        "weights": as_file(read_tensors),
    }


def hostile(target: str) -> dict[str, bytes]:
    """Return whole and damaged files to begin with, by name: those of the hostile corpus."""
    if target == "archive":
        return archives()
    if target == "image":
        from test_hostile_images import CORPUS as groups

        return {f"{group} {name}": data for group, make in groups.items() for name, data in make().items()}
    if target == "dicom":
        from test_hostile_dicom import corpus

        return corpus()
    if target == "nifti":
        from test_hostile_nifti import corpus as volumes

        return volumes()
    import torch
    from safetensors.torch import save

    return {
        "small": save({"a": torch.zeros(2, 3), "b": torch.ones(1)}),
        "with metadata": save({"a": torch.zeros(1)}, {"brainmri": '{"classes": ["a", "b"]}'}),
        "no tensors": save({}),
        "a header that lies": (2**40).to_bytes(8, "little") + b'{"a":{}}',
    }


def archives() -> dict[str, bytes]:
    """Return small archives of every form."""
    import tarfile
    import zipfile

    from archives import FILES, special_tar, special_zip, tarred, zipped

    files = {name: data[:40] for name, data in FILES.items() if name.startswith("Training/cat")}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "file"
        return {
            "zip": zipped(path, files).read_bytes(),
            "zip deflated": zipped(path, files, zipfile.ZIP_DEFLATED).read_bytes(),
            "zip with a link": special_zip(path, 0o120000).read_bytes(),
            "tar": tarred(path, files).read_bytes()[:6144],
            "tar with a link": special_tar(path, tarfile.SYMTYPE).read_bytes()[:2048],
            **{f"tar.{kind}": tarred(path, files, f"w:{kind}").read_bytes() for kind in ("gz", "bz2", "xz")},
        }


def seeds(target: str, folder: Path) -> None:
    """Write the hostile corpus of a target to a folder."""
    for number, data in enumerate(hostile(target).values()):
        if len(data) < MOST:
            (folder / f"{number:04d}").write_bytes(data)


def keep(target: str) -> None:
    """Write corpus/TARGET/: the small ones, and of those that differ by a number only the last."""
    folder = CORPUS / target
    folder.mkdir(parents=True, exist_ok=True)
    small = {name: data for name, data in hostile(target).items() if len(data) < MOST_KEPT}
    last = {re.sub(r"(cut at|flipped|flipped with groups) \d+", r"\1", name): data for name, data in small.items()}
    for name, data in last.items():
        (folder / re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")).write_bytes(data)


def kept(target: str) -> list[Path]:
    """Return the files of corpus/TARGET/ and findings/TARGET/."""
    return sorted(path for top in (CORPUS, FINDINGS) for path in (top / target).glob("*") if path.is_file())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("target", choices=["image", "dicom", "nifti", "archive", "weights"])
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seeds", action="store_true", help="write corpus/TARGET/ anew, and fuzz nothing")
    args = parser.parse_args()
    if args.seeds:
        keep(args.target)
        return
    fuzz(args.target, args.seconds)


def fuzz(name: str, seconds: int) -> None:
    import atheris

    with atheris.instrument_imports(include=["pydicom", "nibabel", "zipfile", "tarfile", "commands", "stages"]):
        from stages.shell.errors import InputError

        target = targets()[name]

    def one(data: bytes) -> None:
        with contextlib.suppress(InputError):
            target(data)

    (FINDINGS / name).mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        seeds(name, Path(folder))
        limits = [f"-max_total_time={seconds}", "-timeout=30", "-rss_limit_mb=2048", "-max_len=65536"]
        found = f"-artifact_prefix={FINDINGS / name}/"
        atheris.Setup([sys.argv[0], *limits, found, folder, str(CORPUS / name)], one)  # new ones go to the first folder
        atheris.Fuzz()


if __name__ == "__main__":
    main()
