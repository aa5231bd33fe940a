"""The audit finds each copy that the phantoms' generator planted, at seeds that chose nothing, and no other."""

from __future__ import annotations

from pathlib import Path

import pytest
from conftest import ROOT

from stages.dialect import parse
from stages.fetch.phantom import PhantomParams, plan, write
from stages.verify.schema import Params
from stages.verify.study import examine_study

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
