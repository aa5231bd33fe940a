"""The audit finds pictures that were turned, cropped, written on or re-toned, and tells neighbours from copies."""

import io
import random

import numpy as np
import pytest
from changes import CHANGES, barred, captioned, changed, neck_cropped, watermarked
from copying import PHANTOMS, derived, encoded, jpeg, params, phantom
from matplotlib import colormaps
from PIL import Image

from stages.fetch.phantom.heads import slice_of
from stages.verify.confirm import framed_similarities, framed_starts
from stages.verify.decode import decode
from stages.verify.describe import describe
from stages.verify.frames import FRAMES, framed, view_of, views_in
from stages.verify.overlap import STARTS, Settled, best_starts, of_those_left_out, stand_ins
from stages.verify.study import examine_study

SEED, COUNT = 7002, 12  # never used to choose a threshold


def study(folder, training, testing, **changes):
    """Examine two lists of file bytes; class b holds what no one resembles."""
    for split, files in (("Training", training), ("Testing", testing)):
        for label in ("a", "b"):
            (folder / split / label).mkdir(parents=True)
        for number, data in enumerate(files):
            (folder / split / "a" / f"{number:03}.png").write_bytes(data)
        (folder / split / "b" / "x.png").write_bytes(encoded(phantom(1, 900 + len(split))))
    return examine_study(folder, params(**changes), 1)


SEVERAL = PHANTOMS.model_copy(update={"slices_per_head": 4})


def rows(found):
    frame = found.manifest
    return frame[frame.path.str.startswith("Testing/a")]


def originals(count=COUNT):
    return [phantom(SEED, number) for number in range(count)]


@pytest.mark.parametrize("name", CHANGES)
def test_changed_pictures_are_copies_of_their_originals_alone(tmp_path, name):
    pictures = originals()
    found = study(
        tmp_path, [encoded(grey) for grey in pictures], [changed(grey, name, f"{k}") for k, grey in enumerate(pictures)]
    )
    pairs = set(zip(found.pairs.path, found.pairs.twin, strict=True))
    right = {(f"Testing/a/{number:03}.png", f"Training/a/{number:03}.png") for number in range(COUNT)}
    assert pairs <= right
    assert len(pairs) >= FEWEST.get(name, 1.0) * COUNT


# Of phantoms, whose finest detail is noise; what is measured of real heads is in docs/audit.md.
FEWEST = {"turned_10": 0.5, "head_cropped_5": 0.75, "head_cropped_10": 0.5, "all_cropped_10": 0.75} | {
    "outline_cropped_10": 0.75,
    "bottom_cropped_20": 0.75,
    "neck_cropped_20": 0.75,
    "neck_cropped_30": 0.5,
    "caption_on_white": 0.75,
    "jet_as_grey": 0.75,
    "watermark": 0.9,
    "beside_another": 0.5,
    "turned_5": 0.9,
    "turned_3": 0.9,
    "turned_2": 0.9,
    "bottom_cropped_10": 0.9,
}


def ruled(grey):
    """Put a picture into a thin white frame, with a ruler below the head."""
    height, width = grey.shape
    wide = np.pad(grey, [(height // 20, height // 7), (width // 20, width // 20)])
    wide[-3:, ::2] = 255
    for at in np.linspace(0.3 * width, 0.8 * width, 12).astype(int):
        wide[-height // 20 :, at : at + 2] = 200
    return np.pad(wide, 2, constant_values=255)


def stretched(grey):
    wide = barred(grey, random.Random(3))
    return np.asarray(Image.fromarray(wide).resize((round(1.15 * wide.shape[1]), wide.shape[0])))


# How pictures of the public set differ that were missed before.
MISSED = {
    "white frame and ruler": ruled,
    "caption": lambda a: captioned(a, random.Random(1), 0, 230),
    "scale bar, stretched": stretched,
    "neck cropped, mirrored": lambda a: neck_cropped(a, 0.3)[:, ::-1],
}


@pytest.mark.parametrize("name", MISSED)
def test_kinds_of_copies_that_the_public_set_holds(tmp_path, name):
    pictures = originals()
    found = study(
        tmp_path, [encoded(grey) for grey in pictures], [encoded(jpeg(MISSED[name](grey), 85)) for grey in pictures]
    )
    twins = rows(found)
    assert twins.twin_of.tolist() == [f"Training/a/{number:03}.png" for number in range(COUNT)]
    kind, fewest = ("mirrored", 0.75) if "mirrored" in name else ("copy", 1)
    assert set(twins.twin_kind) <= {kind, "none"}
    assert (twins.twin_kind == kind).sum() >= fewest * COUNT


@pytest.mark.parametrize("name", ["turned_5", "bottom_cropped_20", "head_cropped_5"])
def test_a_changed_picture_is_found_from_either_side_and_mirrored(tmp_path, name):
    pictures = originals(6)
    found = study(
        tmp_path,
        [changed(grey, name, "1") for grey in pictures],
        [encoded(derived(grey, "mirrored_jpeg", k)) for k, grey in enumerate(pictures)],
    )
    assert rows(found).twin_kind.tolist() == ["mirrored"] * 6


@pytest.mark.parametrize("turned", [0, 1])
def test_a_watermark_hides_no_copy_and_makes_none(tmp_path, turned):
    """Next slices of heads, each with a watermark, beside the pictures that were marked, upright or on their side."""
    slices = [
        (slice_of(SEED, "pituitary", head, 0, SEVERAL), slice_of(SEED, "pituitary", head, 1, SEVERAL))
        for head in range(8)
    ]
    marked = [np.rot90(watermarked(one.grey, random.Random(7)), turned) for one, _ in slices]
    found = study(
        tmp_path, [encoded(each.grey) for pair in slices for each in pair], [encoded(grey) for grey in marked]
    )
    pairs = set(zip(found.pairs.path, found.pairs.twin, strict=True))
    assert pairs <= {(f"Testing/a/{k:03}.png", f"Training/a/{2 * k:03}.png") for k in range(8)}
    assert len(pairs) >= 7
    assert (found.pairs.similarity.astype(float) < params().verify.twins.similarity).any()


def test_index_finds_parts_of_pictures_too(tmp_path):
    pictures = originals(8)
    files = [encoded(grey) for grey in pictures], [changed(grey, "bottom_cropped_20", "1") for grey in pictures]
    twins = params().verify.twins.model_copy(update={"exact_up_to": 0})
    assert study(tmp_path, *files, twins=twins).manifest.twin_in_training.sum() == 8


def test_a_head_that_changes_little_is_a_neighbour_and_joins_no_group(tmp_path):
    # A slice that fades into another stands for the next slice of one head.
    one, two = (np.asarray(Image.fromarray(phantom(SEED, n)).resize((200, 200)), float) for n in (0, 8))
    steps = [encoded((one * (1 - t) + two * t).astype(np.uint8)) for t in (0, 0.3)]
    found = study(tmp_path, steps[:1], steps[1:])
    row = rows(found).iloc[0]
    assert (row.twin_kind, row.twin_in_training, row.neighbour_of) == ("none", 0, "Training/a/000.png")
    assert 0.6 <= float(row.neighbour_similarity) < 0.84
    assert found.neighbours[["path", "twin", "kind"]].to_numpy().tolist() == [
        ["Testing/a/000.png", "Training/a/000.png", "neighbour"]
    ]
    assert len(found.pairs) == 0
    assert found.manifest.group.is_unique
    assert found.integrity["neighbours"] == {"by_class": {"a": 1, "b": 0, "all": 1}, "without_copy": 1, "pairs": 1}
    assert found.integrity["leaked"]["by_kind"]["all"] == 0


def test_negative_is_described_as_its_original():
    grey = phantom(SEED, 1)
    one, two = describe(grey), describe(255 - grey)
    assert (one.descriptors[0].astype(int) * two.descriptors[0]).sum() > 0.95 * 640**2


def test_a_copy_is_framed_only_where_it_looks_different_or_lies_in_another_split():
    draw = np.random.default_rng(5)
    one, other = (np.rint(draw.normal(size=(16, 16)) * 44).clip(-127, 127).astype(np.int8) for _ in range(2))
    heads = np.stack([each.reshape(-1) for each in (one, one[:, ::-1], one, other, one.T)])
    inside = np.array([[1, 1, 0, 1, 1], [0, 0, 1, 0, 0]], bool)
    left, right = np.zeros(4, np.int64), np.arange(1, 5)
    assert stand_ins(heads, left, right, inside).tolist() == [0, 0, 2, 3, 4]


def test_two_pictures_of_a_chain_are_settled_only_where_both_have_a_direct_copy_in_the_others_split():
    inside = np.array([[1, 0, 0], [0, 1, 1]], bool)  # 0 lies in one split, 1 and 2 in the other
    direct = np.array([[0, 1, 0], [1, 1, 1]], bool)  # 2 has no direct copy where 0 lies
    settled = Settled(np.zeros(3, np.int64), direct, inside)
    one, two = np.array([0, 1, 0, 2, 1, 2]), np.array([1, 0, 2, 0, 2, 1])
    assert settled.between(one, two).tolist() == [True, True, False, False, True, True]
    assert not Settled(np.arange(3), direct, inside).between(one, two).any()


def test_a_frame_of_the_last_view_is_of_the_one_that_it_was_drawn_from():
    draw = np.random.default_rng(2)
    thumbs = draw.integers(0, 255, (3, 64, 64)).astype(np.uint8)
    for count in (1, 2, 3):
        found, view = framed(thumbs[:count]), view_of(np.arange(len(FRAMES)), count)
        assert view.max() == max(1, count - 1) and not found[view >= count].any()
        assert all(np.isin(found[at], thumbs[view[at]]).all() for at in np.nonzero(view < count)[0])
        assert np.array_equal(found[0], thumbs[0])  # the first is all of the head
    descriptors = np.zeros((2, 4, 9), np.int8)
    descriptors[0, 0] = descriptors[1, 2] = 1  # a view between may be without contrast
    assert views_in(descriptors).tolist() == [1, 3] and views_in(descriptors[1]) == 3


def test_a_picture_left_out_is_shown_what_its_stand_in_found_unless_it_found_that_itself():
    place, inside = np.array([0, 0, 2, 3]), np.array([[1, 1, 0, 0], [0, 0, 1, 1]], bool)  # 1 was left out for 0
    left, right = np.array([0, 0, 2]), np.array([1, 2, 3])  # 2 and 3 are copies in the other split, 2 of 0 as well
    direct = np.array([[1, 1, 1, 0], [1, 0, 1, 1]], bool)  # 1 has none there yet
    settled, alone = (Settled(groups, direct, inside) for groups in (np.zeros(4, np.int64), np.arange(4)))
    assert of_those_left_out(left, right, place, settled).tolist() == [[1, 2], [2, 1]]
    direct[1, 1] = True
    assert of_those_left_out(left, right, place, settled).tolist() == []
    assert of_those_left_out(left, right, place, alone).tolist() == [[1, 2], [2, 1]]


def test_each_of_several_test_images_that_look_alike_is_called_a_copy(tmp_path):
    originals = [phantom(SEED, number) for number in range(COUNT)]
    turned = [
        changed(grey, name, f"{number}")
        for name in ("turned_1", "turned_2", "turned_3")
        for number, grey in enumerate(originals)
    ]
    found = rows(study(tmp_path, [encoded(grey) for grey in originals], turned))
    assert found.twin_in_training.all()


def test_both_ways_round_are_tried_only_where_they_fit_about_as_well():
    draw = np.random.default_rng(3)
    one = draw.integers(-60, 60, (1, 16, 16))
    plain = np.zeros((1, 4, 256), np.int8)
    plain[0, 2] = one.reshape(-1)
    apart = np.repeat(one.reshape(1, 1, 256), 9, axis=1).astype(np.int8)
    alike = np.repeat((one + one[..., ::-1]).reshape(1, 1, 256) // 2, 9, axis=1).astype(np.int8)
    pair, frame, view, turn = best_starts(np.concatenate([apart, alike]), np.concatenate([plain, plain]))
    assert (
        list(zip(pair.tolist(), turn.tolist(), strict=True))
        == [(0, 0)] * STARTS + [(1, 0)] * STARTS + [(1, 1)] * STARTS
    )
    assert view.tolist() == [2] * 3 * STARTS and frame.tolist() == [*range(STARTS)] * 3  # the first of equals


def test_pictures_without_any_likeness_are_told_apart_at_the_first_step():
    pair, _, _, turn = best_starts(np.zeros((1, 9, 256), np.int8), np.zeros((1, 4, 256), np.int8))
    start, fit = framed_starts(*(np.zeros((len(pair), 16, 16), np.int8),) * 2, pair, turn)
    assert pair.tolist() == [0, 0] and start.shape == (0,) and fit.shape == (0, 4)
    nothing = np.zeros((0, 64, 64), np.int8)
    assert [len(each) for each in framed_similarities(nothing, nothing, fit, start, None)] == [0, 0]


def test_false_colours_are_undone_and_no_other_colours_are_taken_for_them():
    for number in range(8):
        grey = phantom(SEED, number)
        for quality in (60, 90):
            file = changed(grey, "jet", "", quality)
            found = decode(file, 10**6)
            assert np.corrcoef(found.compared.ravel(), grey.ravel())[0, 1] > 0.97
            assert np.array_equal(found.grey, Image.open(io.BytesIO(file)).convert("L"))  # what is trained on
        for name in ("hot", "viridis", "coolwarm", "gray", "hsv"):
            colours = (colormaps[name](grey)[..., :3] * 255 + 0.5).astype(np.uint8)
            assert decode(encoded(colours), 10**6).undone is None
