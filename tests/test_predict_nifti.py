"""NIfTI volumes in `brainmri predict`: every orientation of a head gives the same pictures; damage is one line."""

from __future__ import annotations

import gzip
import io
import itertools
import random

import numpy as np
import pytest

from commands.predict.inputs import File, Picture, Unreadable, read
from stages.prepare.schema import Prepare
from stages.verify import nifti
from stages.verify.decode import DecodeError

nibabel = pytest.importorskip("nibabel")

SIDES = (1.0, 1.25, 4.0)  # mm: thick slices from foot to head
PREPARE = Prepare(crop=False, crop_threshold=0.1, max_pixels=10_000)


def head() -> np.ndarray:
    """Return voxels [X, Y, Z] of which no two directions look alike, the axes to the right, the front and the head."""
    voxels = np.zeros((30, 24, 6), np.int16)
    voxels[4:26, 3:21] = 300
    voxels[20:24, 10:14] = 900  # on the right
    voxels[13:17, 17:20] = 600  # in front
    voxels[:, :, 4:] //= 2  # darker towards the head
    return voxels


def packed(voxels: np.ndarray, affine: np.ndarray, kind=nibabel.Nifti1Image) -> bytes:
    return kind(voxels, affine).to_bytes()


def upright() -> bytes:
    return packed(head(), np.diag([*SIDES, 1.0]))


def pictures(data: bytes, max_pixels: int = 10_000) -> list[np.ndarray]:
    return list(nifti.slices(data, max_pixels))


def test_slices_run_from_foot_to_head_with_the_right_on_the_left_and_the_front_on_top():
    found = pictures(upright())
    assert [each.shape for each in found] == [(30, 30)] * 6  # 24 rows of 1.25 mm, 30 columns of 1 mm
    bright = np.argwhere(found[0] == 255).mean(axis=0)
    dim = np.argwhere((found[0] > 150) & (found[0] < 180)).mean(axis=0)
    assert bright[1] < 10 and dim[0] < 11  # of 30
    assert found[0].max() == 255 and found[-1].max() < 130


def test_every_orientation_of_the_same_head_gives_the_same_pictures():
    image = nibabel.Nifti1Image(head(), np.diag([*SIDES, 1.0]))
    expected = pictures(image.to_bytes())
    ways = 0
    for order in itertools.permutations(range(3)):
        for flips in itertools.product((1, -1), repeat=3):
            turned = image.as_reoriented(np.array(list(zip(order, flips, strict=True))))
            assert np.array_equal(pictures(turned.to_bytes()), expected), (order, flips)
            ways += 1
    assert ways == 48


def test_packed_and_of_version_2_and_scaled_it_is_the_same():
    affine = np.diag([*SIDES, 1.0])
    scaled = nibabel.Nifti1Image(head(), affine)
    scaled.header.set_slope_inter(0.5, -20)
    ways = [gzip.compress(upright()), packed(head(), affine, nibabel.Nifti2Image), packed(head() * 2.0, affine)]
    for data in [*ways, scaled.to_bytes()]:
        assert nifti.is_nifti(data, "scan") and np.array_equal(pictures(data), pictures(upright()))


@pytest.mark.parametrize(("sides", "shape"), [((5.0, 1, 1), (24, 6)), ((1, 5.0, 1), (30, 6)), ((1, 1, 1.2), (24, 30))])
def test_slices_are_those_that_were_taken_and_axial_where_no_side_is_longest(sides, shape):
    found = pictures(packed(head(), np.diag([*sides, 1.0])))
    assert found[0].shape == ((shape[1], shape[0]) if sides[2] == 1 else shape)
    assert len(found) == head().shape[int(np.argmax(sides))]


def test_a_bright_vessel_darkens_nothing_and_what_is_no_number_is_black():
    voxels = head().astype(np.float32)
    voxels[5, 5, 2], voxels[6, 6, 2], voxels[7, 7, 2] = 1e6, np.nan, -np.inf
    found = pictures(packed(voxels, np.diag([*SIDES, 1.0])))
    assert np.array_equal(found[0], pictures(upright())[0])
    assert pictures(packed(np.full((8, 8, 8), 7, np.int16), np.eye(4)))[0].max() == 0


def test_predict_gives_each_slice_a_line_of_its_own(tmp_path):
    (tmp_path / "scan.nii.gz").write_bytes(gzip.compress(upright()))
    found = read(File(tmp_path / "scan.nii.gz", "scan.nii.gz"), 32, PREPARE)
    assert [each.frame for each in found if isinstance(each, Picture)] == [1, 2, 3, 4, 5, 6]


def hostile() -> dict[str, tuple[bytes, str]]:
    """Return files that are no volume that we can look at, and a word of what is said."""
    affine = np.diag([*SIDES, 1.0])
    good = upright()
    pair = bytearray(good)
    pair[344:348] = b"ni1\0"
    many = bytearray(good)
    many[40:48] = np.array([3, 30000, 30000, 30000], "<i2").tobytes()
    deep = bytearray(good)
    deep[40:48] = np.array([3, 10, 10, 20000], "<i2").tobytes()
    none = bytearray(good)
    none[40:48] = np.array([3, 30, 0, 6], "<i2").tobytes()
    kind = bytearray(good)
    kind[70:72] = np.array([999], "<i2").tobytes()
    colours = np.zeros((4, 4, 4), [("R", "u1"), ("G", "u1"), ("B", "u1")])
    flat = bytearray(good)
    flat[296:312] = bytes(16)  # the sform's row to the front
    return {
        "cut": (good[: len(good) // 2], "NIfTI"),
        "header alone": (good[:352], "NIfTI"),
        "mark alone": (good[:348], "NIfTI"),
        "zeros by name": (bytes(1000), "NIfTI"),
        "half of a pair": (bytes(pair), "pair"),
        "of a bomb": (bytes(many), "max_pixels"),
        "too many slices": (bytes(deep), "slices"),
        "no voxels": (bytes(none), "nothing to look at"),
        "an unknown type": (bytes(kind), "NIfTI"),
        "colours": (packed(colours, affine), "colours"),
        "complex numbers": (packed(np.zeros((4, 4, 4), np.complex64), affine), "complex"),
        "several volumes": (packed(np.zeros((4, 4, 4, 3), np.int16), affine), "several volumes"),
        "nothing but NaN": (packed(np.full((4, 4, 4), np.nan, np.float32), affine), "finite"),
        "a flat direction": (bytes(flat), "no length"),
        "needles": (packed(head(), np.diag([0.01, 1.0, 2.0, 1.0])), "20 times"),
        "cut gzip": (gzip.compress(good)[:-40], "gzip"),
        "a gzip that lies": (gzip.compress(good)[:-8] + b"12345678", "gzip"),
    }


@pytest.mark.parametrize("name", hostile())
def test_what_is_no_volume_is_one_line(name):
    data, word = hostile()[name]
    with pytest.raises(DecodeError) as caught:
        pictures(data)
    assert word in str(caught.value) and "\n" not in str(caught.value) and len(str(caught.value)) <= 200


def test_a_bomb_in_gzip_is_refused_before_it_is_unpacked_whole(monkeypatch):
    monkeypatch.setattr(nifti, "MAX_BYTES", 5_000)
    with pytest.raises(DecodeError, match="larger than 5,000 bytes when unpacked"):
        pictures(gzip.compress(upright()))


def test_random_damage_gives_pictures_or_one_line(capfd):
    draw, good = random.Random(0), upright()
    read_ones = 0
    for _ in range(400):
        data = bytearray(good)
        for _ in range(draw.randint(1, 8)):
            data[draw.randrange(352)] = draw.randrange(256)
        try:
            read_ones += bool(pictures(bytes(data)))
        except DecodeError as error:
            assert "\n" not in str(error)
    assert 50 < read_ones < 400
    assert capfd.readouterr().err == ""


def test_without_nibabel_the_line_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "nibabel", None)
    (tmp_path / "a.nii").write_bytes(upright())
    (found,) = read(File(tmp_path / "a.nii", "a.nii"), 32, PREPARE)
    assert isinstance(found, Unreadable) and "pip install nibabel" in found.reason


def test_other_gzips_and_images_are_no_volumes():
    file = io.BytesIO(gzip.compress(b"text"))
    assert not nifti.is_nifti(file.getvalue(), "a.tar.gz") and not nifti.is_nifti(b"\x89PNG", "a.png")
