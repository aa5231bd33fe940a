"""A run that was killed ends with the bits of one that was left alone; no checkpoint is used but a sound, own one."""

from __future__ import annotations

import contextlib
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT
from training import chosen, make_study, pictures, trainer

from stages import runtime
from stages.files import sha256_file
from stages.shell.errors import InputError
from stages.shell.locks import only_one
from stages.train import checkpoint
from stages.train.checkpoint import Progress, Store, beside_cache, digest, every_steps, named

MINE, OTHER = "a" * 64, "b" * 64

# --- the store


def tensors(value: float = 1.0) -> dict[str, torch.Tensor]:
    return {"network.w": torch.full((4, 3), value), "adamw.w.step": torch.tensor(7.0)}


def at(epoch: int, step: int = 0) -> Progress:
    return Progress(epoch=epoch, step=step, loss_sum=0.1 + 0.2, history=[{"epoch": 0, "val_loss": 1 / 3}])


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "checkpoints", MINE)


def checkpoints(store: Store) -> list[Path]:
    return sorted(store.folder.glob("*-*-*.safetensors"))


def newest(store: Store) -> tuple[object, list[str]]:
    """Return what the store finds and what it says."""
    said: list[str] = []
    return store.newest(say=said.append), said


def test_what_is_saved_is_found_again_to_the_bit(store: Store):
    store.save(tensors(1 / 3), at(2, 5))
    found = store.newest()
    assert found is not None
    assert found[1] == at(2, 5)
    assert all(torch.equal(tensor, tensors(1 / 3)[name]) for name, tensor in found[0].items())


def test_two_checkpoints_are_kept_and_the_newest_is_taken(store: Store):
    for epoch, step in ((0, 9), (0, 10), (1, 0), (10, 0), (9, 0)):
        store.save(tensors(), at(epoch, step))
    assert [path.name[:15] for path in checkpoints(store)] == ["000009-00000000", "000010-00000000"]
    found = store.newest()
    assert found is not None and found[1].epoch == 10
    assert store.last() == "epoch 11, 0 steps done"


def cut(path: Path) -> None:
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size // 2)


def flip(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[-3] ^= 1
    path.write_bytes(data)


def empty(path: Path) -> None:
    path.write_bytes(b"")


@pytest.mark.fault("a torn or foreign checkpoint")
@pytest.mark.parametrize("tear", [cut, flip, empty])
def test_a_torn_checkpoint_is_not_used_and_the_console_says_so(store: Store, tear):
    store.save(tensors(1), at(1))
    store.save(tensors(2), at(2))
    tear(checkpoints(store)[1])
    found, said = newest(store)
    assert found is not None and found[1].epoch == 1
    assert said == ["checkpoint 000002-00000000 is torn or another run's: not used, removed"]
    tear(checkpoints(store)[0])
    found, said = newest(store)
    assert found is None and len(said) == 1
    store.save(tensors(3), at(0, 5))
    found, said = newest(store)
    assert found is not None and found[1].step == 5 and said == []


@pytest.mark.fault("a torn or foreign checkpoint")
def test_another_runs_checkpoint_is_never_used_and_the_console_says_so(tmp_path: Path, store: Store):
    other = Store(tmp_path / "checkpoints", OTHER)
    other.save(tensors(), at(3))
    found, said = newest(store)
    assert found is None and "checkpoints of 1 other runs" in said[0]
    store.folder.mkdir()
    shutil.copy(checkpoints(other)[0], store.folder)
    found, said = newest(store)
    assert found is None and said[0] == "checkpoint 000003-00000000 is torn or another run's: not used, removed"


@pytest.mark.fault("a torn or foreign checkpoint")
def test_a_write_that_was_killed_half_way_is_cleared_away(store: Store):
    store.save(tensors(), at(1))
    (store.folder / ".written.safetensors.x.part").write_bytes(b"half")
    (store.folder / "written.safetensors").write_bytes(b"whole but not named yet")
    found, said = newest(store)
    assert found is not None and said == []
    assert not list(store.folder.glob(".*"))


@pytest.mark.fault("a torn or foreign checkpoint")
def test_a_write_that_fails_leaves_the_older_checkpoints(store: Store, monkeypatch):
    store.save(tensors(), at(1))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(checkpoint, "write_tensors", full)
    with pytest.raises(OSError, match="No space"):
        store.save(tensors(), at(2))
    assert [path.name[:6] for path in store.folder.iterdir()] == ["000001"]


def test_a_run_that_ended_removes_its_own_and_all_but_the_newest_of_other_runs(tmp_path: Path, store: Store):
    for age, name in enumerate("5432"):
        other = Store(tmp_path / "checkpoints", name * 64)
        other.save(tensors(), at(1))
        os.utime(other.folder, (1000 + age, 1000 + age))
    store.save(tensors(), at(1))
    with only_one(tmp_path / "checkpoints" / f"{'5' * 16}.lock"):  # this one is running
        store.remove()
    left = sorted(path.name for path in (tmp_path / "checkpoints").iterdir() if path.is_dir())
    assert left == ["2" * 16, "3" * 16, "5" * 16]


def test_a_run_that_ended_removes_the_locks_that_killed_runs_left_and_no_other(tmp_path: Path, store: Store):
    locks = store.folder.parent
    locks.mkdir(exist_ok=True)
    for digit in "34":
        (locks / f"{digit * 16}.lock").touch()
    with only_one(locks / f"{'5' * 16}.lock"), only_one(store.folder.with_suffix(".lock")):
        store.remove()
        left = {path.name for path in locks.glob("*.lock")}
        assert left == {f"{'5' * 16}.lock", store.folder.with_suffix(".lock").name}
    assert list(locks.iterdir()) == []


def test_a_folder_that_another_run_removes_meanwhile_is_no_error(tmp_path: Path, store: Store, monkeypatch):
    other = Store(tmp_path / "checkpoints", OTHER)
    other.save(tensors(), at(1))
    store.save(tensors(), at(1))
    is_dir = Path.is_dir

    def removed(path: Path, **words: bool) -> bool:
        found = is_dir(path, **words)
        if path == other.folder:
            shutil.rmtree(path, ignore_errors=True)
        return found

    monkeypatch.setattr(Path, "is_dir", removed)
    store.remove()
    assert not is_dir(store.folder)


@pytest.mark.parametrize("part", ["params", "input", "code", "device", "torch", "numpy"])
def test_the_fingerprint_changes_with_everything_that_can_change_the_result(tmp_path: Path, monkeypatch, part: str):
    (tmp_path / "input").write_text("1")
    (tmp_path / "code.py").write_text("1")

    def of(params: dict[str, float], device: str) -> str:
        return digest(named(params, [tmp_path / "input"], [tmp_path / "code.py"], device))

    before = of({"lr": 1.0}, "cpu")
    assert before == of({"lr": 1.0}, "cpu")
    if part in ("torch", "numpy"):
        monkeypatch.setattr(f"{part}.__version__", "0")
    if part in ("input", "code"):
        (tmp_path / {"input": "input", "code": "code.py"}[part]).write_text("2")
    assert of({"lr": 2.0 if part == "params" else 1.0}, "cuda" if part == "device" else "cpu") != before


def test_checkpoints_lie_beside_dvcs_cache_wherever_that_is(tmp_path: Path):
    assert beside_cache(tmp_path) == tmp_path / ".checkpoints"
    study = tmp_path / "studies" / "mine"
    study.mkdir(parents=True)
    (tmp_path / ".dvc").mkdir()
    assert beside_cache(study) == tmp_path / ".dvc/cache/checkpoints"
    (tmp_path / ".dvc/config.local").write_text("[cache]\n    dir = /elsewhere/.dvc/cache\n")
    assert beside_cache(study) == Path("/elsewhere/.dvc/cache/checkpoints")


def test_of_folds_that_were_stopped_together_none_loses_its_checkpoint_where_one_ends(tmp_path: Path):
    (tmp_path / ".dvc").mkdir()
    stores = [Store(beside_cache(tmp_path, f"/folds/{fold}"), f"{fold}" * 64) for fold in range(5)]
    for store in [*stores, Store(beside_cache(tmp_path), MINE)]:
        store.save(tensors(), at(1))
    for ended, store in enumerate(stores):
        assert all(other.newest() for other in stores[ended:])
        store.remove()
    assert Store(beside_cache(tmp_path), MINE).newest()


@pytest.mark.parametrize("wrong", ["often", "-1", "1.5", ""])
def test_a_wrong_number_of_steps_between_checkpoints_is_refused(monkeypatch, wrong: str):
    monkeypatch.setenv("BRAINMRI_CHECKPOINT_STEPS", wrong)
    with pytest.raises(InputError, match="BRAINMRI_CHECKPOINT_STEPS"):
        every_steps()


# --- any step of any recipe, in one process and with a small network


class Stopped(Exception):
    pass


class Dying(Store):
    """Stops the run after some checkpoints."""

    lives = 10**9

    def save(self, *what: object) -> None:
        super().save(*what)  # type: ignore[arg-type]
        self.lives -= 1
        if not self.lives:
            raise Stopped


RECIPES = {
    "plain": {},
    "no average": {"train.ema_decay": 0},
    "best": {"train.select_best": True},
    "best without average": {"train.select_best": True, "train.ema_decay": 0, "lr": 0.05},
    "frozen first": {"train.freeze_epochs": 1.5, "train.backbone_lr_scale": 0.3},
    "noise and dropout": {"augment.noise": 0.2, "train.dropout": 0.5},
    "sizes": {"train.size_schedule": [[0, 16], [0.4, 24], [0.8, 32]]},
    "patience": {"train.patience": 1, "lr": 0.2},
    "class weights": {"train.class_weights": True, "train.label_smoothing": 0.0},
    "bf16": {"precision": "bf16"},
}


@pytest.mark.parametrize("recipe", RECIPES)
def test_a_run_stopped_at_any_step_ends_with_the_same_bits(tmp_path: Path, monkeypatch, recipe: str):
    runtime.exact(2, "fp32")
    monkeypatch.setenv("BRAINMRI_CHECKPOINT_STEPS", "1")
    options = chosen(**RECIPES[recipe])
    alone = trainer(options)
    expected = alone.fit(Store(tmp_path / "alone", MINE)).state_dict()
    for stop in range(1, 15, 3):
        folder = tmp_path / str(stop)
        dying = Dying(folder, MINE)
        dying.lives = stop
        with contextlib.suppress(Stopped):
            trainer(options).fit(dying)
        again, found = trainer(options), Store(folder, MINE).newest()
        assert found is not None
        again.restore(*found)
        ended = again.fit(Store(folder, MINE)).state_dict()
        assert again.progress.history == alone.progress.history
        assert [name for name in expected if not torch.equal(ended[name], expected[name])] == []


def test_restored_tensors_lie_in_memory_as_those_of_a_run_left_alone(tmp_path: Path):
    options = chosen(epochs=1)
    run, store = trainer(options), Store(tmp_path, MINE)
    run.fit(store)
    again, found = trainer(options), store.newest()
    assert found is not None
    again.restore(*found)

    def layout(one: object) -> dict[str, tuple[int, ...]]:
        state = {f"network.{n}": t.stride() for n, t in one.network.state_dict().items()}  # type: ignore[attr-defined]
        for name, weight in one.network.named_parameters():  # type: ignore[attr-defined]
            state |= {f"{name}.{k}": t.stride() for k, t in one.optimizer.state[weight].items()}  # type: ignore[attr-defined]
        return state

    assert layout(again) == layout(run)
    assert again.optimizer.state[again.network.conv2.weight]["exp_avg"].is_contiguous(memory_format=torch.channels_last)


def test_the_number_of_checkpoints_changes_no_bit(tmp_path: Path, monkeypatch):
    outcomes = []
    for steps in ("0", "1", "3"):
        monkeypatch.setenv("BRAINMRI_CHECKPOINT_STEPS", steps)
        outcomes.append(trainer(chosen()).fit(Store(tmp_path / steps, MINE)).state_dict())
    assert all(torch.equal(outcomes[0][name], other[name]) for other in outcomes for name in other)


def test_a_checkpoint_is_never_written_with_a_loss_that_is_no_number(tmp_path: Path, monkeypatch):
    monkeypatch.setenv("BRAINMRI_CHECKPOINT_STEPS", "1")
    run, store = trainer(chosen(), pictures(44)), Store(tmp_path, MINE)
    step = run._step
    run._step = lambda *what: step(*what) * (float("nan") if what[2] == 3 else 1)  # type: ignore[method-assign]
    with pytest.raises(InputError, match="last checkpoint before it: epoch 1, 3 steps done"):
        run.fit(store)
    assert [path.name[7:15] for path in checkpoints(store)] == ["00000002", "00000003"]


# --- kill -9, the whole stage


def start(study: Path, prefix: tuple[str, ...] = (), **environment: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*prefix, sys.executable, "-u", "-m", "stages.train"],
        cwd=study,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "BRAINMRI_CHECKPOINT_STEPS": "1"} | environment,
    )


def end(run: subprocess.Popen[str]) -> str:
    text, _ = run.communicate(timeout=600)
    assert run.returncode == 0, text
    return text


def kill(run: subprocess.Popen[str]) -> str:
    """Kill a run as a power cut would, and return what it had said."""
    if run.poll() is None:
        os.kill(run.pid, signal.SIGKILL)
    return run.communicate()[0]


def outputs(study: Path) -> dict[str, str]:
    files = [study / "models/model.safetensors", study / "plots/trail.csv"]
    files += [path for name in ("curves", "trail") for path in sorted((study / "models" / name).rglob("*"))]
    return {str(path.relative_to(study)): sha256_file(path) for path in files if path.is_file()}


def wait_for(run: subprocess.Popen[str], happened, seconds: float = 120) -> None:
    begun = time.monotonic()
    while run.poll() is None and not happened():
        assert time.monotonic() - begun < seconds
        time.sleep(0.005)


def writing(study: Path) -> set[Path]:
    """Return the checkpoints that are half-written, by a run that goes on or by one that was killed."""
    return set(study.glob(".checkpoints/*/.*.part"))


def done_steps(study: Path) -> int:
    return len(list(study.glob(".checkpoints/*/*-*-*.safetensors")))


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose training was left alone."""
    study = make_study(tmp_path_factory.mktemp("alone") / "study")
    text = end(start(study, BRAINMRI_CHECKPOINT_STEPS="0"))
    assert "going on" not in text and "Warning" not in text
    assert not list(study.glob(".checkpoints/*/*.safetensors")), "of a run that has ended nothing is kept"
    return study


def resumed_at(text: str) -> tuple[int, int] | None:
    found = re.search(r"going on from a checkpoint at epoch (\d+), step (\d+)", text)
    return (int(found[1]), int(found[2])) if found else None


def fresh(alone: Path, folder: Path) -> Path:
    made = (".checkpoints", "logs", "model.safetensors", "curves", "trail", "plots")
    shutil.copytree(alone, folder, ignore=shutil.ignore_patterns(*made))
    return folder


@pytest.mark.fault("a training run, killed and resumed", commands=5)
def test_a_run_killed_three_times_ends_with_the_bits_of_one_left_alone(alone: Path, tmp_path: Path):
    study = fresh(alone, tmp_path / "another folder")
    run = start(study)
    wait_for(run, lambda: done_steps(study))
    kill(run)  # after a checkpoint, in or before a step
    torn = writing(study)
    run = start(study)
    wait_for(run, lambda: writing(study) - torn)
    kill(run)  # in the middle of writing one
    torn = writing(study)
    one_core = ("taskset", "-c", str(min(os.sched_getaffinity(0)))) if shutil.which("taskset") else ()
    run = start(study, one_core)
    wait_for(run, lambda: writing(study) - torn)
    time.sleep(random.uniform(0, 1))
    first = kill(run)
    other = {"PYTHONHASHSEED": "7", "TZ": "Asia/Kathmandu", "LANG": "de_DE.UTF-8", "OMP_NUM_THREADS": "5"}
    other["BRAINMRI_WORKERS"] = "3"
    last = end(start(study, one_core, **other, BRAINMRI_CHECKPOINT_STEPS="0"))
    assert resumed_at(first) and resumed_at(last)
    assert outputs(study) == outputs(alone)


@pytest.mark.fault("a training run, killed and resumed", commands=41)
@pytest.mark.slow
def test_runs_killed_at_20_random_moments_all_end_with_the_bits_of_one_left_alone(
    alone: Path, tmp_path: Path, record_property
):
    record_property("cases", 20)
    moments = random.Random(0)
    run, begun = start(fresh(alone, tmp_path / "timed")), time.monotonic()
    wait_for(run, lambda: writing(tmp_path / "timed"))
    first = time.monotonic() - begun  # before this there is nothing to go on from
    end(run)
    whole = time.monotonic() - begun
    resumed, in_write = [], 0
    for number in range(20):
        study = fresh(alone, tmp_path / str(number))
        run = start(study)
        time.sleep(moments.uniform(0.7 * first, 0.98 * whole))
        in_write += bool(writing(study))
        kill(run)
        resumed.append(resumed_at(end(start(study, BRAINMRI_CHECKPOINT_STEPS="0"))))
        assert outputs(study) == outputs(alone), f"kill {number}"
        shutil.rmtree(study)
    print(f"resumed at {resumed}; {in_write} were killed while a checkpoint was written")
    assert sum(where is not None for where in resumed) >= 10
    assert len(set(resumed)) >= 5
