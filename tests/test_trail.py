"""The trail: the same wherever the same bits are made, and stored where it says."""

from __future__ import annotations

import doctest
from pathlib import Path

import pytest
import torch
from training import chosen, pictures, trainer

from stages import runtime
from stages.train import trail
from stages.train.checkpoint import Nowhere, Progress, Store, stored
from stages.train.trail import digest, may_end, spread, stored_at

MINE = "a" * 64
TRAIL = {"train.trail_steps": 2, "train.trail_checkpoints": 2}


def state() -> dict[str, torch.Tensor]:
    return {"b": torch.arange(24.0).reshape(1, 2, 3, 4), "a": torch.tensor(7), "none": torch.empty(0, 3)}


def test_examples_in_the_docstrings_run():
    assert doctest.testmod(trail).failed == 0


def test_a_digest_does_not_depend_on_order_or_memory_layout():
    same = dict(reversed(state().items()))
    same["b"] = same["b"].contiguous(memory_format=torch.channels_last)
    assert not same["b"].is_contiguous() and digest(same) == digest(state())
    assert digest(state()) == "481a33a5690ca47e6e0f1da1e4b91af256a18d90f77244ae7e14937600bd16a8"


@pytest.mark.parametrize(
    "other",
    [
        {"b": torch.arange(24.0).reshape(2, 1, 3, 4)},
        {"b": torch.arange(24).reshape(1, 2, 3, 4)},
        {"a": torch.tensor(8)},
        {"a": torch.tensor([7])},
        {"more": torch.tensor(0.0)},
        {"none": torch.empty(3, 0)},
    ],
)
def test_another_value_shape_dtype_or_name_is_another_digest(other: dict[str, torch.Tensor]):
    assert digest(state() | other) != digest(state())


@pytest.mark.parametrize("patience", [0, 1, 3])
@pytest.mark.parametrize("every", [1, 2, 3, 7, 10, 50])
@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_whenever_a_run_ends_what_it_stored_holds_the_states_that_its_trail_names(
    every: int, count: int, patience: int
):
    """The rule by which a run stores states as it goes, played through for every end that patience may give it."""
    steps, epochs = 4, 9
    for best in range(epochs):  # the epoch after which nothing gets better
        end = min(epochs, best + patience + 1) * steps if patience else epochs * steps
        there: set[int] = set()
        for step in range(every, end, every):
            so_far = min(best, step // steps - 1)
            planned = spread(epochs * steps, every, count)
            if step in planned or (count and may_end(step, every, steps, epochs, patience, so_far)):
                there = {each for each in there if each in planned} | {step}
        wanted = stored_at(end, epochs * steps, every, count)
        assert set(wanted) <= there, (best, end)
        assert not count or end <= every or wanted[-1] == (end - 1) // every * every


RECIPES = {
    "plain": {},
    "no average": {"train.ema_decay": 0},
    "best": {"train.select_best": True},
    "patience": {"train.patience": 1, "lr": 0.2},
    "frozen first": {"train.freeze_epochs": 1.5},
    "noise and dropout": {"augment.noise": 0.2, "train.dropout": 0.5},
}


def ran(folder: Path, **changes: object):
    """Return a trainer that ran to its end, and the store that it filled."""
    runtime.exact(2, "fp32")
    run, store = trainer(chosen(**(TRAIL | changes))), Store(folder, MINE)
    run.fit(store)
    return run, store


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_stretch_trained_again_from_a_stored_state_gives_the_rows_of_the_trail(tmp_path: Path, recipe: str):
    run, store = ran(tmp_path, **RECIPES[recipe])
    rows = {int(row["step"]): row for row in run.progress.trail}
    assert list(rows) == [*range(0, run.done, 2), run.done] and rows[0]["train_loss"] == ""
    starts = [0, *stored_at(run.done, 3 * run.steps, 2, 2)]
    assert len(starts) == 3
    for start in starts:
        again = trainer(chosen(**(TRAIL | RECIPES[recipe])))
        if start:
            again.restore(*stored(store.folder / f"trail/{start:08d}.safetensors"))
        first, *found = again.retrain(min(start + 6, run.done))
        assert list(first) == trail.COLUMNS and {**first, "train_loss": ""} == {**rows[start], "train_loss": ""}
        assert found and found == [rows[int(row["step"])] for row in found]


@pytest.mark.parametrize("recipe", RECIPES)
def test_the_last_row_names_the_weights_that_are_kept(tmp_path: Path, recipe: str):
    run, _ = ran(tmp_path, **RECIPES[recipe])
    outcome = (run.average.network if run.average else run.network).state_dict()
    assert trail.kept(run.progress.trail[-1]) == digest(outcome)


def test_a_run_stopped_at_any_step_has_the_trail_of_one_left_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("BRAINMRI_CHECKPOINT_STEPS", "1")
    run, store = ran(tmp_path / "alone")
    files = {path.name: path.read_bytes() for path in (store.folder / "trail").iterdir()}

    class Stopped(Exception):
        pass

    class Dying(Store):
        lives = 0

        def save(self, tensors: dict[str, torch.Tensor], progress: Progress) -> None:
            super().save(tensors, progress)
            self.lives -= 1
            if not self.lives:
                raise Stopped

    for stop in range(1, run.done, 2):
        dying = Dying(tmp_path / str(stop), MINE)
        dying.lives = stop
        with pytest.raises(Stopped):
            trainer(chosen(**TRAIL)).fit(dying)
        again, store = trainer(chosen(**TRAIL)), Store(tmp_path / str(stop), MINE)
        found = store.newest()
        assert found is not None
        again.restore(*found)
        again.fit(store)
        assert again.progress.trail == run.progress.trail
        assert {path.name: path.read_bytes() for path in (store.folder / "trail").iterdir()} == files


def test_another_seed_has_another_trail_from_the_first_step_on(tmp_path: Path):
    one, other = ran(tmp_path / "0")[0].progress.trail, ran(tmp_path / "1", seed=1)[0].progress.trail
    assert one[0] == other[0] and all(a["weights"] != b["weights"] for a, b in zip(one[1:], other[1:], strict=True))


def test_the_spacing_of_the_trail_changes_no_weight_and_no_digest_of_the_parameters(tmp_path: Path):
    sparse = ran(tmp_path, **{"train.trail_steps": 1000, "train.trail_checkpoints": 0})[0]
    assert sparse.progress.trail[-1] == {
        **ran(tmp_path)[0].progress.trail[-1],
        "train_loss": sparse.progress.trail[-1]["train_loss"],
    }
    assert chosen(**TRAIL).digest() == chosen().digest() != chosen(lr=0.1).digest()


def test_no_stored_state_names_code_or_device(tmp_path: Path):
    _, one = ran(tmp_path / "0")
    run, other = trainer(chosen(**TRAIL)), Store(tmp_path / "1", "b" * 64)
    run.fit(other)
    for path in (one.folder / "trail").iterdir():
        assert path.read_bytes() == (other.folder / "trail" / path.name).read_bytes()


def test_a_trainer_that_keeps_nothing_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.chdir(tmp_path)
    trainer(chosen(**TRAIL), pictures(20)).fit(Nowhere())
    assert list(tmp_path.iterdir()) == []
