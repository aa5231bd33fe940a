"""Nearest training images, against brute force; the threshold of what is unusual."""

from __future__ import annotations

import numpy as np
import pytest

from stages.evaluate import likeness
from stages.verify.describe import UNIT
from stages.verify.turns import TURNS


def random_descriptors(n: int, views: int, seed: int) -> np.ndarray:
    found = np.random.default_rng(seed).normal(size=(n, views, 256))
    return np.rint(found * UNIT / np.linalg.norm(found, axis=2, keepdims=True)).astype(np.int8)


def test_nearest_is_that_of_brute_force_over_views_and_turns():
    asked, stored = random_descriptors(7, 3, 0), random_descriptors(11, 3, 1)
    asked[0, 1:] = 0
    stored[4, 2] = 0
    found = likeness.nearest(asked, likeness.store(stored))
    for number, picture in enumerate(asked):
        cosines = [
            max(
                float(turn(view.reshape(16, 16)).astype(float).ravel() @ other.astype(float)) / UNIT**2
                for view in picture
                if view.any()
                for other in candidate
                for turn in TURNS
            )
            for candidate in stored
        ]
        assert found.row[number] == int(np.argmax(cosines))
        assert found.cosine[number] == pytest.approx(max(cosines), abs=1e-4)


def test_a_mirrored_picture_is_found_whole():
    stored = random_descriptors(5, 1, 2)
    asked = stored[3].reshape(1, 1, 16, 16)[..., ::-1].reshape(1, 1, 256)
    found = likeness.nearest(asked, likeness.store(stored))
    assert found.row[0] == 3 and found.cosine[0] == pytest.approx(1, abs=0.02)


def test_nothing_is_like_an_empty_picture_or_an_empty_store():
    empty = np.zeros((2, 3, 256), np.int8)
    stored = random_descriptors(3, 3, 3)
    for asked, kept in ((empty, stored), (stored, empty)):
        found = likeness.nearest(asked, likeness.store(kept))
        assert found.row.tolist() == [-1] * len(asked) and not found.cosine.any()
    assert likeness.lowest_usual(stored, likeness.store(empty)) is None
    assert likeness.lowest_usual(empty[:0], likeness.store(stored)) is None


def test_the_threshold_is_low_among_the_validation_images():
    stored = random_descriptors(50, 1, 4)
    val = random_descriptors(200, 1, 5)
    cosines = likeness.nearest(val, likeness.store(stored)).cosine
    lowest = likeness.lowest_usual(val, likeness.store(stored))
    assert lowest is not None and 0 < (cosines < lowest).mean() <= 0.01
