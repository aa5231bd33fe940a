"""The audit finds every planted copy, in whatever way it was made, and calls nothing else a twin."""

import numpy as np
import pytest
from copying import WAYS, derived, encoded, params, phantom
from PIL import Image

from stages.verify.study import examine_study

SEED, COUNT = 7001, 24  # never used to choose a threshold


def study(folder, training, testing, **changes):
    """Write two lists of file bytes as a study of one class ("b" holds what no one resembles), and examine it."""
    for split, files in (("Training", training), ("Testing", testing)):
        for label in ("a", "b"):
            (folder / split / label).mkdir(parents=True)
        for number, data in enumerate(files):
            (folder / split / "a" / f"{number:03}.png").write_bytes(data)
        (folder / split / "b" / "x.png").write_bytes(encoded(phantom(1, 900 + len(split))))
    return examine_study(folder, params(**changes), 1)


def rows(found, split):
    frame = found.manifest
    return frame[(frame.split == split) & (frame.label == "a")]


@pytest.mark.parametrize("way", WAYS)
def test_planted_copies_are_all_found_and_nothing_else(tmp_path, way):
    pictures = [phantom(SEED, number) for number in range(COUNT)]
    found = study(
        tmp_path,
        [encoded(grey) for grey in pictures],
        [encoded(derived(grey, way, number)) for number, grey in enumerate(pictures[: COUNT // 2])],
    )
    kinds = rows(found, "Testing")
    assert kinds.twin_kind.tolist() == [WAYS[way][1]] * (COUNT // 2)
    assert kinds.twin_of.tolist() == [f"Training/a/{number:03}.png" for number in range(COUNT // 2)]
    assert kinds.twin_in_training.tolist() == [1] * (COUNT // 2)
    assert rows(found, "Training").twin_in_testing.tolist() == [1] * (COUNT // 2) + [0] * (COUNT // 2)
    assert len(found.pairs) == COUNT // 2


def test_different_heads_are_no_twins(tmp_path):
    found = study(
        tmp_path,
        [encoded(phantom(SEED, number)) for number in range(100, 130)],
        [encoded(phantom(SEED, number)) for number in range(130, 160)],
    )
    assert len(found.pairs) == 0
    assert (rows(found, "Testing").twin_of != "").any()  # the nearest is named all the same


def test_equal_bytes_and_equal_pixels_are_told_apart(tmp_path):
    grey = phantom(SEED, 0)
    found = study(
        tmp_path, [encoded(grey)], [encoded(grey), encoded(grey, "BMP"), encoded(np.stack([grey] * 3, axis=-1))]
    )
    assert rows(found, "Testing").twin_kind.tolist() == ["byte", "pixel", "pixel"]
    assert found.integrity["leaked"]["by_kind"] == {
        "byte": 1,
        "pixel": 2,
        "copy": 0,
        "mirrored": 0,
        "rotated": 0,
        "all": 3,
    }
    assert found.integrity["byte_groups"] == 1


def test_leaked_means_a_direct_pair_never_a_chain(tmp_path):
    # A picture that fades into another: neighbours in the chain are near, its ends are not.
    one, two = (np.asarray(Image.fromarray(phantom(SEED, n)).resize((200, 200)), float) for n in (0, 4))
    steps = [encoded((one * (1 - t) + two * t).astype(np.uint8)) for t in np.linspace(0, 1, 9)]
    found = study(tmp_path, steps[:-1], steps[-1:], similarity=0.5, block=0.0)
    last = rows(found, "Testing").iloc[0]
    direct = found.pairs[(found.pairs.path == last.path) | (found.pairs.twin == last.path)]
    group = found.manifest[found.manifest.group == last.group].path.tolist()
    assert "Training/a/000.png" in group, "the chain joins the group"
    assert "Training/a/000.png" not in direct.twin.tolist(), "but its end is no direct twin"


FLAT = {
    "black": np.zeros((64, 64)),
    "black_larger": np.zeros((80, 80)),
    "one_colour": np.full((64, 64), 130),
    "one_high": np.arange(90)[None] * 2,
    "one_wide": np.arange(90)[:, None] * 2,
    "one_pixel": np.full((1, 1), 9),
    "tiny": np.arange(25).reshape(5, 5) * 9,
    "tiny_other": np.arange(25).reshape(5, 5)[::-1] * 9,
    "noise_on_black": np.random.default_rng(0).integers(0, 3, (90, 90)),
    "noise_on_black_too": np.random.default_rng(1).integers(0, 3, (90, 90)),
}


def test_pictures_that_show_nothing_are_not_twins_by_accident(tmp_path):
    files = [encoded(levels.astype(np.uint8)) for levels in FLAT.values()]
    other = [
        encoded(levels.astype(np.uint8), "BMP")
        for name, levels in FLAT.items()
        if name in ("black", "one_colour", "one_pixel")
    ]
    found = study(tmp_path, files, other)
    assert len(found.pairs) == 0
    assert (found.manifest.status == "ok").all()


def test_equal_files_count_even_where_they_show_nothing(tmp_path):
    black = encoded(np.zeros((50, 50), np.uint8))
    assert rows(study(tmp_path, [black], [black]), "Testing").twin_kind.tolist() == ["byte"]


def test_conflicting_labels_are_counted(tmp_path):
    grey = phantom(SEED, 5)
    for split in ("Training", "Testing"):
        for label in ("a", "b"):
            (tmp_path / split / label).mkdir(parents=True)
            (tmp_path / split / label / "other.png").write_bytes(
                encoded(phantom(SEED, 40 + len(split) + 10 * ord(label)))
            )
    (tmp_path / "Testing/a/one.png").write_bytes(encoded(grey))
    (tmp_path / "Training/b/two.png").write_bytes(encoded(grey[:, ::-1]))
    conflicts = examine_study(tmp_path, params(), 1).integrity["label_conflicts"]
    assert conflicts == {"groups": 1, "pairs": 1}
