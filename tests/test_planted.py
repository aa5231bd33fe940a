"""The audit finds each copy that the phantoms' generator planted, at seeds that chose nothing, and no other.

And slices of one planted patient are no copies, but tell what a split by slice is worth.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

from stages.dialect import parse
from stages.evaluate.baselines import nearest
from stages.evaluate.by_patient import whole_patients
from stages.evaluate.clusters import intervals
from stages.evaluate.intervals import wilson
from stages.fetch.phantom import PhantomParams, plan, write
from stages.verify.schema import Params
from stages.verify.study import Examined, examine_study

VALUES = parse((ROOT / "params.yaml").read_text())
CALLED = {"byte": "byte", "recoded": "copy", "contrast": "copy", "mirrored": "mirrored"}  # in the manifest


@pytest.mark.parametrize("seed", [4242, 90210])
def test_every_planted_copy_is_found_with_its_kind_and_no_other_pair(tmp_path: Path, seed: int):
    settings = VALUES["fetch"]["phantom"] | {"train_per_class": 24, "test_per_class": 8}
    phantom = PhantomParams.model_validate(settings | {"copies": dict.fromkeys(CALLED, 8)})
    planned = plan(VALUES["classes"], seed, phantom)
    write(tmp_path, VALUES["classes"], seed, phantom, 1)
    params = Params.model_validate({key: VALUES[key] for key in Params.model_fields})
    found = examine_study(tmp_path, params, 1)
    kinds = found.manifest.set_index("path")[["twin_kind", "twin_in_training"]]
    planted = [file for file in planned if file.source]
    assert len(planted) == 32
    for file in planted:
        row = kinds.loc[file.path(seed)]
        assert (row.twin_kind, row.twin_in_training) == (CALLED[file.kind], 1), file
    # two files are a pair if and only if both show one training image
    shown = {file.path(seed): (file.source or file).path(seed) for file in planned}
    pairs = found.pairs[["path", "twin"]].to_numpy().tolist()
    assert pairs and all(shown[one] == shown[two] for one, two in pairs)
    assert {file.path(seed) for file in planted} <= {path for pair in pairs for path in pair}
    clean = kinds.loc[[file.path(seed) for file in planned if file.split == "Testing" and not file.source]]
    assert (clean.twin_in_training == 0).all()


@pytest.fixture(scope="module")
def heads(tmp_path_factory: pytest.TempPathFactory) -> Examined:
    """Eight slices each of nine heads a class, examined; no copies planted."""
    folder = tmp_path_factory.mktemp("heads")
    none = {"copies": dict.fromkeys(CALLED, 0), "slices_per_head": 8, "train_per_class": 48, "test_per_class": 24}
    phantom = PhantomParams.model_validate(VALUES["fetch"]["phantom"] | none)
    write(folder, VALUES["classes"], 271828, phantom, 1)
    return examine_study(folder, Params.model_validate({key: VALUES[key] for key in Params.model_fields}), 1)


def patients(found: Examined) -> pd.Series:
    return found.manifest["path"].str.extract(r"([^/_]+)_[^/]*$")[0]


def test_slices_of_one_head_are_neighbours_and_no_copies(heads: Examined):
    assert heads.pairs.empty and heads.manifest["group"].is_unique
    of = dict(zip(heads.manifest["path"], patients(heads), strict=True))
    same = [of[one] == of[two] for one, two in zip(heads.neighbours["path"], heads.neighbours["twin"], strict=True)]
    assert len(same) > 100 and np.mean(same) > 0.95
    # heads lie on both sides of the split that a study of slices has
    testing = heads.manifest["split"] == "Testing"
    assert set(patients(heads)[testing]) <= set(patients(heads)[~testing])


def test_a_split_by_slice_scores_higher_than_one_by_patient(heads: Examined):
    labels = heads.manifest["label"].map(VALUES["classes"].index).to_numpy()
    patient, descriptors = patients(heads), heads.descriptors[:, 0]

    def cross_validated(folds) -> np.ndarray:
        """Return what the most similar picture of the other folds says of each."""
        told = np.zeros_like(labels)
        for train, test in folds:
            told[test] = nearest(descriptors[train], labels[train], descriptors[test])
        return told

    by_slice = cross_validated(StratifiedKFold(3, shuffle=True, random_state=0).split(labels, labels))
    by_patient = cross_validated(StratifiedGroupKFold(3, shuffle=True, random_state=0).split(labels, labels, patient))
    assert (by_slice == labels).mean() > 0.9
    assert (by_patient == labels).mean() < 0.65
    # what the split by patient finds is less sure than images alone would have it
    given = np.eye(4)[by_patient]
    found = intervals(labels, given, pd.factorize(patient)[0], VALUES["classes"], seed=0, bootstrap=500)
    low, high = wilson(int((by_patient == labels).sum()), len(labels))
    assert found["accuracy_high"] - found["accuracy_low"] > 1.3 * (high - low)
    table = pd.DataFrame(given, columns=[f"p_{name}" for name in VALUES["classes"]])
    table = table.assign(label=heads.manifest["label"], patient=patient, group=heads.manifest["group"])
    assert whole_patients(table, VALUES["classes"])["n"] == 36


@pytest.mark.slow
def test_no_two_slices_are_copies_at_the_default_study_s_size(tmp_path: Path):
    settings = VALUES["fetch"]["phantom"] | {"copies": dict.fromkeys(CALLED, 0), "slices_per_head": 10}
    write(tmp_path, VALUES["classes"], 31415, PhantomParams.model_validate(settings), 2)
    found = examine_study(tmp_path, Params.model_validate({key: VALUES[key] for key in Params.model_fields}), 2)
    assert len(found.manifest) == 920 and found.pairs.empty
