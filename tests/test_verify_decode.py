"""decode_grey: every kind of image file gives the same grey levels, and damaged ones a reason."""

import io

import numpy as np
import pytest
from PIL import Image

from stages.shell.errors import InputError
from stages.verify.decode import decode, decode_grey

GREY = (np.arange(60).reshape(6, 10) * 4).astype(np.uint8)


def file(image, kind="PNG", **options):
    out = io.BytesIO()
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.mark.parametrize(
    ("mode", "kind"),
    [
        ("L", "PNG"),
        ("RGB", "PNG"),
        ("RGBA", "PNG"),
        ("LA", "PNG"),
        ("L", "BMP"),
        ("P", "PNG"),
        ("L", "TIFF"),
        ("P", "GIF"),
        ("RGB", "WEBP"),
        ("L", "PPM"),
        ("L", "JPEG2000"),
    ],
)
def test_grey_levels_survive_any_lossless_form(mode, kind):
    image = Image.fromarray(GREY).convert(mode)
    options = {"lossless": True} if kind == "WEBP" else {}
    assert np.array_equal(decode_grey(file(image, kind, **options), 100), GREY)


def test_transparency_is_laid_on_black():
    colour = np.full((2, 3, 4), 255, np.uint8)
    colour[0, :, 3], colour[1, 0, 3] = 0, 128
    assert decode_grey(file(Image.fromarray(colour)), 100).tolist() == [[0, 0, 0], [128, 255, 255]]


def test_transparent_palette_entry_is_black():
    image = Image.new("P", (2, 1))
    image.putpalette([255, 255, 255, 200, 200, 200])
    image.putpixel((1, 0), 1)
    assert decode_grey(file(image, transparency=0), 10).tolist() == [[0, 200]]


def test_one_bit_is_black_and_white():
    assert decode_grey(file(Image.fromarray(GREY > 100)), 100).tolist() == np.where(GREY > 100, 255, 0).tolist()


def test_cmyk_is_colour_not_ink():
    grey = decode_grey(file(Image.new("CMYK", (4, 4), (0, 0, 0, 255)), "TIFF"), 100)
    assert grey.max() == 0


@pytest.mark.parametrize(
    "levels", [GREY.astype(np.uint16) * 100 + 7, GREY.astype(np.int32) * 1000 - 9, GREY.astype(np.float32) / 300]
)
def test_deep_levels_are_scaled_by_their_range(levels):
    kind = "PNG" if levels.dtype == np.uint16 else "TIFF"
    expected = np.floor(GREY / GREY.max() * 255 + 0.5)
    assert np.abs(decode_grey(file(Image.fromarray(levels), kind), 100) - expected).max() <= 1


def test_float_image_with_nan_is_usable_unless_all_is_nan():
    levels = np.array([[0, np.nan], [1, np.inf]], np.float32)
    assert decode_grey(file(Image.fromarray(levels), "TIFF"), 10).tolist() == [[0, 0], [255, 0]]
    with pytest.raises(InputError, match="finite"):
        decode_grey(file(Image.fromarray(levels * np.nan), "TIFF"), 10)


def test_exif_orientation_is_applied():
    exif = Image.Exif()
    exif[0x0112] = 6
    assert np.array_equal(decode_grey(file(Image.fromarray(GREY), exif=exif), 100), np.rot90(GREY, -1))


def test_animation_gives_its_first_frame():
    frames = [Image.fromarray(GREY + step) for step in (0, 9)]
    assert np.array_equal(decode_grey(file(frames[0], "GIF", save_all=True, append_images=frames[1:]), 100), GREY)


def test_format_is_found_by_content():
    found = decode(file(Image.fromarray(GREY)), 100)
    assert (found.mode, found.format) == ("L", "PNG")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "0 bytes"),
        (b"no image at all" * 9, "known format"),
        (file(Image.fromarray(GREY))[:50], "decoded"),
        (file(Image.fromarray(np.tile(GREY, (9, 9))), "JPEG")[:-300], "truncated"),
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "PostScript is not taken"),  # would start Ghostscript
    ],
)
def test_damaged_files_are_refused_with_a_reason(data, reason):
    with pytest.raises(InputError, match=reason):
        decode_grey(data, 10**6)


def test_max_pixels_alone_says_how_large_an_image_may_be():
    """Pillow's own limit lies at 179 million pixels; a file of so many black ones is small."""
    data = file(Image.new("1", (14_000, 14_000)))
    assert decode_grey(data, 200_000_000).shape == (14_000, 14_000)


def test_decompression_bomb_is_refused_before_it_is_decoded():
    with pytest.raises(InputError, match="bomb"):
        decode_grey(file(Image.new("1", (20000, 20000))), 10**7)
    with pytest.raises(InputError, match="bomb"):
        decode_grey(file(Image.new("L", (7, 9))), 62)


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("HEIC", b"\0\0\0\x18ftypheic\0\0\0\0mif1heic"),
        ("AVIF", b"\0\0\0\x1cftypavif\0\0\0\0avifmif1"),
        ("JPEG XL", b"\0\0\0\x0cJXL \r\n\x87\n"),
        ("DICOM", bytes(128) + b"DICM"),
        ("NIfTI", b"\x5c\1\0\0" + bytes(340) + b"n+1\0"),
        ("gzip", b"\x1f\x8b\x08\0"),
        ("MATLAB", b"MATLAB 5.0 MAT-file"),
        ("PDF", b"%PDF-1.7"),
        ("web page", b"<!DOCTYPE html>"),
    ],
)
def test_a_format_that_is_not_taken_is_named_with_those_that_are(name, data):
    with pytest.raises(InputError, match=f"{name}.* is not taken as an image: expected JPEG, PNG, .*; convert it"):
        decode_grey(data + bytes(100), 10**6)
