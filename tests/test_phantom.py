import hashlib
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError

from stages.fetch.phantom import PhantomParams, Planned, drawn, plan, tumour_box, write
from stages.fetch.phantom.anatomy import LEVELS, PLANES, SELLAR, outlines
from stages.fetch.phantom.copies import KINDS
from stages.fetch.phantom.draws import Draws
from stages.fetch.phantom.picture import CLASSES, picture
from stages.fetch.phantom.shapes import posed, smooth
from stages.fetch.phantom.tumour import placed
from stages.shell.errors import InputError

NAMES = list(CLASSES)


def settings(**changes):
    values = {
        "train_per_class": 6,
        "test_per_class": 4,
        "min_side": 90,
        "max_side": 130,
        "visibility": 1.0,
        "noise": 0.06,
        "copies": {"byte": 3, "recoded": 4, "contrast": 4, "mirrored": 4},
        "slices_per_head": 1,
    }
    return PhantomParams(**(values | changes))


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study")
    write(folder, NAMES, 7, settings(), 1)
    return folder


def test_written_files_are_the_planned_ones_and_read_back_exactly(study):
    planned = plan(NAMES, 7, settings())
    assert {file.path(7) for file in planned} == set(contents(study))
    for file in planned[::5]:
        with Image.open(study / file.path(7)) as image:
            assert image.mode in ("L", "RGB")
            assert np.array_equal(np.asarray(image.convert("L")), drawn(file, 7, settings()))


def test_grey_and_colour_files_both_occur(study):
    modes = set()
    for path in study.rglob("*.bmp"):
        with Image.open(path) as image:
            modes.add(image.mode)
    assert modes == {"L", "RGB"}


def test_bytes_are_the_same_for_one_and_three_workers_and_any_order_of_classes(study, tmp_path):
    write(tmp_path, NAMES[::-1], 7, settings(), 3)
    assert contents(tmp_path) == contents(study)


DIGEST = """
import os
import stages
os.environ.pop("NPY_DISABLE_CPU_FEATURES", None)
if {features!r}:
    os.environ["NPY_DISABLE_CPU_FEATURES"] = {features!r}
import hashlib
from numpy._core._multiarray_umath import __cpu_dispatch__, __cpu_features__
from stages.fetch.phantom import PhantomParams, drawn, plan
params = PhantomParams(train_per_class=6, test_per_class=4, min_side=90, max_side=130, visibility=1.0, noise=0.06,
                       copies=dict(byte=3, recoded=4, contrast=4, mirrored=4), slices_per_head=1)
digest = hashlib.sha256()
for file in plan({classes!r}, 7, params):
    digest.update(drawn(file, 7, params).tobytes())
print(sum(__cpu_features__[name] for name in __cpu_dispatch__), digest.hexdigest())
"""


def digest_without(features):
    code = DIGEST.format(features=features, classes=NAMES)
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=Path(__file__).parent.parent,
        env={**os.environ, "PYTHONPATH": "."},
    )
    return run.stdout.split()


def test_pixels_do_not_depend_on_the_processors_vector_instructions():
    from numpy._core._multiarray_umath import __cpu_dispatch__

    widest, narrowest = digest_without(""), digest_without(" ".join(__cpu_dispatch__))
    assert narrowest[0] == "0"  # of the instruction sets that this NumPy has kernels for
    assert widest[1] == narrowest[1]


@pytest.mark.parametrize("seed", [0, 1, 2**62])
def test_plan_has_the_asked_number_of_files_and_copies(seed):
    params = settings()
    planned = plan(NAMES, seed, params)
    for label in NAMES:
        assert sum(file.label == label and file.split == "Training" for file in planned) == 6
        assert sum(file.label == label and file.split == "Testing" and file.kind is None for file in planned) == 4
    for kind in KINDS:
        assert sum(file.kind == kind for file in planned) == getattr(params.copies, kind)
    assert len({file.path(seed) for file in planned}) == len(planned)


def test_each_copy_stands_in_the_test_set_and_shows_another_training_image_of_its_class():
    copies = [file for file in plan(NAMES, 7, settings()) if file.kind]
    assert all(file.split == "Testing" and file.source.split == "Training" for file in copies)
    assert all(file.source.label == file.label and file.source.kind is None for file in copies)
    assert len({file.source for file in copies}) == len(copies)
    assert {file.label for file in copies} == set(NAMES)


def test_only_planted_byte_copies_have_equal_bytes(study):
    by_bytes = {}
    for path, data in contents(study).items():
        by_bytes.setdefault(data, set()).add(path)
    found = {frozenset(group) for group in by_bytes.values() if len(group) > 1}
    planted = [file for file in plan(NAMES, 7, settings()) if file.kind == "byte"]
    truth = {frozenset((file.path(7), file.source.path(7))) for file in planted}
    assert found == truth


def test_copies_are_what_their_kind_says():
    params = settings(copies={"byte": 0, "recoded": 8, "contrast": 8, "mirrored": 8})
    for file in (file for file in plan(NAMES, 3, params) if file.kind):
        source, copy = drawn(file.source, 3, params).astype(int), drawn(file, 3, params).astype(int)
        if file.kind == "recoded":
            assert all(0.49 <= c / s <= 1.81 for c, s in zip(copy.shape, source.shape, strict=True))
            back = Image.fromarray(copy.astype(np.uint8)).resize(source.shape[::-1], Image.Resampling.BICUBIC)
            assert 0 < np.abs(np.asarray(back).astype(int) - source).mean() < 12
        if file.kind == "mirrored":
            assert np.abs(copy[:, ::-1] - source).mean() < 6 < np.abs(copy - source).mean()
        if file.kind == "contrast":
            levels = [copy[source == level] for level in np.unique(source)]
            assert all(np.ptp(level) == 0 for level in levels)  # a tone curve, and a rising one
            assert np.all(np.diff([level[0] for level in levels]) >= 0)
            assert np.abs(copy - source).mean() > 1


def test_names_tell_neither_copies_nor_order():
    planned = [
        file
        for file in plan(
            NAMES,
            7,
            settings(
                test_per_class=150,
                train_per_class=150,
                copies={"byte": 75, "recoded": 75, "contrast": 75, "mirrored": 75},
            ),
        )
        if file.split == "Testing"
    ]
    assert all(re.fullmatch(r"Testing/[a-z]+/[0-9a-f]{16}\.bmp", file.path(7)) for file in planned)
    ranked = sorted(planned, key=lambda file: file.path(7).rsplit("/", 1)[1])
    places = [place / len(ranked) for place, file in enumerate(ranked) if file.kind]
    assert 0.44 < np.mean(places) < 0.56  # uniform: 0.5 with a standard error of 0.017


def test_truth_is_not_written_to_disk(study):
    assert {path.suffix for path in study.rglob("*") if path.is_file()} == {".bmp"}


def test_more_images_leave_those_there_as_they_were():
    none = dict.fromkeys(KINDS, 0)
    few, many = (set(plan(NAMES, 7, settings(train_per_class=count, copies=none))) for count in (6, 9))
    assert few < many


@pytest.mark.parametrize("label", NAMES)
def test_seed_split_and_number_each_make_another_picture(label):
    pictures = [
        picture(*key, settings())
        for key in ((0, False, label, 0), (1, False, label, 0), (0, True, label, 0), (0, False, label, 1))
    ]
    assert len({image.tobytes() for image in pictures}) == 4


@pytest.mark.parametrize("label", NAMES)
def test_sizes_stay_within_bounds_and_vary(label):
    sides = {side for number in range(12) for side in picture(0, False, label, number, settings()).shape}
    assert min(sides) >= 90 and max(sides) <= 130 and len(sides) > 4


@pytest.mark.parametrize("label", NAMES)
def test_borders_are_dark_and_the_head_is_not(label):
    for number in range(6):
        image = picture(0, False, label, number, settings(noise=0.0))
        assert np.median(image[0]) < 10 and image.max() > 100


@pytest.mark.parametrize("plane", PLANES)
def test_tumours_grow_where_their_kind_does(plane):
    for number in range(12):
        draws = Draws(5, number)
        grid = posed(draws, (200, 180), 0.5, 85.0, 0.1, False)
        head = outlines(draws, grid, plane, SELLAR[plane])
        depths = {}
        for kind in ("glioma", "meningioma"):
            mass = placed(draws, grid, head, kind)
            row, column = np.unravel_index(np.argmin(np.abs(grid.x - mass.x) + np.abs(grid.y - mass.y)), grid.shape)
            depths[kind] = -head.cerebrum[row, column] / mass.radius
        assert 0.3 < depths["meningioma"] < 0.8  # on the dura: its edge crosses that of the brain
        assert depths["glioma"] > 0.15  # within the brain, also in the narrow lobes at the base
        mass = placed(draws, grid, head, "pituitary")
        assert abs(mass.x - head.sella[0]) <= 0.02 and mass.radius < 0.2


def test_every_level_of_every_plane_can_be_outlined():
    for plane in PLANES:
        for level in LEVELS[plane]:
            draws = Draws(1)
            head = outlines(draws, posed(draws, (120, 120), 0.5, 50.0, 0.1, True), plane, level)
            share = float((head.brain < 0).sum() / (head.head < 0).sum())
            assert 0.2 < share < 0.9, (plane, level)


def test_tumours_change_the_picture_less_where_visibility_is_low():
    def shown(visibility):
        params = settings(noise=0.0, visibility=visibility)
        return np.stack([picture(0, False, "meningioma", number, params)[:90, :90] for number in range(8)]).astype(int)

    faint = shown(1e-6)
    assert 0 < np.abs(shown(0.5) - faint).mean() < np.abs(shown(1.0) - faint).mean()


def test_smooth_fields_keep_a_constant_and_their_bounds():
    assert np.abs(smooth(np.full((6, 5), 0.5, np.float32), 31, 44) - 0.5).max() < 1e-6
    field = smooth(Draws(0).lattice(9, 7), 31, 44)
    assert field.shape == (31, 44) and field.dtype == np.float32 and np.abs(field).max() < 1
    assert np.abs(np.diff(field, axis=0)).max() < 0.4


def test_gaussian_pairs_are_standard_and_independent():
    first, second = Draws(3).gaussian_pair(300, 300)
    assert abs(first.mean()) < 0.02 and abs(first.std() - 1) < 0.01 and abs((first * second).mean()) < 0.02


def test_an_unknown_class_is_one_clear_line_and_nothing_is_written(tmp_path):
    with pytest.raises(InputError, match=r"'astrocytoma'.*known are glioma") as raised:
        write(tmp_path, ["glioma", "astrocytoma"], 0, settings(), 1)
    assert "\n" not in str(raised.value) and not list(tmp_path.iterdir())


def test_a_class_named_twice_is_refused():
    with pytest.raises(InputError, match="twice"):
        plan(["glioma", "glioma"], 0, settings())


@pytest.mark.parametrize("byte, classes", [(25, NAMES), (7, ["glioma"])])
def test_more_copies_than_training_images_are_refused(byte, classes):
    none = {"recoded": 0, "contrast": 0, "mirrored": 0}
    with pytest.raises(InputError, match=f"{byte} copies of"):
        plan(classes, 0, settings(copies={"byte": byte, **none}))
    assert plan(classes, 0, settings(copies={"byte": byte - 1, **none}))


@pytest.mark.parametrize(
    "change",
    [
        {"min_side": 140},
        {"noise": -0.1},
        {"train_per_class": 0},
        {"max_side": 99999},
        {"copies": {"byte": -1, "recoded": 0, "contrast": 0, "mirrored": 0}},
        {"typo": 1},
    ],
)
def test_parameters_out_of_bounds_are_refused(change):
    with pytest.raises(ValidationError):
        settings(**change)


HEADS = {"slices_per_head": 4, "copies": {"byte": 2, "recoded": 2, "contrast": 2, "mirrored": 2}}


def head_of(file):
    return re.fullmatch(r"(?P<patient>[^_]+)_.*", file.path(7).rsplit("/", 1)[1])["patient"]


def test_a_head_has_several_slices_of_one_class_and_its_name_in_theirs():
    planned = plan(NAMES, 7, settings(**HEADS))
    heads = {}
    for file in planned:
        heads.setdefault(head_of(file), []).append(file)
    assert len({file.path(7) for file in planned}) == len(planned) == 4 * 10 + 8
    assert all(len({file.label for file in slices}) == 1 for slices in heads.values())
    assert sorted(len([file for file in slices if not file.kind]) for slices in heads.values()) == [2] * 4 + [4] * 8
    assert any(len({file.split for file in slices}) == 2 for slices in heads.values())
    assert all(head_of(file) == head_of(file.source) for file in planned if file.kind)


def test_slices_of_a_head_are_alike_and_never_the_same(tmp_path):
    params = settings(**HEADS, noise=0.0)
    shown = {
        place: drawn(Planned("Training", "glioma", 0, head=0, place=place), 7, params).astype(float)
        for place in range(4)
    }
    other = drawn(Planned("Training", "glioma", 0, head=1, place=0), 7, params).astype(float)
    assert len({image.shape for image in shown.values()}) == 1

    def alike(one, two):
        rows, columns = (min(sides) for sides in zip(one.shape, two.shape, strict=True))
        return np.corrcoef(one[:rows, :columns].ravel(), two[:rows, :columns].ravel())[0, 1]

    within = [alike(shown[one], shown[two]) for one in shown for two in shown if one < two]
    assert alike(shown[0], other) < min(within) and max(within) < 0.98
    write(tmp_path, NAMES, 7, params, 1)
    assert len(set(contents(tmp_path).values())) == 4 * 10 + 8 - 2  # but for byte copies


def test_the_tumour_is_where_its_box_says_and_a_mirrored_copy_s_box_is_mirrored():
    params = settings(**HEADS, noise=0.0)
    none = params.model_copy(update={"visibility": 1e-6})
    planned = plan(NAMES, 7, params)
    for file in planned[::3]:
        box = tumour_box(file, 7, params)
        assert (box is None) == (file.label == "notumor")
        if box and not file.kind:
            image, plain = drawn(file, 7, params).astype(int), drawn(file, 7, none).astype(int)
            height, width = image.shape
            rows, columns = np.nonzero(np.abs(image - plain) > 40)
            assert rows.min() >= box.top * height - 3 and rows.max() <= box.bottom * height + 3
            assert columns.min() >= box.left * width - 3 and columns.max() <= box.right * width + 3
            assert 0.02 < box.right - box.left < 0.8
    for file in (file for file in planned if file.kind == "mirrored" and file.label != "notumor"):
        own, source = tumour_box(file, 7, params), tumour_box(file.source, 7, params)
        assert (own.left, own.right, own.top) == (1 - source.right, 1 - source.left, source.top)


def test_the_tumour_is_largest_in_the_middle_slices():
    params = settings(slices_per_head=9)
    area = np.zeros(9)
    for head in range(6):
        for place in range(9):
            box = tumour_box(Planned("Training", "meningioma", 0, head=head, place=place), 7, params)
            area[place] += (box.right - box.left) * (box.bottom - box.top)
    assert area[4] > 1.5 * area[0] and area[4] > 1.5 * area[8]


def test_with_one_slice_a_head_nothing_has_changed():
    """Written down before there were heads with several slices."""
    digest = hashlib.sha256()
    for file in plan(NAMES, 7, settings()):
        digest.update(file.path(7).encode() + drawn(file, 7, settings()).tobytes())
    assert digest.hexdigest() == "304729bd622c272c754c94d779aeb3863ad0bd05263e4608821558739fb3c185"
