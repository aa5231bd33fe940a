"""NIfTI volumes that are cut, flipped, bombs or lies; and these and DICOM files through a whole command."""

from __future__ import annotations

import gzip
import re
import shutil
import struct
import sys
from pathlib import Path

import nibabel
import numpy as np
import pandas as pd
import pytest
from conftest import set_params
from faulting import in_time, refused, run, stage
from test_hostile_dicom import corpus as dicom_corpus

from stages.verify import nifti
from stages.verify.decode import DecodeError

MAX = 10**6
VOXELS = np.random.default_rng(0).integers(0, 900, (20, 24, 6), np.int16)


def volume(voxels: np.ndarray = VOXELS, affine: np.ndarray | None = None) -> bytes:
    return nibabel.Nifti1Image(voxels, np.diag([1.0, 1, 4, 1]) if affine is None else affine).to_bytes()


def lying(at: int, form: str, *values: float) -> bytes:
    """Return a volume whose header says something else from byte `at` on."""
    data = bytearray(volume())
    struct.pack_into("<" + form, data, at, *values)
    return bytes(data)


def affines() -> dict[str, bytes]:
    """Return volumes whose header has an affine that no scanner has."""
    rows = {
        "zeros": [0.0] * 12,
        "NaN": [np.nan] * 12,
        "infinite": [np.inf] * 12,
        "huge": [1e38] * 12,
        "tiny": [1e-38] * 12,
        "one NaN": [1, 0, 0, 0, 0, np.nan, 0, 0, 0, 0, 4, 0],
        "parallel axes": [1, 1, 1, 0] * 3,
        "a shear": [1, 9, 0, 0, 0, 1, 9, 0, 0, 0, 1, 0],
        "far away": [1, 0, 0, 1e30, 0, 1, 0, 0, 0, 0, 4, 0],
        "needles": [1e-6, 0, 0, 0, 0, 1, 0, 0, 0, 0, 4, 0],
    }
    found = {f"affine: {name}": lying(280, "12f", *values) for name, values in rows.items()}
    for name, codes in {"no affine": (0, 0), "an unknown code": (99, -7), "the quaternion": (1, 0)}.items():
        found[f"affine: {name}"] = lying(252, "2h", *codes)
    quaternion = bytearray(lying(252, "2h", 1, 0))
    struct.pack_into("<6f", quaternion, 256, 9, 9, 9, np.nan, 0, 0)
    return found | {"affine: a quaternion longer than one": bytes(quaternion)}


def corpus() -> dict[str, bytes]:
    whole = volume()
    packed = gzip.compress(whole, mtime=0)
    sixty = gzip.compress(bytes(60_000_000), 1, mtime=0)  # one after the other, they unpack as one
    found = {f"cut at {at}": whole[:at] for at in np.linspace(1, len(whole) - 1, 30).astype(int)}
    found |= {f"packed, cut at {at}": packed[:at] for at in np.linspace(1, len(packed) - 1, 30).astype(int)}
    for seed in range(60):
        found[f"flipped {seed}"] = flipped(whole, seed, 352 if seed % 2 else len(whole))
        found[f"packed, flipped {seed}"] = flipped(packed, seed, len(packed))
    return (
        found
        | affines()
        | {
            "a bomb: 600 MB of zeros": packed + sixty * 10,
            "a bomb in its head": sixty * 10,
            "a bomb in a bomb": gzip.compress(gzip.compress(bytes(50_000_000), 1), 1),
            "20 MB of zeros, as its header says": gzip.compress(zeros(), 1, mtime=0),
            "two gzips in one": packed + packed,
            "junk after the end": packed + b"junk" * 1000,
            "voxels of a bomb": lying(40, "8h", 3, 30000, 30000, 30000, 1, 1, 1, 1),
            "negative lengths": lying(40, "8h", 3, -5, -5, -5, 1, 1, 1, 1),
            "no directions": lying(40, "8h", 0, 0, 0, 0, 0, 0, 0, 0),
            "nine directions": lying(40, "8h", 9, 2, 2, 2, 2, 2, 2, 2),
            "minus one direction": lying(40, "8h", -1, 2, 2, 2, 2, 2, 2, 2),
            "seven directions of one": lying(40, "8h", 7, 20, 24, 6, 1, 1, 1, 1),
            "a thousand volumes": lying(40, "8h", 4, 2, 2, 2, 1000, 1, 1, 1),
            "ten thousand and one slices": lying(40, "8h", 3, 1, 1, 10001, 1, 1, 1, 1),
            "an unknown type": lying(70, "2h", 999, 16),
            "bits that are not the type's": lying(70, "2h", 4, 7),
            "long doubles": lying(70, "2h", 1536, 128),
            "voxels from byte 0": lying(108, "f", 0.0),
            "voxels from minus one": lying(108, "f", -1.0),
            "voxels from the sky": lying(108, "f", 1e30),
            "voxels from nowhere": lying(108, "f", float("nan")),
            "slope 0": lying(112, "2f", 0.0, 5.0),
            "slope NaN": lying(112, "2f", float("nan"), 0.0),
            "slope infinite": lying(112, "2f", float("inf"), 0.0),
            "slope beyond numbers": lying(112, "2f", 3e38, 3e38),
            "sides of nothing": lying(76, "8f", 1, 0, 0, 0, 0, 0, 0, 0),
            "sides of minus one": lying(76, "8f", -1, -1, -1, -1, -1, -1, -1, -1),
            "an extension without end": whole[:348] + b"\1\0\0\0" + b"\xf0\xff\xff\x7f\4\0\0\0" + whole[352:],
            "an extension of no length": whole[:348] + b"\1\0\0\0" + bytes(8) + whole[352:],
            "the other byte order's length": lying(0, "i", 0x5C010000),
            "a header of no length": lying(0, "i", 0),
            "only the mark": bytes(344) + b"n+1\0",
            "version 2 without its header": b"\x1c\2\0\0n+2\0\r\n\x1a\n",
            "nothing": b"",
            "gzip's mark alone": b"\x1f\x8b",
            "all one value": volume(np.full((8, 8, 8), 7, np.int16)),
            "NaN and one number": volume(np.where(np.arange(512).reshape(8, 8, 8) == 9, 5, np.nan).astype(np.float32)),
            "the ends of all numbers": volume(np.resize([np.float32(3e38), np.float32(-3e38)], (8, 8, 8))),
        }
    )


def zeros() -> bytes:
    """Return a volume of 20 MB, which is within all limits."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(np.int16)
    header.set_data_shape((1000, 1000, 10))
    header["vox_offset"] = 352
    return header.binaryblock + bytes(4 + 20_000_000)


def flipped(whole: bytes, seed: int, end: int) -> bytes:
    random, data = np.random.default_rng(seed), bytearray(whole)
    for place in random.integers(0, end, 6):
        data[place] ^= 1 << int(random.integers(8))
    return bytes(data)


@pytest.mark.fault("a hostile or damaged NIfTI volume")
def test_a_volume_gives_slices_or_one_reason(record_property, capfd):
    found = corpus()
    for name, data in found.items():
        with in_time():
            try:
                for number, picture in enumerate(nifti.slices(data, MAX)):
                    assert picture.dtype == np.uint8 and picture.ndim == 2 and number < 10_000, name
            except DecodeError as error:
                assert str(error) and "\n" not in str(error) and len(str(error)) < 300, name
    assert capfd.readouterr().err == ""
    record_property("cases", len(found))


@pytest.fixture(scope="module")
def scans(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Both corpora as files: of those that differ by a number, every sixth."""
    folder = tmp_path_factory.mktemp("scans")
    for ending, found in {"dcm": dicom_corpus(), "nii.gz": corpus()}.items():
        numbered = {name for name in found if re.search(r"(cut at|flipped|groups) \d+$", name)}
        few = [*(found.keys() - numbered), *sorted(numbered)[::6]]
        for number, name in enumerate(sorted(few)):
            (folder / f"{number:03d}.{ending}").write_bytes(found[name])
    return folder


@pytest.mark.fault("a hostile series or volume, through a whole command")
def test_predict_names_every_one_that_it_cannot_read(tiny_study: Path, scans: Path, record_property):
    words = [sys.executable, "-m", "commands", "predict", str(scans), "--csv", "--study", str(tiny_study)]
    done = run(words, tiny_study)
    assert done.status == 1 and "Traceback" not in done.err, done.err
    files = {str(path) for path in scans.iterdir()}
    lines = [line for line in done.err.splitlines() if line.startswith(f"brainmri: {scans}")]
    answered = {line.split(",")[0] for line in done.out.splitlines()[1:]}
    named = {line.split(": ")[1] for line in lines}
    assert answered | named == files and not answered & named and len(lines) == len(named)
    record_property("cases", len(files))


@pytest.mark.fault("a hostile series or volume, through a whole command", commands=3)
def test_verify_quarantines_them_with_a_reason_each_and_prepare_takes_the_others(
    tiny_study: Path, scans: Path, tmp_path: Path, record_property
):
    study = tmp_path / "study"
    shutil.copytree(tiny_study, study)
    files = sorted(scans.iterdir())
    (study / "data/raw/Training/glioma/discs").mkdir()
    for path in files:
        shutil.copy(path, study / "data/raw/Training/glioma/discs")
    assert "max_quarantined" in refused(stage("verify", study), "verify: ")
    set_params(study, **{"verify.max_quarantined": len(files), "verify.volumes.every": 20})
    done = stage("verify", study)
    assert done.status == 0 and "Traceback" not in done.err, done.err
    manifest = pd.read_csv(study / "data/manifest.csv", keep_default_na=False, dtype=str)
    rows = manifest[manifest["path"].str.contains("/discs/")]
    held = rows["path"].where(rows["frame"] == "", rows["path"].str.rpartition("#")[0])
    assert set(held) == {f"Training/glioma/discs/{path.name}" for path in files}
    bad = rows[rows["status"] != "ok"]["status"]
    assert bad.str.len().between(5, 300).all() and not bad.str.contains("\n").any() and len(bad) > 100
    done = stage("prepare", study)
    assert done.status == 0 or "too long and thin" in refused(done, "prepare: ")
    record_property("cases", len(files))
