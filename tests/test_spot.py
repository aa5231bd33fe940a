"""Forged trails, weights and stored states are found by training a few stretches again; and how often."""

from __future__ import annotations

import csv
import doctest
import json
import shutil
from math import comb
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn
from training import chosen, trainer

from commands import locked, retrain, spot, stretches
from commands.stretches import chains, chance_missed, draw
from stages import runtime
from stages.backbone.network import write_tensors
from stages.files import write_csv
from stages.shell.errors import InputError
from stages.train import checkpoint, trail
from stages.train.checkpoint import Store

SEEDS = range(20)
OPTIONS = {"epochs": 9, "train.trail_steps": 2, "train.trail_checkpoints": 2}  # 5 steps an epoch, 24 rows


def test_examples_in_the_docstrings_run():
    assert not any(doctest.testmod(module).failed for module in (stretches, spot, retrain, locked))


# --- the draw


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("count", [1, 2, 3, 5, 12, 100])
def test_as_many_stretches_as_asked_for_are_drawn_each_chain_first_once(seed: int, count: int):
    lengths = [8, 0, 3, 1]
    drawn = draw(lengths, count, seed)
    assert sum(drawn) == min(count, sum(lengths)) and all(n <= most for n, most in zip(drawn, lengths, strict=True))
    assert count > 3 or max(drawn) == 1
    assert count < 3 or [n > 0 for n in drawn] == [True, False, True, True]
    assert drawn == draw(lengths, count, seed)


def test_chains_cover_every_stretch_once():
    steps = [*range(0, 45, 2), 45]
    found = chains(steps, [0, 30, 44])
    assert [step for chain in found for step in chain] == steps[1:] and found[2] == [45]


@pytest.mark.parametrize(
    ("starts", "false", "count"), [(3, 1, 1), (3, 1, 2), (3, 2, 1), (3, 1, 3), (8, 3, 4), (15, 1, 5), (15, 3, 5)]
)
def test_the_chance_of_missing_a_forgery_is_as_the_formula_says(starts: int, false: int, count: int):
    """`false` of the chains are made up from their first stretch on; those of five folds are 15."""
    n = 4000
    missed = sum(not any(draw([9] * starts, count, seed)[:false]) for seed in range(n)) / n
    chance = chance_missed(starts, false, count)
    assert missed == pytest.approx(chance, abs=4 * (chance * (1 - chance) / n) ** 0.5 + 1e-12)


@pytest.mark.parametrize(("s", "count", "honest"), [(3, 5, 1), (3, 5, 2), (3, 5, 3), (3, 12, 3), (6, 12, 2)])
def test_the_chance_of_missing_one_who_really_trained_the_first_stretches_is_as_the_page_says(
    s: int, count: int, honest: int
):
    """docs/trail.md: behind one of s starting points, `honest` stretches are true and the next is made up."""
    n, more = 4000, count - s
    missed = sum(draw([99] * s, count, seed)[0] <= honest for seed in range(n)) / n
    chance = min(1.0, sum(comb(more, j) * (1 / s) ** j * (1 - 1 / s) ** (more - j) for j in range(honest)))
    assert missed == pytest.approx(chance, abs=4 * (chance * (1 - chance) / n) ** 0.5 + 1e-12)


# --- real training of a small network


@pytest.fixture(scope="module")
def true(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study's folder as training leaves it: trail, stored states, weights."""
    folder = tmp_path_factory.mktemp("true")
    return train(folder / "study", folder / "store", **OPTIONS)


def train(folder: Path, scratch: Path, **options: object) -> Path:
    import pandas as pd

    runtime.exact(2, "fp32")
    run, store = trainer(chosen(**options)), Store(scratch, "a" * 64)
    outcome = run.fit(store)
    (folder / "models/trail").mkdir(parents=True)
    store.hand_over(trail.stored_at(run.done, 9 * run.steps, 2, 2), folder / "models/trail")
    write_csv(folder / "plots/trail.csv", pd.DataFrame(run.progress.trail, columns=trail.COLUMNS))
    write_tensors(folder / "models/model.safetensors", plain(outcome), "{}")
    return folder


def plain(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous() for name, tensor in network.state_dict().items()}


def checked(folder: Path, count: int, seed: int, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Check as `brainmri replay --spot` does, but for the small network and in this process."""
    monkeypatch.chdir(folder)
    options = chosen(**OPTIONS)
    rows = retrain.read_trail(retrain.files().trail)
    begun = trainer(options)
    faults = list(retrain.gaps(rows, begun.steps, options)) or list(retrain.false_files(rows, begun, options))
    starts = [0, *sorted(int(path.stem) for path in Path("models/trail").iterdir())]
    behind = chains(sorted(rows), starts)
    drawn = draw([len(ends) for ends in behind], count, seed)
    picked = {start: ends[:n] for start, ends, n in zip(starts, behind, drawn, strict=True) if n}
    found = [] if faults else list(retrain.retrained(lambda: trainer(options), stored, rows, picked))
    return {"faults": faults, "stretches": found}


def stored(step: int) -> Any:
    return checkpoint.stored(Path("models/trail") / checkpoint.stored_name(step))


@pytest.fixture
def study(true: Path, tmp_path: Path) -> Path:
    shutil.copytree(true, tmp_path / "study")
    return tmp_path / "study"


def forge_rows(study: Path, first: int, last: int = 45) -> None:
    """Make up the hashes of all rows from step `first` on."""
    rows = list(retrain.read_trail(study / "plots/trail.csv").values())
    for row in rows:
        if first <= int(row["step"]) <= last:
            row |= {part: f"{int(row['step']):064x}" for part in ("weights", "average", "optimizer")}
    rewrite(study, rows)


def rewrite(study: Path, rows: list[dict[str, str]]) -> None:
    with (study / "plots/trail.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, trail.COLUMNS, lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)


def forge_state(study: Path, step: int) -> None:
    """Put another state in the place of a stored one, and its hashes into the trail's row."""
    path = study / "models/trail" / checkpoint.stored_name(step)
    state, progress = checkpoint.stored(path)
    state = {name: tensor + 1 if tensor.is_floating_point() else tensor for name, tensor in state.items()}
    write_tensors(path, state, json.dumps({"progress": {"epoch": progress.epoch, "step": progress.step}}))
    rows = retrain.read_trail(study / "plots/trail.csv")
    rows[step] |= trail.hashes(state)
    rewrite(study, list(rows.values()))


def forge_weights(study: Path) -> None:
    path = study / "models/model.safetensors"
    save_file({name: tensor + 1 for name, tensor in load_file(path).items()}, path)


def forge_weights_and_last_row(study: Path) -> None:
    forge_weights(study)
    rows = retrain.read_trail(study / "plots/trail.csv")
    rows[45]["average"] = trail.digest(load_file(study / "models/model.safetensors"))
    rewrite(study, list(rows.values()))


def forge_last_third(study: Path) -> None:
    """Rows, stored states and weights from two thirds of the run on, all agreeing with each other."""
    forge_rows(study, 31)
    forge_state(study, 44)
    forge_weights_and_last_row(study)


def forge_last_third_with_its_start(study: Path) -> None:
    forge_last_third(study)
    forge_state(study, 30)


def forge_everything(study: Path) -> None:
    forge_rows(study, 1)
    forge_last_third_with_its_start(study)


@pytest.mark.parametrize("count", [1, 3, 5, 100])
def test_a_true_trail_holds(study: Path, monkeypatch: pytest.MonkeyPatch, count: int):
    result = checked(study, count, 0, monkeypatch)
    assert spot.holds(result) and len(result["stretches"]) == min(count, 23)


FORGERIES = [forge_last_third, forge_last_third_with_its_start, forge_everything, forge_weights_and_last_row]


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("forge", FORGERIES, ids=lambda forge: forge.__name__)
def test_what_was_forged_to_agree_is_caught_by_five_stretches(study: Path, monkeypatch, forge, seed: int):
    forge(study)
    result = checked(study, 5, seed, monkeypatch)
    assert result["faults"] == [] and not spot.holds(result)
    first = spot.first_differing(result)
    wanted = {forge_everything: 2, forge_weights_and_last_row: 45}.get(forge, 32)
    assert first is not None and first["end"] == wanted


def test_fewer_stretches_than_starting_points_miss_a_forgery_as_often_as_the_formula_says(study: Path, monkeypatch):
    forge_weights_and_last_row(study)
    caught = [not spot.holds(checked(study, 2, seed, monkeypatch)) for seed in range(60)]
    assert 60 * (1 - chance_missed(3, 1, 2)) == pytest.approx(sum(caught), abs=4 * (60 * 2 / 9) ** 0.5)


@pytest.mark.parametrize("seed", SEEDS)
def test_forged_weights_are_caught_without_training(study: Path, monkeypatch, seed: int):
    forge_weights(study)
    result = checked(study, 5, seed, monkeypatch)
    assert result["stretches"] == [] and "models/model.safetensors are not the weights" in result["faults"][0]


def without_a_row(study: Path) -> None:
    rows = retrain.read_trail(study / "plots/trail.csv")
    rewrite(study, [row for step, row in rows.items() if step != 32])


def without_the_end(study: Path) -> None:
    rows = retrain.read_trail(study / "plots/trail.csv")
    rewrite(study, [row for step, row in rows.items() if step <= 40])


def without_a_state(study: Path) -> None:
    (study / "models/trail/00000030.safetensors").unlink()


def another_start(study: Path) -> None:
    forge_rows(study, 0, 0)


def another_place(study: Path) -> None:
    path = study / "models/trail/00000030.safetensors"
    write_tensors(path, checkpoint.stored(path)[0], '{"progress": {"epoch": 3, "step": 0}}')


@pytest.mark.parametrize(
    ("harm", "line"),
    [
        (without_a_row, "does not have the rows 0, 2, 4, ... 45"),
        (without_the_end, "ends at step 40: expected 45, the end of 9 epochs of 5 steps"),
        (without_a_state, "models/trail has 00000044.safetensors: expected 00000030.safetensors, 00000044.safetensors"),
        (another_start, "the starting weights are not those"),
        (another_place, "models/trail/00000030.safetensors is not the state of which the trail has the hashes"),
        (lambda study: forge_rows(study, 30, 30), "models/trail/00000030.safetensors is not the state"),
    ],
)
def test_files_that_do_not_belong_together_are_told_without_training(study: Path, monkeypatch, harm, line: str):
    harm(study)
    result = checked(study, 5, 0, monkeypatch)
    assert result["stretches"] == [] and line in result["faults"][0] and spot.exit_status(result | UNCHANGED) == 2


UNCHANGED = {"changed_code": [], "same": False}


HEADER = ",".join(trail.COLUMNS)


@pytest.mark.parametrize("text", ["", f"{HEADER}\n", "step\n1\n", f"{HEADER}\nx,,,,,,\n"])
def test_a_damaged_trail_is_one_line(tmp_path: Path, text: str):
    (tmp_path / "trail.csv").write_text(text)
    with pytest.raises(InputError, match="no trail: expected a table"):
        retrain.read_trail(tmp_path / "trail.csv")


def test_where_two_trails_part_is_the_first_step_that_differs(study: Path):
    one = spot.trail_of(study)
    forge_rows(study, 31)
    assert spot.parting(one, spot.trail_of(study)) == {"step": 32, "differs": ["weights", "average", "optimizer"]}
    assert spot.parting(one, one) is None and spot.parting(one, {}) is None and spot.trail_of(study / "models") == {}
