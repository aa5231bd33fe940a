"""bench/audit_changes.py: what counts as found."""

from __future__ import annotations

import argparse
from typing import Any

import numpy as np
import pandas as pd
import pytest
from changes import CHANGES, outline
from conftest import script
from copying import phantom


@pytest.fixture(scope="module")
def bench() -> Any:
    return script("audit_changes")


def found(*pairs: tuple[str, str, str]) -> argparse.Namespace:
    """What the audit found: pairs (path, twin, kind) of files of Training and Testing."""
    lines = [(one, two, one.split("/")[0], two.split("/")[0], kind) for one, two, kind in pairs]
    paths = [*TRUTH, *TRUTH.values(), "Testing/other/1.png"]
    manifest = pd.DataFrame({"path": paths, "twin_in_training": 0})
    return argparse.Namespace(
        manifest=manifest, pairs=pd.DataFrame(lines, columns=["path", "twin", "split", "twin_split", "kind"])
    )


TRUTH = {f"Testing/all/negative-{name}.jpg": f"Training/all/{name}.png" for name in "abc"}
TEST, TRAIN = [*TRUTH], [*TRUTH.values()]


@pytest.mark.parametrize(
    ("pairs", "recall", "false"),
    [
        ([], 0.0, 0),
        ([(TEST[0], TRAIN[0], "copy")], 0.3333, 0),
        ([(TEST[0], TRAIN[1], "copy")], 0.0, 1),
        # a and b are one picture: the table names the copy of the first alone
        ([(TEST[0], TRAIN[0], "copy"), (TRAIN[0], TRAIN[1], "pixel"), (TEST[0], TEST[1], "byte")], 0.6667, 0),
        # they are not: that their changed pictures are equal says nothing of b's original
        ([(TEST[0], TRAIN[0], "copy"), (TEST[0], TEST[1], "byte")], 0.3333, 0),
        ([(TEST[0], TRAIN[0], "copy"), (TRAIN[0], TRAIN[1], "copy"), (TEST[0], TEST[1], "copy")], 0.3333, 0),
    ],
)
def test_a_copy_is_found_by_a_direct_pair_of_it_or_of_an_equal_file(bench: Any, pairs: Any, recall: float, false: int):
    said = bench.measured(found(*pairs), TRUTH, ["negative"])
    assert said["recall"] == {"negative": recall} and said["false_pairs_across"] == false


def test_the_outline_holds_the_head_also_where_a_tumour_outshines_it():
    dark = phantom(4109, 333)
    box = outline(dark)
    head = dark > 0.1 * np.percentile(dark, 99)
    rows, columns = (np.nonzero(head.mean(axis=axis) > 0.1)[0] for axis in (1, 0))
    assert box[0] <= columns[0] and box[1] <= rows[0] and box[2] > columns[-1] and box[3] > rows[-1]
    shown = CHANGES["outline_cropped_5"](dark, None)  # type: ignore[arg-type]  it draws nothing
    assert shown.shape == pytest.approx((0.9 * (box[3] - box[1]), 0.9 * (box[2] - box[0])), abs=2)
