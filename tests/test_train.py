"""Training: every draw a function of (seed, epoch, step), the recipe's parts, and refusals."""

from __future__ import annotations

import itertools
import math
import shutil
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import set_params
from hypothesis import given
from hypothesis import strategies as st
from torch.nn import functional as F
from training import Small, chosen, make_study, pictures, trainer

from stages import runtime
from stages.backbone import network
from stages.shell.errors import InputError
from stages.shell.locks import only_one
from stages.train import __main__ as stage
from stages.train import data, order, schedule
from stages.train.augment import affine, augment, resample
from stages.train.checkpoint import Nowhere
from stages.train.loop import _class_weights, score
from stages.train.optimizer import Average, make_optimizer, set_lr
from stages.train.schema import Augment

STILL = {
    "mirror": False, "rotate": 0, "scale": 0, "translate": 0, "brightness": 0, "contrast": 0, "noise": 0
}  # fmt: skip


def options(**changes: float) -> Augment:
    return Augment.model_validate(STILL | changes)


def draws(step: int = 0) -> np.random.Generator:
    return order.generator(0, order.AUGMENT, 0, step)


def batch(n: int = 6, side: int = 32) -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(n, 1, side, side)).astype(np.float32))


# --- the order of images


@given(st.integers(2, 200), st.integers(2, 50), st.integers(0, 2**32 - 1), st.integers(0, 1000))
def test_an_epoch_takes_each_image_once_but_for_the_remainder(n: int, size: int, seed: int, epoch: int):
    rows = order.batches(n, size, seed, epoch)
    assert rows.shape == (n // size, size)
    assert len(set(rows.ravel())) == rows.size and set(rows.ravel()) <= set(range(n))
    assert (rows == order.batches(n, size, seed, epoch)).all()


def test_another_epoch_or_seed_is_another_order():
    first = order.batches(100, 10, 0, 0)
    assert not (first == order.batches(100, 10, 0, 1)).all()
    assert not (first == order.batches(100, 10, 1, 0)).all()


def test_the_order_is_the_same_on_any_machine_and_version_of_numpy():
    assert order.batches(10, 5, 0, 0).ravel().tolist() == [1, 5, 6, 4, 8, 7, 9, 3, 2, 0]


def test_streams_of_different_purposes_differ():
    assert order.generator(0, order.ORDER, 0).random() != order.generator(0, order.AUGMENT, 0).random()


# --- augmentation


def test_with_everything_off_images_stay_as_they_are():
    x = batch()
    assert torch.equal(augment(x, options(), draws()), x)


def test_the_mirror_is_an_exact_flip_of_about_half_the_images():
    x = batch(200)
    out = augment(x, options(mirror=True), draws())
    same = (out - x).abs().amax(dim=(1, 2, 3)) < 1e-5
    flipped = (out - x.flip(3)).abs().amax(dim=(1, 2, 3)) < 1e-5
    assert bool((same ^ flipped).all()) and 70 < int(flipped.sum()) < 130


def test_every_image_is_changed_in_its_own_way_and_the_same_step_is_the_same_again():
    x = batch(1).repeat(4, 1, 1, 1)
    strong = options(rotate=20, brightness=0.2)
    out = augment(x, strong, draws())
    assert all(not torch.equal(out[0], other) for other in out[1:])
    assert torch.equal(augment(x, strong, draws()), out)
    assert not torch.equal(augment(x, strong, draws(1)), out)


@pytest.mark.parametrize("off", ["mirror", "rotate", "scale", "translate", "contrast"])
def test_switching_one_change_off_leaves_the_draws_of_the_others(off: str):
    everything = {"mirror": True, "rotate": 20, "scale": 0.2, "translate": 0.1, "contrast": 0.3}
    x = batch()
    alone = {name: value for name, value in everything.items() if name == off}
    shifted = [augment(x, options(brightness=0.5, **extra), draws()) - augment(x, options(**extra), draws())
               for extra in ({}, alone)]  # fmt: skip
    torch.testing.assert_close(shifted[0], shifted[1], atol=1e-5, rtol=0)


def test_changes_stay_within_what_was_asked_for():
    matrix = affine(500, options(rotate=30, scale=0.2, translate=0.1), draws())
    assert matrix is not None and matrix.dtype == np.float32
    stretch = np.hypot(matrix[:, 0, 0], matrix[:, 1, 0])
    angle = np.degrees(np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0]))
    assert 0.8 <= stretch.min() < 0.82 and 1.18 < stretch.max() <= 1.2
    assert 28 < np.abs(angle).max() <= 30.001
    assert 0.18 < np.abs(matrix[:, :, 2]).max() <= 0.2  # of a width of 2: a tenth of the side
    x = torch.ones(500, 1, 2, 2)
    assert 0.69 < (augment(x, options(brightness=0.3), draws())).min() < 0.71
    assert 1.29 < (augment(x, options(contrast=0.3), draws())).max() < 1.31


def test_noise_has_the_deviation_asked_for_and_depends_on_the_seed_of_the_step():
    x = torch.zeros(50, 1, 32, 32)
    runtime.seed_step(0, order.TORCH, 0, 0)
    first = augment(x, options(noise=0.3), draws())
    assert abs(float(first.std()) - 0.3) < 0.01
    runtime.seed_step(0, order.TORCH, 0, 0)
    assert torch.equal(augment(x, options(noise=0.3), draws()), first)


def test_a_shift_moves_by_a_fraction_of_the_side_and_repeats_the_border():
    x = torch.zeros(1, 1, 32, 32)
    x[..., 0] = 1

    class Fixed:
        def uniform(self, low: float, high: float, shape: tuple[int, ...]) -> np.ndarray:
            return np.stack([np.full(shape[1:], value) for value in (0, 0, -1, 0)[: shape[0]]])

        def random(self, n: int) -> np.ndarray:
            return np.zeros(n)

    out = augment(x, options(translate=0.25), Fixed())  # type: ignore[arg-type]
    assert out[0, 0, 5].round().tolist() == [1] * 9 + [0] * 23


def test_resampling_to_the_same_size_does_nothing_and_else_is_antialiased():
    x = torch.ones(1, 1, 32, 32)
    x[..., ::2] = -1
    assert resample(x, 32) is x
    assert resample(x, 16).shape == (1, 1, 16, 16) and float(resample(x, 16)[..., 2:-2].abs().max()) < 0.3


# --- schedules


def test_the_learning_rate_warms_up_linearly_then_falls_as_a_cosine():
    factors = [schedule.lr_factor(step, 100, 10) for step in range(100)]
    assert factors[:10] == pytest.approx([(step + 1) / 10 for step in range(10)])
    assert factors[10] == 1 and factors[55] == pytest.approx(0.5)
    assert all(later < earlier for earlier, later in itertools.pairwise(factors[10:]))
    assert 0 < factors[99] < 0.001


@pytest.mark.parametrize(("steps", "warmup"), [(1, 0), (1, 1), (5, 5), (5, 50), (10, 0)])
def test_short_runs_have_a_learning_rate_too(steps: int, warmup: int):
    assert all(0 < schedule.lr_factor(step, steps, warmup) <= 1 for step in range(steps))


def test_the_image_size_is_the_latest_begun_in_any_order_of_the_list():
    for plan in ([(0.0, 48), (0.5, 64)], [(0.5, 64), (0.0, 48)]):
        assert [schedule.size_at(at, plan, 96) for at in (0, 0.49, 0.5, 0.99)] == [48, 48, 64, 64]
    assert schedule.size_at(0.3, [], 96) == 96
    assert schedule.size_at(0.3, [(0.5, 64)], 96) == 96


def test_the_average_forgets_its_start_fast_and_then_decays_as_asked():
    assert schedule.ema_decay_at(0, 0.99) == 0.1
    assert schedule.ema_decay_at(10**6, 0.99) == 0.99


# --- optimizer and average


def test_norms_and_biases_do_not_decay_and_the_rest_does():
    model = network.build(3)
    decay = {id(weight): group["weight_decay"] for group in make_optimizer(model, chosen()).param_groups
             for weight in group["params"]}  # fmt: skip
    assert len(decay) == len(list(model.parameters()))
    for name, weight in model.named_parameters():
        plain = name.endswith("bias") or "bn" in name or "downsample.1" in name
        assert decay[id(weight)] == (0 if plain else 0.05), name


def test_the_last_layer_has_the_whole_rate_and_the_rest_its_share():
    model = Small()
    optimizer = make_optimizer(model, chosen(**{"train.backbone_lr_scale": 0.1}))
    set_lr(optimizer, 0.5, frozen=False)
    rate = {id(weight): group["lr"] for group in optimizer.param_groups for weight in group["params"]}
    assert rate[id(model.fc[1].weight)] == rate[id(model.fc[1].bias)] == 0.5
    assert rate[id(model.conv1.weight)] == rate[id(model.bn1.weight)] == 0.05


def test_frozen_first_moves_the_last_layer_alone_and_then_everything():
    run = trainer(chosen(**{"train.freeze_epochs": 1, "train.warmup_epochs": 0}))
    before = {name: weight.detach().clone() for name, weight in run.network.named_parameters()}
    run._epoch(Nowhere(), run.steps)
    for name, weight in run.network.named_parameters():
        assert torch.equal(weight, before[name]) != name.startswith("fc."), name
    run._epoch(Nowhere(), run.steps)
    assert not any(torch.equal(weight, before[name]) for name, weight in run.network.named_parameters())


def test_the_average_is_the_running_mean_of_weights_and_norm_statistics():
    model = Small()
    average = Average(model)
    start = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    with torch.no_grad():
        for tensor in [*model.parameters(), model.bn1.running_mean]:
            tensor += 1
    average.update(0.75)
    for name in ("conv1.weight", "fc.1.bias", "bn1.running_mean"):
        torch.testing.assert_close(average.network.state_dict()[name], start[name] + 0.25)
    assert not any(weight.requires_grad for weight in average.network.parameters())
    assert torch.equal(model.state_dict()["conv1.weight"], start["conv1.weight"] + 1)


# --- loss and scores


def test_rare_classes_weigh_more_so_that_all_classes_weigh_the_same():
    weights = _class_weights(np.array([0] * 6 + [1] * 3 + [2] * 1))
    assert weights.tolist() == pytest.approx([10 / 18, 10 / 9, 10 / 3])
    assert _class_weights(np.array([0, 1, 1, 0])).tolist() == [1, 1]


def test_score_is_the_cross_entropy_and_the_share_of_right_answers():
    output = np.array([[2, 0], [0, 1], [3, 3.5]], np.float32)
    labels = np.array([0, 0, 1])
    by_hand = [math.log(1 + math.exp(-2)), math.log(1 + math.exp(1)), math.log(1 + math.exp(-0.5))]
    loss, accuracy = score(output, labels)
    assert loss == pytest.approx(sum(by_hand) / 3, rel=1e-12) and accuracy == 2 / 3
    assert loss == pytest.approx(float(F.cross_entropy(torch.from_numpy(output), torch.from_numpy(labels))), rel=1e-6)


def test_score_of_huge_logits_is_finite():
    assert score(np.array([[1e30, -1e30]], np.float32), np.array([0])) == (0.0, 1.0)


# --- the loop


def test_training_learns_and_writes_one_row_an_epoch():
    run = trainer(chosen(epochs=8, lr=0.05, **{"train.warmup_epochs": 0, "train.ema_decay": 0.5}))
    outcome = run.fit(Nowhere())
    assert not outcome.training
    history = pd.DataFrame(run.progress.history)
    assert history["epoch"].tolist() == list(range(8))
    assert history["val_accuracy"].iloc[-1] == 1.0
    assert history["val_loss"].iloc[-1] < history["val_loss"].iloc[0]
    assert history["lr"].is_monotonic_decreasing


def test_two_runs_give_the_same_bits():
    noisy = chosen(**{"train.dropout": 0.5, "augment.noise": 0.1})
    first, second = (trainer(noisy).fit(Nowhere()).state_dict() for _ in range(2))
    assert all(torch.equal(first[name], second[name]) for name in first)


def test_another_seed_gives_other_bits():
    first, second = (trainer(chosen(seed=seed)).fit(Nowhere()).state_dict() for seed in (0, 1))
    assert not torch.equal(first["conv1.weight"], second["conv1.weight"])


@pytest.mark.parametrize("ema", [0, 0.9])
def test_selecting_the_best_gives_the_weights_of_that_epoch(ema: float, monkeypatch):
    run = trainer(chosen(epochs=4, **{"train.select_best": True, "train.ema_decay": ema}))
    accuracies = iter([0.5, 0.75, 0.75, 0.5])
    losses = iter([1.0, 0.9, 0.8, 0.1])
    monkeypatch.setattr("stages.train.loop.score", lambda *_: (next(losses), next(accuracies)))
    kept: list[dict[str, torch.Tensor]] = []
    while run.progress.epoch < 4:
        run._epoch(Nowhere(), run.steps)
        kept.append({name: tensor.clone() for name, tensor in run._outcome().state_dict().items()})
    outcome = run.fit(Nowhere()).state_dict()
    assert run.progress.best_epoch == 2, "of equal accuracies the smaller loss"
    assert all(torch.equal(outcome[name], kept[2][name]) for name in outcome)
    assert not torch.equal(outcome["conv1.weight"], kept[3]["conv1.weight"])


def test_without_selecting_the_last_weights_are_kept(monkeypatch):
    run = trainer(chosen(epochs=2, **{"train.ema_decay": 0}))
    accuracies = iter([1.0, 0.5])
    monkeypatch.setattr("stages.train.loop.score", lambda *_: (1.0, next(accuracies)))
    outcome = run.fit(Nowhere())
    assert outcome is run.network and run.best is None


def test_training_stops_after_so_many_epochs_without_a_better_validation(monkeypatch):
    run = trainer(chosen(epochs=20, **{"train.patience": 3}))
    accuracies = iter([0.5, 0.75, 0.75, 0.7, 0.6, 0.9])
    monkeypatch.setattr("stages.train.loop.score", lambda *_: (1.0, next(accuracies)))
    run.fit(Nowhere())
    assert run.progress.epoch == 5 and run.progress.best_epoch == 1


def test_one_image_over_the_last_whole_batch_is_left_out():
    run = trainer(chosen(epochs=1), pictures(17))
    run.fit(Nowhere())
    assert run.steps == 2 and len(run.progress.history) == 1


def test_a_size_schedule_is_followed(monkeypatch):
    seen: list[int] = []
    run = trainer(chosen(epochs=2, **{"train.size_schedule": [[0, 16], [0.5, 24]]}))
    forward = run.forward
    run.forward = lambda x: (seen.append(x.shape[-1]), forward(x))[1]
    run.fit(Nowhere())
    assert seen == [16] * run.steps + [24] * run.steps


def test_a_loss_that_is_no_number_stops_with_the_step_and_what_to_try():
    run = trainer(chosen(lr=10))
    with torch.no_grad():
        run.network.fc[1].bias[0] = float("inf")
    with pytest.raises(InputError, match=r"epoch 1, at or before step 1 of 5.*none yet.*smaller lr \(now 10") as error:
        run.fit(Nowhere())
    assert "\n" not in str(error.value)


def test_weights_that_break_in_the_last_step_are_noticed_at_validation():
    run = trainer(chosen(epochs=1, **{"train.ema_decay": 0}))
    step = run._step

    def last_one_breaks(images: torch.Tensor, labels: torch.Tensor, number: int) -> torch.Tensor:
        loss = step(images, labels, number)
        if number == run.steps - 1:
            with torch.no_grad():
                run.network.fc[1].bias[0] = float("nan")
        return loss

    run._step = last_one_breaks  # type: ignore[method-assign]
    with pytest.raises(InputError, match="the validation loss became NaN"):
        run.fit(Nowhere())


def test_batches_are_gathered_from_a_read_only_memory_map_without_a_warning(tmp_path: Path):
    np.save(tmp_path / "a.npy", pictures(20).images)
    images = np.load(tmp_path / "a.npy", mmap_mode="r")
    rows = order.batches(20, 6, 0, 0)
    for row, found in zip(rows, data.batches(images, rows, torch.device("cpu")), strict=True):
        assert (found.numpy() == pictures(20).images[row]).all()
    for row, found in zip(rows, data.gathered(torch.from_numpy(np.array(images)), rows), strict=True):
        assert (found.numpy() == pictures(20).images[row]).all()


# --- the stage


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("train") / "study", epochs=0)


def run_with(study: Path, monkeypatch, **changes: object) -> None:
    monkeypatch.chdir(study)
    real = stage.params.load
    monkeypatch.setattr(stage.params, "load", lambda schema: real(schema).model_copy(update=changes))
    stage.main()


def test_no_epochs_give_the_starting_weights_and_empty_curves(study: Path, monkeypatch):
    run_with(study, monkeypatch)
    start, _ = network.load(study / "models/init.safetensors")
    end, meta = network.load(study / "models/model.safetensors")
    assert all(torch.equal(tensor, end.state_dict()[name]) for name, tensor in start.state_dict().items())
    assert len(meta.made_by) == 64
    history = pd.read_csv(study / "models/curves/history.csv")
    assert history.columns.tolist() == ["epoch", "lr", "train_loss", "val_loss", "val_accuracy"] and history.empty


def refusal(study: Path, monkeypatch, **changes: object) -> str:
    with pytest.raises(InputError) as error:
        run_with(study, monkeypatch, **changes)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_a_batch_larger_than_the_data_is_refused(study: Path, monkeypatch):
    line = refusal(study, monkeypatch, batch_size=26)
    assert line == "batch_size = 26 is more than the 25 training images: choose less"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_cuda_without_a_gpu_is_refused(study: Path, monkeypatch):
    assert "no usable NVIDIA GPU" in refusal(study, monkeypatch, device="cuda")


def test_two_trainers_never_write_one_study(study: Path, monkeypatch):
    with only_one(study / "logs/train.lock"):
        assert "another run holds logs/train.lock" in refusal(study, monkeypatch)


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        MemoryError("Unable to allocate 1.00 TiB for an array"),
    ],
)
def test_out_of_memory_names_the_batch_size(study: Path, monkeypatch, error: Exception):
    def fails(*_: object) -> None:
        raise error

    monkeypatch.setattr(stage, "_train", fails)
    assert "out of memory with batch_size = 8: try half of it" in refusal(study, monkeypatch)


def test_another_error_of_torch_is_no_lack_of_memory(study: Path, monkeypatch):
    def fails(*_: object) -> None:
        raise RuntimeError("a mistake")

    monkeypatch.setattr(stage, "_train", fails)
    with pytest.raises(RuntimeError, match="a mistake"):
        refusal(study, monkeypatch)


def test_more_sizes_than_torch_compiles_are_refused(study: Path, monkeypatch, tmp_path: Path):
    shutil.copy(study / "params.yaml", tmp_path)
    sizes = [[n / 8, 16 + n] for n in range(8)]
    set_params(tmp_path, **{"train.size_schedule": sizes, "train.compile": True})
    assert "size_schedule has 8 sizes: with compile = true at most 7" in refusal(tmp_path, monkeypatch)


@pytest.mark.parametrize(
    "path", [*(f"data/prepared/{name}" for name in ("train.npy", "val.npy", "index.csv")), "models/init.safetensors"]
)
def test_a_missing_input_is_one_line(study: Path, monkeypatch, tmp_path: Path, path: str):
    shutil.copytree(study, tmp_path / "study")
    (tmp_path / "study" / path).unlink()
    line = refusal(tmp_path / "study", monkeypatch)
    assert line == f"{path} not found in study/: run `dvc repro` in the study's folder"
