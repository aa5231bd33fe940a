"""What knows no anatomy, on cases worked by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image

from stages.evaluate.baselines import baselines, borders, file_facts, linear, majority, nearest, score


def test_majority_is_the_commonest_training_class():
    assert majority(np.array([2, 0, 2, 1]), 3).tolist() == [2, 2, 2]


def test_nearest_neighbour_sees_through_a_mirror_and_a_turn():
    random = np.random.default_rng(0)
    train = random.integers(-60, 61, (20, 256)).astype(np.int8)
    squares = train.reshape(-1, 16, 16)
    test = np.stack([squares[7][:, ::-1], np.rot90(squares[11])]).reshape(2, 256)
    assert nearest(train, np.arange(20), test).tolist() == [7, 11]


def test_linear_model_learns_what_is_linear_and_survives_a_single_class():
    x = np.random.default_rng(0).normal(size=(200, 3))
    labels = (x @ [1.0, -2.0, 0.5] > 0).astype(np.int64)
    assert (linear(x[:150], labels[:150], x[150:]) == labels[150:]).mean() > 0.9
    assert linear(x, np.full(200, 3), x[:2]).tolist() == [3, 3]


def test_file_facts_hold_what_stands_in_the_file(tmp_path: Path):
    picture = Image.fromarray(np.zeros((10, 30), np.uint8))
    for name, options in {"a.jpg": {"quality": 30}, "b.jpg": {"quality": 95}, "c.png": {}}.items():
        picture.save(tmp_path / name, **options)
    low, high, png = file_facts(["a.jpg", "b.jpg", "c.png"], tmp_path)
    assert low[0] == np.log((tmp_path / "a.jpg").stat().st_size) and low[2] == np.log(30)
    assert low[5] > high[5] > 0 == png[5], "the mean of the JPEG's table"
    assert png[-1] == 0 and low[-1] == 1


def test_border_is_the_outermost_two_pixels():
    image = np.zeros((1, 6, 6), np.uint8)
    image[0, 2:4, 2:4] = 255
    assert borders(image).shape == (1, 32) and borders(image).max() == 0


def test_scores_are_told_apart_by_leak_and_an_empty_group_is_left_out():
    found = score(np.array([0, 1, 1]), np.array([0, 1, 0]), np.array([True, False, False]))
    assert [found[name]["accuracy"] for name in ("all", "clean", "leaked")] == [0.666667, 0.5, 1.0]
    assert "leaked" not in score(np.array([0]), np.array([0]), np.array([False]))


def test_planted_copies_are_what_the_nearest_neighbour_gets_right(tiny_study: Path):
    index = pd.read_csv(tiny_study / "data/prepared/index.csv", keep_default_na=False)
    found = baselines({"": index}, sorted(index["label"].unique()), tiny_study / "data")
    assert found["nearest_neighbour"]["leaked"]["accuracy"] == 1.0
    assert found["majority_class"]["all"]["accuracy"] == 0.25
