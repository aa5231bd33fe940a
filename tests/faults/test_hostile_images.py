"""Image files that are cut, flipped, odd or lies: grey levels or one reason, in bounded time and memory."""

from __future__ import annotations

import io
import json
import shutil
import struct
import sys
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import set_params
from faulting import in_time, listing, refused, run, stage
from PIL import Image, ImageCms

from stages.verify.decode import DecodeError, decode_grey

MAX_PIXELS = 10**6
FORMATS = {"JPEG": {"quality": 85}, "PNG": {}, "TIFF": {}, "BMP": {}, "GIF": {}, "WEBP": {}, "PPM": {}, "JPEG2000": {}}
OFFSETS, FLIPS = 14, 20


def grey(side: int = 48) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (side, side), np.uint8))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


def cut(kind: str) -> dict[str, bytes]:
    whole = saved(grey(), kind, **FORMATS[kind])
    places = np.unique(np.linspace(1, len(whole) - 1, OFFSETS).astype(int))
    return {f"cut at {place}": whole[:place] for place in places}


def flipped(kind: str) -> dict[str, bytes]:
    found = {}
    for number in range(FLIPS):
        random = np.random.default_rng(number)
        data = bytearray(saved(grey(), kind, **FORMATS[kind]))
        for place in random.integers(0, min(len(data), 200 if number % 2 else len(data)), 8):
            data[place] ^= 1 << int(random.integers(8))
        found[f"flipped {number}"] = bytes(data)
    return found


def png_of(width: int, height: int, rows: bytes) -> bytes:
    """Return a grey PNG whose header says anything."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def odd() -> dict[str, bytes]:
    """Return files that are whole and strange."""
    side = 48
    levels = np.asarray(grey(side))
    floats = levels.astype(np.float32)
    floats[0, 0], floats[1, 1] = np.nan, np.inf
    exif = Image.Exif()
    exif[0x0112] = 6
    broken_exif = (
        saved(grey(), "JPEG")[:2] + b"\xff\xe1\x00\x10Exif\0\0MM\0*\xff\xff\xff\xff" + saved(grey(), "JPEG")[2:]
    )
    colour = Image.fromarray(np.random.default_rng(1).integers(0, 256, (side, side, 3), np.uint8))
    frames = [grey(20), grey(20).rotate(90)]
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    return {
        "CMYK JPEG": saved(colour.convert("CMYK"), "JPEG"),
        "1-bit PNG": saved(grey().convert("1"), "PNG"),
        "1-bit TIFF, fax": saved(grey().convert("1"), "TIFF", compression="group4"),
        "16-bit PNG": saved(Image.fromarray(levels.astype(np.uint16) * 200), "PNG"),
        "16-bit TIFF": saved(Image.fromarray(levels.astype(np.uint16) * 200), "TIFF"),
        "float TIFF with NaN and infinity": saved(Image.fromarray(floats), "TIFF"),
        "float TIFF, all NaN": saved(Image.fromarray(np.full((9, 9), np.nan, np.float32)), "TIFF"),
        "LAB TIFF": saved(colour.convert("LAB"), "TIFF"),
        "YCbCr JPEG": saved(colour.convert("YCbCr"), "JPEG"),
        "animated GIF": saved(frames[0], "GIF", save_all=True, append_images=frames[1:]),
        "animated WEBP": saved(frames[0], "WEBP", save_all=True, append_images=frames[1:]),
        "animated PNG": saved(frames[0], "PNG", save_all=True, append_images=frames[1:]),
        "TIFF of two pages": saved(frames[0], "TIFF", save_all=True, append_images=frames[1:]),
        "EXIF says turned": saved(grey(), "JPEG", exif=exif),
        "EXIF is broken": broken_exif,
        "ICC profile": saved(colour, "JPEG", icc_profile=profile),
        "ICC profile of junk": saved(colour, "JPEG", icc_profile=b"\xff" * 500),
        "palette with transparency": saved(colour.convert("P"), "PNG", transparency=0),
        "one pixel": saved(Image.new("L", (1, 1), 7), "PNG"),
        "1 x 20,000": saved(Image.new("L", (1, 20_000), 7), "PNG"),
        "20,000 x 1": saved(Image.new("L", (20_000, 1), 7), "PNG"),
        "all black": saved(Image.new("L", (64, 64)), "PNG"),
        "zero width": png_of(0, 10, b""),
        "zero height": png_of(10, 0, b""),
        "bomb: 50,000 x 50,000 of black": png_of(50_000, 50_000, b"\0" * 100_000),
        "bomb: 2^31 - 1 squared": png_of(2**31 - 1, 2**31 - 1, b""),
        "fewer rows than the header says": png_of(500, 500, b"\0" * 1000),
        "PNG with a text of 50 MB": png_with_text(),
        "empty": b"",
        "text renamed": b"These are not the bytes you are looking for.\n" * 20,
        "HTML": b"<!doctype html><title>404</title>",
        "SVG": b'<svg xmlns="http://www.w3.org/2000/svg"><script>alert(1)</script></svg>',
        "EPS, which would start Ghostscript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\nshowpage\n",
        "PDF": b"%PDF-1.4\n%%EOF",
        "zip": b"PK\x03\x04" + b"\0" * 60,
        "pickle": b"\x80\x04cos\nsystem\n(S'true'\ntR.",
        "JPEG's mark alone": b"\xff\xd8\xff",
        "PNG's mark alone": b"\x89PNG\r\n\x1a\n",
        "JPEG's mark, then a PNG": b"\xff\xd8\xff" + saved(grey(), "PNG"),
        "zeros": b"\0" * 5000,
        "two JPEGs in one file": saved(grey(), "JPEG") * 2,
        "junk after the end": saved(grey(), "PNG") + b"junk" * 1000,
        "TIFF whose tags point to themselves": b"II*\0\x08\0\0\0\x01\0\x00\x01\x04\0\x01\0\0\0\x08\0\0\0\x08\0\0\0",
        "TIFF of a thousand tags": b"II*\0\x08\0\0\0\xe8\x03" + b"\x00\x01\x03\0\x01\0\0\0\xff\xff\0\0" * 1000,
    }


def png_with_text() -> bytes:
    text = b"zTXtx\0\0" + zlib.compress(b"a" * 50_000_000)
    chunk = struct.pack(">I", len(text) - 4) + text + struct.pack(">I", zlib.crc32(text))
    whole = saved(grey(), "PNG")
    return whole[:33] + chunk + whole[33:]


CORPUS: dict[str, Callable[[], dict[str, bytes]]] = {f"{kind}, cut": lambda kind=kind: cut(kind) for kind in FORMATS}
CORPUS |= {f"{kind}, bits flipped": lambda kind=kind: flipped(kind) for kind in FORMATS} | {"odd": odd}


@pytest.mark.fault("a hostile or damaged image")
@pytest.mark.parametrize("group", CORPUS)
def test_an_image_file_gives_grey_levels_or_one_reason(group: str, record_property):
    corpus = CORPUS[group]()
    for name, data in corpus.items():
        with in_time():
            try:
                found = decode_grey(data, MAX_PIXELS)
            except DecodeError as error:
                assert str(error) and "\n" not in str(error) and len(str(error)) < 300, name
            else:
                assert found.dtype == np.uint8 and found.ndim == 2 and 0 < found.size <= MAX_PIXELS, name
    record_property("cases", len(corpus))


@pytest.fixture(scope="module")
def corpus_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All of it as files, under names that are hostile too."""
    folder = tmp_path_factory.mktemp("corpus")
    names = [
        "ü" * 60,
        "a b  c",
        "-rf",
        "$(touch evil)",
        "`touch evil`",
        "'quoted\"",
        "x" * 240,
        "名前",
        "..jpg",
        "%s%n",
    ]
    number = 0
    for make in CORPUS.values():
        for data in make().values():
            name = names[number] if number < len(names) else f"{number:04d}"
            (folder / f"{name}.jpg").write_bytes(data)
            number += 1
    return folder


@pytest.mark.fault("a hostile or damaged image, through a whole command")
def test_predict_names_every_file_that_it_cannot_read_and_answers_for_the_others(
    tiny_study: Path, corpus_folder: Path, record_property
):
    files = sorted(path for path in corpus_folder.iterdir() if not path.name.startswith("."))
    words = [sys.executable, "-m", "commands", "predict", str(corpus_folder), "--json", "--study", str(tiny_study)]
    done = run(words, tiny_study)
    found = json.loads(done.out)
    assert done.status == 1 and "Traceback" not in done.err
    named = [entry["path"] for entry in [*found["images"], *found["unreadable"]]]
    assert sorted(set(named)) == [str(path) for path in files]  # a TIFF of two pages has two answers
    assert all(0 <= p <= 1 for entry in found["images"] for p in entry["probabilities"].values())
    assert not list(tiny_study.glob("evil")) and not list(corpus_folder.glob("evil"))
    record_property("cases", len(files))


@pytest.mark.fault("a hostile or damaged image, through a whole command", commands=3)
def test_verify_quarantines_what_it_cannot_read_and_prepare_names_what_is_too_long(
    tiny_study: Path, corpus_folder: Path, tmp_path: Path, record_property
):
    study = tmp_path / "study"
    shutil.copytree(tiny_study, study)
    files = sorted(path for path in corpus_folder.iterdir() if not path.name.startswith("."))
    for path in files:
        shutil.copy(path, study / "data/raw/Training/glioma" / f"hostile-{path.name[:200]}")
    done = stage("verify", study)
    assert done.status == 1 and "Traceback" not in done.err and "max_quarantined" in done.err
    set_params(study, **{"verify.max_quarantined": len(files), "verify.max_pixels": MAX_PIXELS})
    outside = listing(tiny_study)
    done = stage("verify", study)
    assert done.status == 0, done.err
    assert "too long and thin" in refused(stage("prepare", study), "prepare: ")
    manifest = (study / "data/manifest.csv").read_text()
    assert manifest.count("hostile-") >= len(files)
    assert listing(tiny_study) == outside
    record_property("cases", len(files))
