"""Every score against a case worked by hand, and what is said where a score is not defined."""

from __future__ import annotations

import math
import warnings

import numpy as np
import pytest
from sklearn import metrics as sk

from stages.evaluate import calibration, intervals
from stages.evaluate.scores import scores, scores_by_group

ABC = ["a", "b", "c"]

# Ten images of three classes. Predicted by the largest probability; the confusion matrix, rows true a, b, c, is
#   3 1 0
#   0 2 1
#   1 0 2
LABELS = np.array([0, 0, 0, 0, 1, 1, 1, 2, 2, 2])
GIVEN = np.array(
    [
        [0.8, 0.1, 0.1],
        [0.7, 0.2, 0.1],
        [0.6, 0.3, 0.1],
        [0.3, 0.6, 0.1],
        [0.1, 0.8, 0.1],
        [0.2, 0.7, 0.1],
        [0.1, 0.3, 0.6],
        [0.1, 0.1, 0.8],
        [0.2, 0.1, 0.7],
        [0.5, 0.1, 0.4],
    ]
)


def score(labels, given, classes=None, **changes):
    settings = {"seed": 0, "bootstrap": 50, "bins": 10} | changes
    return scores(np.asarray(labels), np.asarray(given, float), classes or ABC[: np.shape(given)[1]], **settings)


def exactly(value):
    return pytest.approx(value, abs=5.1e-7)  # six decimals are written


@pytest.fixture(scope="module")
def found():
    return score(LABELS, GIVEN)


def test_accuracy_is_right_over_all(found):
    assert (found["n"], found["accuracy"]) == (10, 0.7)


def test_wilson_interval_by_its_formula(found):
    p, n, z = 0.7, 10, 1.959963984540054
    centre = (p + z * z / (2 * n)) / (1 + z * z / n)
    reach = z / (1 + z * z / n) * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n))
    assert found["accuracy_low"] == exactly(centre - reach)
    assert found["accuracy_high"] == exactly(centre + reach)


def test_scores_of_each_class_by_hand(found):
    assert found["sensitivity"] == {"a": exactly(3 / 4), "b": exactly(2 / 3), "c": exactly(2 / 3)}
    assert found["specificity"] == {"a": exactly(5 / 6), "b": exactly(6 / 7), "c": exactly(6 / 7)}
    assert found["precision_of"] == {"a": exactly(3 / 4), "b": exactly(2 / 3), "c": exactly(2 / 3)}
    assert found["f1_of"] == {"a": exactly(3 / 4), "b": exactly(2 / 3), "c": exactly(2 / 3)}


def test_macro_scores_are_means_over_classes(found):
    mean = (3 / 4 + 2 / 3 + 2 / 3) / 3
    for key in ("precision", "recall", "f1", "balanced_accuracy"):
        assert found[key] == exactly(mean)
    assert found["balanced_accuracy"] == exactly(sk.balanced_accuracy_score(LABELS, GIVEN.argmax(1)))


def test_matthews_correlation_by_hand(found):
    # (right * n - sum of row sum * column sum) / sqrt((n^2 - sum of column sums^2) (n^2 - sum of row sums^2))
    assert found["mcc"] == exactly((7 * 10 - (4 * 4 + 3 * 3 + 3 * 3)) / (100 - (16 + 9 + 9)))


def test_auc_counts_pairs_in_the_right_order(found):
    areas = {}
    for number, name in enumerate(ABC):
        inside, outside = GIVEN[number == LABELS, number], GIVEN[number != LABELS, number]
        order = [1.0 if x > y else 0.5 if x == y else 0.0 for x in inside for y in outside]
        areas[name] = sum(order) / len(order)
    assert areas["a"] == 23 / 24  # 0.3 of the fourth image lies below the 0.5 of the last
    assert found["auc_of"] == {name: exactly(area) for name, area in areas.items()}
    assert found["auc"] == exactly(sum(areas.values()) / 3)
    assert found["auc"] == exactly(sk.roc_auc_score(LABELS, GIVEN, multi_class="ovr"))


def test_log_loss_and_brier_by_hand(found):
    of_truth = [0.8, 0.7, 0.6, 0.3, 0.8, 0.7, 0.3, 0.8, 0.7, 0.4]
    assert found["log_loss"] == exactly(-sum(math.log(p) for p in of_truth) / 10)
    squares = [
        (p - (label == number)) ** 2 for row, label in zip(GIVEN, LABELS, strict=True) for number, p in enumerate(row)
    ]
    assert found["brier"] == exactly(sum(squares) / 10)


def test_calibration_error_by_hand():
    # confidence 0.9 twice, both right; 0.6 three times, one right: (2 * |1 - 0.9| + 3 * |1/3 - 0.6|) / 5
    given = [[0.9, 0.1], [0.1, 0.9], [0.6, 0.4], [0.6, 0.4], [0.4, 0.6]]
    assert score([0, 1, 0, 1, 0], given)["ece"] == exactly((0.2 + 0.8) / 5)


def test_ranges_of_confidence_are_closed_above():
    table = calibration.reliability(np.array([0, 0]), np.array([[0.6, 0.4], [1.0, 0.0]]), 5)
    assert table["n"].tolist() == [0, 0, 1, 0, 1]  # 0.6 belongs to (0.4, 0.6], 1 to (0.8, 1]


def test_probability_zero_of_the_true_class_costs_what_eight_decimals_can_tell():
    assert score([1], [[1.0, 0.0]])["log_loss"] == exactly(-math.log(1e-8 / (1 + 1e-8)))


def test_two_classes():
    found = score([0, 0, 1, 1], [[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    assert (found["auc"], found["auc_of"]) == (1.0, {"a": 1.0, "b": 1.0})
    assert found["sensitivity"] == {"a": 0.5, "b": 1.0} and found["specificity"] == {"a": 1.0, "b": 0.5}
    assert found["brier"] == exactly((2 * 0.1**2 + 2 * 0.6**2 + 2 * 0.2**2 + 2 * 0.3**2) / 4)


def test_weighted_auc_is_scikit_learns():
    random = np.random.default_rng(1)
    positive, score_ = random.random(80) < 0.4, random.integers(0, 12, 80) / 12  # with many ties
    weights = random.integers(0, 4, (5, 80))
    ours = intervals.weighted_auc(positive, score_, weights)
    theirs = [sk.roc_auc_score(positive, score_, sample_weight=row) for row in weights]
    assert ours == pytest.approx(theirs, abs=1e-12)


def test_bootstrap_interval_depends_on_the_seed_alone_and_holds_the_score():
    random = np.random.default_rng(2)
    labels = random.integers(0, 3, 300)
    given = random.dirichlet([1, 1, 1], 300) + np.eye(3)[labels] * 0.3
    given /= given.sum(axis=1, keepdims=True)
    one, two, other = (score(labels, given, seed=seed, bootstrap=400) for seed in (5, 5, 6))
    assert one == two
    assert one["auc_low"] != other["auc_low"]
    assert one["auc_low"] < one["auc"] < one["auc_high"]
    assert one["auc_of_low"]["b"] < one["auc_of"]["b"] < one["auc_of_high"]["b"]
    # Hanley and McNeil 1982: a standard error in closed form, from the AUC and the two counts
    area, n, m = one["auc_of"]["a"], int((labels == 0).sum()), int((labels != 0).sum())
    q1, q2 = area / (2 - area), 2 * area**2 / (1 + area)
    error = math.sqrt((area * (1 - area) + (n - 1) * (q1 - area**2) + (m - 1) * (q2 - area**2)) / (n * m))
    width = one["auc_of_high"]["a"] - one["auc_of_low"]["a"]
    assert width == pytest.approx(2 * 1.96 * error, rel=0.25)


def test_resampling_in_blocks_gives_as_many_draws(monkeypatch):
    monkeypatch.setattr(intervals, "CELLS", 25)
    assert intervals.bootstrap_aucs(LABELS, GIVEN, [0, 1, 2], 7, seed=0).shape == (7, 3)


def test_no_resamples_leave_out_the_intervals_alone():
    found = score(LABELS, GIVEN, bootstrap=0)
    assert "auc_low" not in found and "auc_of_high" not in found and "auc" in found


def test_a_class_without_test_images_has_no_sensitivity_and_no_part_in_the_means():
    found = score([0, 0, 1, 1], [[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.1, 0.8, 0.1], [0.1, 0.8, 0.1]])
    assert found["sensitivity"] == {"a": 0.5, "b": 1.0}
    assert found["specificity"] == {"a": 1.0, "b": 1.0, "c": 0.75}
    assert found["precision_of"] == {"a": 1.0, "b": 1.0, "c": 0.0}
    assert set(found["auc_of"]) == {"a", "b"}
    assert (found["recall"], found["precision"]) == (0.75, 1.0)


def test_a_class_never_predicted_has_no_precision_and_counts_as_0_in_the_mean():
    found = score([0, 0, 1, 1], [[0.8, 0.2], [0.8, 0.2], [0.6, 0.4], [0.7, 0.3]])
    assert found["precision_of"] == {"a": 0.5} and found["f1_of"] == {"a": exactly(2 / 3), "b": 0.0}
    assert found["precision"] == 0.25
    assert "mcc" not in found and found["accuracy"] == 0.5


def test_test_images_of_one_class_have_no_auc_and_no_correlation():
    found = score([0, 0], [[0.8, 0.2], [0.4, 0.6]])
    assert not {"auc", "auc_of", "auc_low", "mcc"} & set(found)
    assert found["specificity"] == {"b": 0.5}


def test_one_image():
    found = score([1], [[0.25, 0.75]])
    assert (found["n"], found["accuracy"], found["sensitivity"]) == (1, 1.0, {"b": 1.0})
    assert found["accuracy_low"] == exactly(1 / (1 + 1.959963984540054**2))


def test_groups_are_split_by_leak_and_an_empty_one_says_only_so():
    settings = {"seed": 0, "bootstrap": 20, "bins": 10}
    leaked = np.arange(10) < 4
    found = scores_by_group(LABELS, GIVEN, leaked, ABC, **settings)
    assert [found[name]["n"] for name in ("all", "clean", "leaked")] == [10, 6, 4]
    assert found["clean"] == scores(LABELS[4:], GIVEN[4:], ABC, **settings)
    assert scores_by_group(LABELS, GIVEN, leaked & False, ABC, **settings)["leaked"] == {"n": 0}
    assert scores_by_group(LABELS, GIVEN, leaked | True, ABC, **settings)["clean"] == {"n": 0}


def test_nothing_undefined_and_no_warning_whatever_the_network_says():
    def numbers(value):
        return [n for part in value.values() for n in numbers(part)] if isinstance(value, dict) else [value]

    random = np.random.default_rng(3)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for n in (1, 2, 3, 5, 40):
            for _ in range(20):
                labels = random.integers(0, random.integers(1, 5), n)
                given = np.round(random.dirichlet([0.05] * 4, n), 8)
                assert np.isfinite(numbers(score(labels, given, list("abcd")))).all()


def test_temperature_is_found_again_where_it_is_known():
    random = np.random.default_rng(4)
    true = random.normal(0, 2, (4000, 4))
    chances = calibration.probabilities(true.astype(np.float32), 1.0)
    labels = np.array([random.choice(4, p=row / row.sum()) for row in chances])
    assert calibration.fit_temperature((true * 3).astype(np.float32), labels) == pytest.approx(3, rel=0.06)


def test_temperature_is_the_best_of_a_fine_grid():
    random = np.random.default_rng(5)
    labels = random.integers(0, 3, 200)
    logits = (random.normal(0, 2, (200, 3)) + 2 * np.eye(3)[labels]).astype(np.float32)

    def loss(temperature):
        return sk.log_loss(labels, np.exp(logits / temperature) / np.exp(logits / temperature).sum(1, keepdims=True))

    grid = np.arange(0.5, 4, 0.005)
    best = grid[np.argmin([loss(temperature) for temperature in grid])]
    assert calibration.fit_temperature(logits, labels) == pytest.approx(best, abs=0.006)


def test_temperature_changes_no_prediction_and_ends_at_its_bound_where_all_are_right():
    random = np.random.default_rng(6)
    logits = random.normal(0, 3, (500, 4)).astype(np.float32)
    hot, cold = (calibration.probabilities(logits, temperature).argmax(1) for temperature in (4.0, 1.0))
    assert (hot == cold).all()
    assert calibration.fit_temperature(logits, logits.argmax(1)) == pytest.approx(0.05, abs=1e-3)
    assert calibration.fit_temperature(logits[:0], logits[:0].argmax(1)) == 1.0


def test_an_image_alone_has_the_same_probabilities_as_among_others():
    logits = np.random.default_rng(7).normal(0, 5, (333, 11)).astype(np.float32)
    whole = calibration.probabilities(logits, 1.37)
    assert all((calibration.probabilities(logits[n : n + 1], 1.37)[0] == whole[n]).all() for n in range(333))
    assert whole.sum(axis=1) == pytest.approx(np.ones(333), abs=1e-7)


def test_logits_that_overflow_exp_give_probabilities():
    given = calibration.probabilities(np.array([[3e4, -3e4], [90, 90]], np.float32), 0.05)
    assert given.tolist() == [[1, 0], [0.5, 0.5]]
