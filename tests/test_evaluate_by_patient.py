"""Scores by patient, against cases worked by hand and simulated test sets whose truth is known."""

from __future__ import annotations

import doctest

import numpy as np
import pandas as pd
import pytest
from scipy.stats import bootstrap
from sklearn import metrics as sk

from stages.evaluate import clusters
from stages.evaluate.by_patient import among, whole_patients, with_patients
from stages.evaluate.intervals import wilson
from stages.evaluate.scores import headline, scores_by_group, sensitivities
from stages.evaluate.tables import given_by, numbers

ABC = ["a", "b", "c"]
SETTINGS = {"seed": 0, "bootstrap": 200, "bins": 10}

# Ann: three slices of a, two of them called b, but faintly; Bob: two of b, right; c has no patients: copies in groups.
ROWS = [
    ("1", "a", "Ann", "known", 1, [0.4, 0.5, 0.1]),
    ("2", "a", "Ann", "known", 2, [0.4, 0.5, 0.1]),
    ("3", "a", "Ann", "known", 3, [0.9, 0.1, 0.0]),
    ("4", "b", "Bob", "new", 4, [0.1, 0.9, 0.0]),
    ("5", "b", "Bob", "new", 5, [0.3, 0.4, 0.3]),
    ("6", "c", "", "unknown", 6, [0.5, 0.3, 0.2]),
    ("7", "c", "", "unknown", 6, [0.1, 0.1, 0.8]),
    ("8", "c", "", "unknown", 8, [0.1, 0.2, 0.7]),
]


def table(rows=ROWS, leaked="none"):
    found = pd.DataFrame(rows, columns=["path", "label", "patient", "patient_in_training", "group", "given"])
    given = np.array(found.pop("given").tolist())
    found["predicted"] = np.array(ABC)[given.argmax(axis=1)]
    return found.assign(leaked=leaked, **{f"p_{name}": given[:, place] for place, name in enumerate(ABC)})


def scored(predicted, apart=(), **changes):
    labels, given = numbers(predicted["label"], ABC), given_by(predicted, ABC)
    leaked = (predicted["leaked"] != "none").to_numpy()
    before = scores_by_group(labels, given, leaked, ABC, **(SETTINGS | changes))
    return before, with_patients(before, predicted, ABC, list(apart), **(SETTINGS | changes))


def test_nothing_is_added_where_no_patient_is_known_and_no_class_apart():
    for predicted in (table().assign(patient=""), table().drop(columns=["patient", "patient_in_training", "group"])):
        before, after = scored(predicted)
        assert after == before
        assert set(headline(after)) <= {"accuracy", "f1", "auc", "log_loss", "clean_accuracy", "leaked"}


def test_no_figure_by_slice_is_changed_where_patients_are_known():
    before, after = scored(table(), ["c"])
    for name, group in before.items():
        assert {key: value for key, value in after[name].items() if key != "by_patient"} == group


def test_a_patient_is_told_by_the_mean_of_all_slices():
    found = whole_patients(table(), ABC)
    # Ann: (0.4 + 0.4 + 0.9) / 3 of a against (0.5 + 0.5 + 0.1) / 3 of b: right, though two of three slices are wrong
    assert (found["n"], found["accuracy"], found["sensitivity"]) == (2, 1.0, {"a": 1.0, "b": 1.0})
    assert (found["accuracy_low"], found["accuracy_high"]) == tuple(round(end, 6) for end in wilson(2, 2))
    assert (found["images"], found["images_accuracy"]) == (5, 0.6)
    assert (found["unknown_images"], found["stand_ins"]) == (3, 2)


def test_a_patient_of_two_classes_is_of_that_of_most_slices():
    rows = [*ROWS, ("9", "c", "Bob", "new", 9, [0.0, 1.0, 0.0])]
    assert whole_patients(table(rows), ABC)["sensitivity"] == {"a": 1.0, "b": 1.0}


def test_images_are_scored_by_what_training_has_of_their_patient():
    _, found = scored(table())
    assert [found[name]["n"] for name in ("known_patients", "new_patients", "unknown_patients")] == [3, 2, 3]
    assert found["known_patients"]["accuracy"] == pytest.approx(1 / 3, abs=1e-6)
    assert found["new_patients"]["accuracy"] == 1.0
    _, none = scored(table().assign(patient_in_training="known"))
    assert none["new_patients"] == {"n": 0}


def test_classes_set_apart_leave_the_others_scored_four_way_and_among_themselves():
    rows = [*ROWS, ("9", "a", "Cid", "new", 9, [0.3, 0.1, 0.6])]
    _, found = scored(table(rows), ["c"])
    assert (found["others"]["n"], found["others_alone"]["n"]) == (6, 6)
    assert found["others"]["accuracy"] == pytest.approx(3 / 6)
    assert found["others_alone"]["accuracy"] == pytest.approx(4 / 6, abs=1e-6)  # 0.3 of a and 0.1 of b: a
    assert set(found["others"]["sensitivity"]) == {"a", "b"}
    assert among(np.array([[0.3, 0.1, 0.6], [0.0, 0.0, 1.0]]), [True, True, False]) == pytest.approx(
        np.array([[0.75, 0.25, 0.0], [0.5, 0.5, 0.0]])
    )


def test_what_is_listed_stays_few_whatever_the_number_of_classes():
    _, found = scored(table())
    listed = headline(found)
    assert {"accuracy_low", "accuracy_high", "patient_accuracy"} - set(listed) <= {"accuracy_low", "accuracy_high"}
    for n in (3, 7, 8, 10, 40):
        group = found["all"] | {"sensitivity": {str(number): 0.5 for number in range(n)}}
        assert len(listed) + len(sensitivities(found | {"all": group})) <= 16


def test_images_are_one_cluster_by_patient_or_copy_also_through_a_chain():
    assert doctest.testmod(clusters).failed == 0
    assert clusters.joined(["", "", ""], ["", "", ""]).tolist() == [0, 1, 2]
    assert clusters.joined(["A", "", "B", "A"], ["1", "2", "2", "9"]).tolist() == [0, 1, 1, 0]
    assert clusters.joined([], []).tolist() == []
    # "1" of one column is not "1" of the other
    assert clusters.joined(["1", ""], ["", "1"]).tolist() == [0, 1]


def drawn(random, patients, spread, classes=3, slices=(2, 20), mean=2.0):
    """Return a test set: each patient's own chance of a right slice is logistic(mean + spread * normal)."""
    n = random.integers(*slices, patients * classes)
    chance = 1 / (1 + np.exp(-(mean + spread * random.standard_normal(patients * classes))))
    cluster = np.repeat(np.arange(patients * classes), n)
    labels = cluster // patients
    right = random.random(len(labels)) < chance[cluster]
    predicted = np.where(right, labels, (labels + random.integers(1, classes, len(labels))) % classes)
    return labels, np.eye(classes)[predicted], cluster


def intervals(labels, given, cluster, bootstrap=300, seed=0):
    return clusters.intervals(labels, given, cluster, ABC, seed=seed, bootstrap=bootstrap)


@pytest.mark.parametrize("patients", [12, 40])
def test_intervals_by_patient_cover_the_truth_in_200_test_sets_where_those_by_slice_do_not(patients):
    random = np.random.default_rng(16)
    truth = (1 / (1 + np.exp(-(2 + 1.2 * np.random.default_rng(0).standard_normal(1_000_000))))).mean()
    by_patient = by_slice = 0
    for _ in range(200):
        labels, given, cluster = drawn(random, patients, 1.2)
        found = intervals(labels, given, cluster)
        by_patient += found["accuracy_low"] <= truth <= found["accuracy_high"]
        low, high = wilson(int((labels == given.argmax(axis=1)).sum()), len(labels))
        by_slice += low <= truth <= high
    assert 180 <= by_patient <= 196
    assert by_slice < 160


def test_with_one_image_a_patient_they_are_those_by_image():
    random = np.random.default_rng(3)
    labels, given, _ = drawn(random, 300, 0.0, slices=(1, 2))
    found = intervals(labels, given, np.arange(len(labels)), 2000)
    low, high = wilson(int((labels == given.argmax(axis=1)).sum()), len(labels))
    assert (found["accuracy_low"], found["accuracy_high"]) == pytest.approx((low, high), abs=0.006)


def test_of_many_clusters_the_interval_is_scipys_bca():
    values = np.random.default_rng(5).exponential(size=400)
    draws = np.random.default_rng(6).choice(values, (5000, 400)).mean(axis=1)
    found = clusters.expanded_bca(draws, values.mean(), (values.sum() - values) / 399, np.zeros(400, int))
    theirs = bootstrap((values,), np.mean, n_resamples=5000, rng=np.random.default_rng(7)).confidence_interval
    assert found == pytest.approx((theirs.low, theirs.high), abs=0.008)  # of a width of 0.2


def test_more_slices_of_the_same_patients_make_no_narrower_interval():
    labels, given, cluster = drawn(np.random.default_rng(2), 15, 1.0)
    once = intervals(labels, given, cluster, 1000)
    twice = intervals(*(np.concatenate([part, part]) for part in (labels, given, cluster)), 1000)
    assert twice == once


def test_where_every_patient_is_right_the_interval_is_no_point():
    labels, cluster = np.repeat([0, 1, 2], 40), np.repeat(np.arange(12), 10)
    found = intervals(labels, np.eye(3)[labels], cluster)
    assert (found["accuracy_low"], found["accuracy_high"]) == wilson(12, 12)
    assert found["sensitivity_low"]["a"] == wilson(4, 4)[0] and "f1_low" not in found and "auc_low" not in found


def test_one_patient_of_a_class_gives_that_class_and_the_whole_no_interval():
    labels, given, cluster = drawn(np.random.default_rng(2), 15, 1.0)
    cluster = np.where(labels == 1, 999, cluster)
    found = intervals(labels, given, cluster)
    assert set(found["sensitivity_low"]) == {"a", "c"} and "accuracy_low" not in found


def test_intervals_depend_on_the_seed_and_on_no_name_or_number_of_a_cluster():
    labels, given, cluster = drawn(np.random.default_rng(4), 10, 1.0)
    one = intervals(labels, given, cluster)
    assert intervals(labels, given, cluster * 7 + 3) == one
    assert intervals(labels, given, cluster, seed=1) != one
    assert intervals(labels, given, cluster, bootstrap=0) == {}


@pytest.mark.parametrize("case", ["one image", "one class", "a class of mixed patients", "no image"])
def test_odd_test_sets_are_no_error_and_no_warning(case):
    rows = {
        "one image": ROWS[:1],
        "one class": ROWS[:3],
        "a class of mixed patients": [*ROWS[:5], ("6", "c", "Bob", "new", 6, [0.1, 0.8, 0.1])],
        "no image": ROWS[5:],
    }[case]
    _, found = scored(table(rows), ["c"])
    for group in found.values():
        for end in group.get("by_patient", {}).values():
            assert isinstance(end, dict) or np.isfinite(end)


def test_f1_and_auc_of_the_whole_lie_within_their_intervals():
    random = np.random.default_rng(8)
    labels, hard, cluster = drawn(random, 20, 1.0)
    given = hard * 0.6 + random.dirichlet([1, 1, 1], len(labels)) * 0.4
    found = intervals(labels, given, cluster, 500)
    predicted = given.argmax(axis=1)
    f1, auc = sk.f1_score(labels, predicted, average="macro"), sk.roc_auc_score(labels, given, multi_class="ovr")
    assert found["f1_low"] < f1 < found["f1_high"] and found["auc_low"] < auc < found["auc_high"]
    sensitivity = sk.recall_score(labels, predicted, average=None)
    for place, name in enumerate(ABC):
        assert found["sensitivity_low"][name] < sensitivity[place] < found["sensitivity_high"][name]
