"""However many workers train, on however many machines, killed and resumed as another number: the same bits."""

from __future__ import annotations

import copy
import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import ROOT, set_params
from small_workers import trained
from test_train_resume import done_steps, outputs, resumed_at
from training import chosen, make_study, trainer

from stages import runtime
from stages.shell.errors import InputError
from stages.train import launch, workers
from stages.train.checkpoint import Nowhere
from stages.train.flat import Layout, Span
from stages.train.workers import _distances, _reversed, _tree

# --- the vector


def test_parts_cut_no_tensor_and_are_halves_of_halves():
    layout = Layout({f"w{number}": torch.zeros(size) for number, size in enumerate((3, 100, 17, 16, 1, 40, 5))})
    whole = [name for part in layout.parts(4) for name in layout.within(part)]
    assert whole == [f"w{number}" for number in range(7)]
    for few, many in ((1, 2), (2, 4), (4, 8)):
        ends = {part.end for part in layout.parts(many)}
        assert {part.end for part in layout.parts(few)} <= ends and len(layout.parts(many)) == many
    assert layout.parts(1) == [Span(0, layout.length)]


def test_a_view_has_the_tensors_strides_and_begins_where_memory_is_aligned():
    tensors = {"a": torch.zeros(3), "b": torch.zeros(2, 3, 4, 5).to(memory_format=torch.channels_last)}
    vector = torch.zeros(Layout(tensors).length)
    views = Layout(tensors).views(vector)
    views["b"].fill_(1)
    assert views["b"].stride() == tensors["b"].stride() and vector[16:136].eq(1).all() and vector.sum() == 120
    assert views["b"].data_ptr() % 64 == vector.data_ptr() % 64


@pytest.mark.parametrize("size", [1, 2, 4, 8, 16])
def test_rounds_of_halving_leave_each_worker_the_part_that_it_looks_after(size: int):
    for rank in range(size):
        low, high = 0, size
        for distance in _distances(size):
            middle = (low + high) // 2
            low, high = (middle, high) if rank & distance else (low, middle)
        assert (low, high) == (_reversed(rank, size), _reversed(rank, size) + 1)


def test_a_tree_adds_neighbours_first():
    big, small = torch.tensor([1e8]), torch.tensor([3.0])
    assert _tree([big, -big, small, small]).item() == 6
    assert _tree([big, small, -big, small]).item() != 6


# --- bits


def in_workers(count: int, asked: list[Any], folder: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}{os.pathsep}{ROOT / 'tests'}")
    monkeypatch.setenv("TOLD", str(folder / "told"))
    launch.run(count, 1, "small_workers", json.dumps(asked))
    return json.loads((folder / "told").read_text())


def test_one_two_and_four_workers_give_the_same_bits_by_shared_memory_and_by_messages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    runtime.exact(1, "fp32")
    asked = [("plain", 2, True), ("bf16", 4, True), ("plain", 4, True), ("plain", 8, False)]
    asked += [("all", 4, True), ("all", 4, False)]
    alone = {(recipe, shards): json.loads(json.dumps(trained(recipe, shards))) for recipe, shards, _ in asked}
    assert len({json.dumps(found[0]) for found in alone.values()}) == len(alone), "each must be another run"
    for count in (2, 4):
        some = [each for each in asked if each[1] >= count]
        for each, found in zip(some, in_workers(count, some, tmp_path, monkeypatch), strict=True):
            assert found == alone[each[:2]], f"{count} workers: {each}"


def test_shards_take_the_mean_of_gradients_and_statistics_of_passes_by_themselves():
    """Held against autograd on a network of two shards, each passed by hand."""
    runtime.exact(1, "fp32")
    options = chosen(**{"train.shards": 2, "train.ema_decay": 0, "batch_size": 8})
    run, by_hand = trainer(options), trainer(options)
    rows = run._rows(0)[0]
    batch, labels = torch.from_numpy(run.train.images[rows]), run.labels[torch.from_numpy(rows)]
    assert run.shards is not None
    run.network.train()
    run.shards.backward(run._of_shard(batch, labels, 0))
    found = {name: weight.grad.clone() for name, weight in run.network.named_parameters() if weight.grad is not None}
    loss = run.shards.give()
    statistics, grads, losses = [], [], []
    by_hand.shards, layers = None, by_hand.network
    for weight in layers.parameters():
        weight._post_accumulate_grad_hooks.clear()  # type: ignore[attr-defined]
    layers.train()
    begin = layers.bn1.running_var.clone()
    for shard in range(2):
        layers.bn1.running_var.copy_(begin)
        each = by_hand._loss(batch.chunk(2)[shard], labels.chunk(2)[shard], 0, shard)
        grads.append(torch.autograd.grad(each, list(layers.parameters())))
        statistics.append(layers.bn1.running_var.clone())
        losses.append(each.detach())
    for (name, _), *two in zip(layers.named_parameters(), *grads, strict=True):
        torch.testing.assert_close(found[name], (two[0] + two[1]) / 2)
    torch.testing.assert_close(run.network.bn1.running_var, (statistics[0] + statistics[1]) / 2)
    torch.testing.assert_close(loss, (losses[0] + losses[1]) / 2)
    assert run.network.bn1.num_batches_tracked == 1


def test_stretches_of_a_run_over_shards_are_trained_again_to_the_rows_of_its_trail():
    runtime.exact(1, "fp32")
    options = chosen(
        **{"train.shards": 4, "train.trail_steps": 2, "train.freeze_epochs": 0.5, "train.trail_checkpoints": 4}
    )
    run, again = trainer(options), trainer(options)
    states: dict[int, Any] = {}
    run.fit(Keeping(states))
    rows = {int(row["step"]): row for row in run.progress.trail}
    start = min(states)
    end = min(step for step in rows if step > start + 2)
    again.restore(*states[start])
    assert again.retrain(end)[-1] == rows[end] and rows[end]["optimizer"] != rows[start]["optimizer"]


class Keeping(Nowhere):
    """Keeps every state that a run hands over, by its step, as if each were one to be stored."""

    def __init__(self, states: dict[int, Any]) -> None:
        super().__init__()
        self.states = states

    def keep(self, step: int, tensors: Any, progress: Any, planned: list[int]) -> None:
        copies = {name: tensor.clone() for name, tensor in tensors.items()}
        self.states[step] = (copies, copy.deepcopy(progress))


# --- what is refused


@pytest.mark.parametrize("count", ["3", "8", "0", "-1", "two", ""])
def test_a_number_of_workers_that_the_shards_do_not_allow_is_refused(monkeypatch: pytest.MonkeyPatch, count: str):
    monkeypatch.setenv("BRAINMRI_TRAINERS", count)
    with pytest.raises(InputError, match=r"BRAINMRI_TRAINERS is '.*': expected a power of two, with .* at most 4"):
        launch.workers(4, 1, "cpu")


def test_as_many_workers_as_cores_allow_and_never_more_than_shards(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("BRAINMRI_TRAINERS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(6))
    assert [launch.workers(shards, threads, "cpu") for shards, threads in ((1, 1), (2, 1), (8, 1), (8, 2), (8, 8))] == [
        *(1, 2, 4, 2, 1)
    ]
    monkeypatch.setenv("PET_NNODES", "2")
    assert launch.workers(4, 1, "cpu") == 2
    monkeypatch.setenv("BRAINMRI_TRAINERS", "4")
    with pytest.raises(InputError, match="on 2 machines at most 2"):
        launch.workers(4, 1, "cpu")


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"train.shards": 3}, "train.shards = 3: expected a power of two"),
        ({"train.shards": 8}, "train.shards = 8 of batch_size = 8: expected equal shards of at least 2 images"),
        ({"train.shards": 4, "batch_size": 10}, "train.shards = 4 of batch_size = 10"),
        ({"train.shards": 2, "precision": "fp16", "device": "cuda"}, "precision = 'fp16': use bf16"),
    ],
)
def test_shards_that_do_not_divide_a_batch_are_refused(changes: dict[str, Any], said: str):
    with pytest.raises(ValueError, match=re.escape(said)):
        chosen(**changes)


class Told(workers.Alone):
    """A team of two whose second worker has other causes."""

    size = 2

    def all_of(self, value: Any) -> list[Any]:
        return [value, value | {"data": "other", "versions": "other"}]


def test_a_worker_with_other_causes_is_refused_by_their_names():
    with pytest.raises(InputError, match="worker 2 of 2 has other data and versions than the first: give all"):
        workers.refuse_others(Told(torch.device("cpu")), {"code": "c", "data": "d", "versions": "v"})


# --- the whole stage


def start(study: Path, count: int, **environment: str) -> subprocess.Popen[str]:
    more = {"PYTHONPATH": str(ROOT), "BRAINMRI_CHECKPOINT_STEPS": "1", "BRAINMRI_TRAINERS": str(count)}
    return subprocess.Popen(
        [sys.executable, "-u", "-m", "stages.train"],
        cwd=study,
        text=True,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        env=os.environ | more | environment,
    )


def end(run: subprocess.Popen[str]) -> str:
    text, _ = run.communicate(timeout=900)
    assert run.returncode == 0, text
    return text


def children(process: int) -> list[int]:
    """Return the processes that one has started, in their order."""
    try:
        return [int(each) for each in Path(f"/proc/{process}/task/{process}/children").read_text().split()]
    except OSError:
        return []


def trainers(run: subprocess.Popen[str]) -> list[int]:
    """Return the workers that an agent has started."""
    named = b"stages.train"
    return [each for each in children(run.pid) if named in Path(f"/proc/{each}/cmdline").read_bytes()]


def wait_for(run: subprocess.Popen[str], happened: Any, seconds: float = 300) -> None:
    begun = time.monotonic()
    while run.poll() is None and not happened():
        assert time.monotonic() - begun < seconds
        time.sleep(0.01)


def gone(processes: list[int]) -> bool:
    return not any(Path(f"/proc/{each}").exists() for each in processes)


def small(folder: Path, train: int = 16, **changes: Any) -> Path:
    """A study whose every shard is two images."""
    options = {"train.shards": 2, "threads": 1, "batch_size": 4, "epochs": 1, "train.trail_checkpoints": 0}
    return make_study(folder, train=train, val=4, **(options | changes))


def fresh(study: Path, folder: Path) -> Path:
    made = (".checkpoints", "logs", "model.safetensors", "curves", "trail", "plots")
    shutil.copytree(study, folder, ignore=shutil.ignore_patterns(*made))
    return folder


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A study whose training one worker did and nobody touched."""
    study = small(tmp_path_factory.mktemp("alone") / "study")
    end(start(study, 1, BRAINMRI_CHECKPOINT_STEPS="0"))
    return study


@pytest.mark.fault("a training run, killed and resumed", commands=6)
def test_a_worker_that_is_killed_ends_the_run_with_one_line_and_another_number_goes_on(alone: Path, tmp_path: Path):
    study = fresh(alone, tmp_path / "study")
    run = start(study, 2)
    wait_for(run, lambda: done_steps(study))
    both = trainers(run)
    assert len(both) == 2
    os.kill(both[1], signal.SIGKILL)
    said, _ = run.communicate(timeout=300)
    lines = [line for line in said.splitlines() if not line.startswith("epoch ")]
    assert lines == [f"train: worker 2 of 2 was killed (SIGKILL): {launch.AGAIN}"] and run.returncode == 1
    assert gone(both)
    assert resumed_at(end(start(study, 1, BRAINMRI_CHECKPOINT_STEPS="0")))
    assert outputs(study) == outputs(alone)
    log = json.loads((study / "logs/train@0.json").read_text())
    assert log["outputs"] == {} or "models/model.safetensors" in log["outputs"]


@pytest.mark.fault("a training run, killed and resumed", commands=6)
def test_workers_end_with_who_started_them_and_two_go_on_from_ones_checkpoint(alone: Path, tmp_path: Path):
    study = fresh(alone, tmp_path / "study")
    run = start(study, 2)
    wait_for(run, lambda: len(trainers(run)) == 2)
    both = trainers(run)
    wait_for(run, lambda: done_steps(study))
    os.kill(run.pid, signal.SIGKILL)
    run.communicate()
    deadline = time.monotonic() + 10
    while not gone(both):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert resumed_at(end(start(study, 2, BRAINMRI_CHECKPOINT_STEPS="0")))
    assert outputs(study) == outputs(alone)


def test_a_workers_mistake_is_the_stages_one_line(alone: Path, tmp_path: Path):
    study = fresh(alone, tmp_path / "study")
    set_params(study, batch_size=32)
    run = start(study, 2)
    said, _ = run.communicate(timeout=300)
    assert said == "train: batch_size = 32 is more than the 16 training images: choose less\n" and run.returncode == 1
    assert not (study / "models/model.safetensors").exists()


# --- minutes


@pytest.mark.slow
@pytest.mark.fault("a training run, killed and resumed", commands=120)
def test_20_runs_whose_every_worker_is_killed_once_and_that_go_on_as_another_number(tmp_path: Path, record_property):
    record_property("cases", 20)
    moments = random.Random(0)
    base = small(tmp_path / "base", 40, **{"train.shards": 4, "batch_size": 8})
    end(start(base, 1, BRAINMRI_CHECKPOINT_STEPS="0"))
    for number in range(20):
        study, count, told = fresh(base, tmp_path / str(number)), (2, 2, 4, 2)[number % 4], []
        for rank in range(count):
            run = start(study, count)
            before = checkpoints(study)
            wait_for(run, lambda: checkpoints(study) != before)  # noqa: B023
            time.sleep(moments.uniform(0, 2))
            if run.poll() is None:
                os.kill((trainers(run) or [run.pid])[rank % count], signal.SIGKILL)
            run.communicate()
            told.append((count, run.returncode, len(checkpoints(study))))
            count = moments.choice([each for each in (1, 2, 4) if each != count])
        resumed = resumed_at(end(start(study, count, BRAINMRI_CHECKPOINT_STEPS="0")))
        assert outputs(study) == outputs(base), f"run {number}"
        print(
            f"run {number}: workers, status and checkpoints {told}, then {count} from {resumed}: the same", flush=True
        )
        shutil.rmtree(study)


def checkpoints(study: Path) -> set[Path]:
    return set(study.glob(".checkpoints/*/*-*-*.safetensors"))


@pytest.mark.slow
def test_two_machines_train_one_study_and_one_with_other_data_is_refused(alone: Path, tmp_path: Path):
    """Two folders that have nothing in common but the loopback."""
    for other_data in (False, True):
        studies = [fresh(alone, tmp_path / f"{machine}-{other_data}") for machine in range(2)]
        if other_data:
            path = studies[1] / "data/prepared/train.npy"
            data = bytearray(path.read_bytes())
            data[-1] ^= 1
            path.write_bytes(data)
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = str(free.getsockname()[1])
        meet = {"PET_NNODES": "2", "PET_MASTER_ADDR": "127.0.0.1", "PET_MASTER_PORT": port}
        runs = [start(study, 1, PET_NODE_RANK=str(node), **meet) for node, study in enumerate(studies)]
        said = [run.communicate(timeout=600)[0] for run in runs]
        if other_data:
            refusal = "train: worker 2 of 2 has other data than the first: "
            assert all(refusal in each and each.count("\n") == 1 for each in said), said
            assert [run.returncode for run in runs] == [1, 1]
        else:
            assert [run.returncode for run in runs] == [0, 0], said
            assert outputs(studies[0]) == outputs(alone)
            assert not (studies[1] / "models/model.safetensors").exists()
