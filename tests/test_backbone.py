"""The network, its weights as files, where starting weights come from, and inference in one batch shape."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT
from safetensors.torch import save_file
from serving import serving
from torch import nn
from torchvision.models import resnet50
from training import Small, pictures

from stages import runtime
from stages.backbone import inference, network, weights
from stages.backbone.schema import Backbone
from stages.shell.errors import InputError

META = network.Meta(["a", "b", "c"], 64, 0.2, 0.2)


def asked(source: str, sha256: str | None = None) -> Backbone:
    return Backbone(weights=source, sha256=sha256, mean=0.2, std=0.2)


@pytest.fixture(scope="module")
def model() -> nn.Module:
    torch.manual_seed(0)
    return network.build(3).eval()


@pytest.fixture(scope="module")
def good(model: nn.Module) -> dict[str, torch.Tensor]:
    return {name: tensor.contiguous() for name, tensor in model.state_dict().items()}


# --- the stem


def test_the_folded_stem_is_the_same_mathematics_as_three_equal_channels():
    torch.manual_seed(0)
    three = resnet50(num_classes=5).double().eval()
    one = network.build(5).double().eval()
    weights.adopt(one, three.state_dict(), "test")
    one.fc[1].load_state_dict(three.fc.state_dict())
    grey = torch.randn(2, 1, 64, 64, dtype=torch.float64)
    torch.testing.assert_close(one(grey), three(grey.expand(2, 3, 64, 64)), rtol=1e-10, atol=1e-12)


def test_every_block_starts_as_the_identity(model: nn.Module):
    norms = [block.bn3.weight for layer in (model.layer1, model.layer2, model.layer3, model.layer4) for block in layer]
    assert len(norms) == 16 and not any(weight.any() for weight in norms)


# --- weights files


def test_what_is_saved_is_loaded(tmp_path: Path, model: nn.Module):
    meta = network.Meta(["é", "b", "c"], 64, 0.25, 0.5, dropout=0.5, made_by="0" * 64)
    network.save(tmp_path / "a.safetensors", model, meta)
    loaded, found = network.load(tmp_path / "a.safetensors")
    assert found == meta and not loaded.training
    for name, tensor in model.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor), name


def test_two_processes_write_the_same_bytes(tmp_path: Path):
    code = (
        "import sys; from stages import runtime; from stages.backbone import network, weights\n"
        "from stages.backbone.schema import Backbone\n"
        "asked = Backbone(weights='random', sha256=None, mean=.2, std=.2)\n"
        "network.save(sys.argv[1], weights.starting_weights(3, 7, asked), network.Meta(['a', 'b', 'c'], 64, .2, .2))"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "1")], cwd=ROOT, check=True)
    for name in ("2", "3"):
        network.save(tmp_path / name, weights.starting_weights(3, 7, asked("random")), META)
    assert len({hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in "123"}) == 1


def test_random_weights_depend_on_the_seed():
    one, same, other = (weights.starting_weights(2, seed, asked("random")).conv1.weight for seed in (0, 0, 1))
    assert torch.equal(one, same) and not torch.equal(one, other)


def refusal(path: Path) -> str:
    with pytest.raises(InputError) as error:
        network.load(path)
    line = str(error.value)
    assert "\n" not in line and path.name in line
    return line


def write(path: Path, state: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> Path:
    about = {"classes": META.classes, "image_size": 64, "mean": 0.2, "std": 0.2}
    save_file(state, path, metadata={"brainmri": json.dumps(about)} if metadata is None else metadata)
    return path


@pytest.mark.fault("hostile or damaged weights")
def test_a_pickle_is_refused_whatever_it_is_called(tmp_path: Path):
    torch.save({"conv1.weight": torch.zeros(1)}, tmp_path / "a.safetensors")
    assert "pickled weights" in refusal(tmp_path / "a.safetensors")


@pytest.mark.fault("hostile or damaged weights")
@pytest.mark.parametrize("content", [b"", b"\0" * 7, b"\xff" * 64, b"\x02\0\0\0\0\0\0\0[]"])
def test_what_is_no_safetensors_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / "a.safetensors").write_bytes(content)
    assert "not a readable safetensors file" in refusal(tmp_path / "a.safetensors")


@pytest.mark.fault("hostile or damaged weights")
def test_a_missing_file_and_a_folder_are_refused(tmp_path: Path):
    assert "not found" in refusal(tmp_path / "a.safetensors")
    (tmp_path / "a.safetensors").mkdir()
    assert "not a readable safetensors file" in refusal(tmp_path / "a.safetensors")


@pytest.mark.fault("hostile or damaged weights")
def test_a_truncated_file_is_refused(tmp_path: Path, good: dict[str, torch.Tensor]):
    path = write(tmp_path / "a.safetensors", good)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    assert "not a readable safetensors file" in refusal(path)


@pytest.mark.fault("hostile or damaged weights")
@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({"fc.1.bias": None}, "'fc.1.bias' is missing"),
        ({"extra": torch.zeros(2)}, "unexpected tensor 'extra'"),
        ({"fc.1.bias": torch.zeros(4)}, "'fc.1.bias' has shape [4], expected [3]"),
        ({"fc.1.bias": torch.tensor([0, float("nan"), 0])}, "'fc.1.bias' holds NaN or infinity"),
        ({"bn1.running_var": torch.full((64,), float("inf"))}, "'bn1.running_var' holds NaN or infinity"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(tmp_path: Path, good, change, expected):
    state = {name: tensor for name, tensor in (good | change).items() if tensor is not None}
    assert expected in refusal(write(tmp_path / "a.safetensors", state))


@pytest.mark.fault("hostile or damaged weights")
@pytest.mark.parametrize(
    "metadata", [{"format": "pt"}, {"brainmri": "{"}, {"brainmri": "[1]"}, {"brainmri": '{"classes": 3}'}]
)
def test_a_file_of_other_weights_is_sent_to_the_backbone_stage(tmp_path: Path, metadata: dict[str, str]):
    assert "backbone.weights" in refusal(write(tmp_path / "a.safetensors", {"a": torch.zeros(1)}, metadata))


def test_a_full_disk_is_an_error_of_the_disk(tmp_path: Path):
    code = (
        "from stages.backbone.network import write_tensors; import resource, torch; from pathlib import Path\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        "try: write_tensors(Path('a'), {'a': torch.zeros(1000)}, 'x')\n"
        "except OSError as error: print(error.errno, error.filename)"
    )
    environment = {"PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert done.stdout == "27 a\n", done.stderr


# --- where starting weights come from


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch) -> Path:
    monkeypatch.setenv("BRAINMRI_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def starting(source: str, sha256: str | None) -> nn.Module:
    return weights.starting_weights(3, 0, asked(source, sha256))


def assert_adopted(model: nn.Module, state: dict[str, torch.Tensor]) -> None:
    assert torch.equal(model.layer4[2].conv3.weight, state["layer4.2.conv3.weight"].float())
    assert model.conv1.weight.shape == (64, 1, 7, 7) and model.fc[1].weight.shape == (3, 2048)


def test_imagenet_weights_are_downloaded_checked_and_kept(torchvisions, monkeypatch, cache: Path):
    data, state = torchvisions
    sha256 = hashlib.sha256(data).hexdigest()
    with serving({"/w.pth": data}) as server:
        monkeypatch.setenv("BRAINMRI_IMAGENET", f"{server.url}/w.pth")
        assert_adopted(starting("imagenet", sha256), state)
        starting("imagenet", sha256)
        assert len(server.gets("/w.pth")) == 1, "the second time it was kept"
    assert len(list(cache.iterdir())) == 1


def test_imagenet_weights_may_come_from_a_file(torchvisions, monkeypatch, tmp_path: Path):
    data, state = torchvisions
    (tmp_path / "w.pth").write_bytes(data)
    for place in (str(tmp_path / "w.pth"), f"file://{tmp_path}/w.pth"):
        monkeypatch.setenv("BRAINMRI_IMAGENET", place)
        assert_adopted(starting("imagenet", hashlib.sha256(data).hexdigest()), state)
    with pytest.raises(InputError, match=r"sha256 is [0-9a-f]{64}, expected"):
        starting("imagenet", "0" * 64)
    monkeypatch.setenv("BRAINMRI_IMAGENET", "w.pth")
    with pytest.raises(InputError, match="expected an absolute path"):
        starting("imagenet", None)


def test_imagenet_without_a_pinned_digest_expects_torchvisions(monkeypatch, tmp_path: Path):
    assert f"-{weights.IMAGENET_SHA256[:8]}.pth" in weights.IMAGENET.url
    (tmp_path / "w.pth").write_bytes(b"x")
    monkeypatch.setenv("BRAINMRI_IMAGENET", str(tmp_path / "w.pth"))
    with pytest.raises(InputError, match=weights.IMAGENET_SHA256):
        starting("imagenet", None)


@pytest.mark.fault("hostile or damaged weights")
def test_a_download_with_another_digest_is_discarded(monkeypatch, cache: Path):
    with serving({"/w.pth": b"something else"}) as server:
        monkeypatch.setenv("BRAINMRI_IMAGENET", f"{server.url}/w.pth")
        with pytest.raises(InputError, match=r"sha256 is not 0000.*discarded") as error:
            starting("imagenet", "0" * 64)
    assert "\n" not in str(error.value)
    assert list(cache.iterdir()) == []


@pytest.mark.fault("hostile or damaged weights")
def test_a_download_that_fails_says_where_and_what_to_do(monkeypatch):
    with serving({}) as server:
        monkeypatch.setenv("BRAINMRI_IMAGENET", f"{server.url}/w.pth")
        with pytest.raises(InputError, match=r"/w.pth: download failed \(404.*BRAINMRI_IMAGENET") as error:
            starting("imagenet", "0" * 64)
    assert "\n" not in str(error.value)
    monkeypatch.setenv("BRAINMRI_IMAGENET", "http://127.0.0.1:9/w.pth")
    with pytest.raises(InputError, match="download failed") as error:
        starting("imagenet", "0" * 64)
    assert "\n" not in str(error.value)


class Bomb:
    """A pickle that runs code."""

    def __reduce__(self) -> tuple[object, tuple[str]]:
        return Path.touch, (Path("ran"),)  # type: ignore[return-value]


@pytest.mark.fault("hostile or damaged weights")
@pytest.mark.parametrize("kind", ["code", "list", "noise"])
def test_a_file_with_the_right_digest_that_holds_no_weights_is_refused_and_runs_nothing(tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    if kind == "noise":
        (tmp_path / "w.pth").write_bytes(b"noise")
    else:
        torch.save([Bomb()] if kind == "code" else [1], tmp_path / "w.pth")
    monkeypatch.setenv("BRAINMRI_IMAGENET", str(tmp_path / "w.pth"))
    with pytest.raises(InputError, match="not a file of torchvision's weights"):
        starting("imagenet", hashlib.sha256((tmp_path / "w.pth").read_bytes()).hexdigest())
    assert not (tmp_path / "ran").exists()


def test_own_weights_of_torchvisions_form_are_adopted(tmp_path: Path, torchvisions):
    _, state = torchvisions
    save_file(state, tmp_path / "own.safetensors")
    sha256 = hashlib.sha256((tmp_path / "own.safetensors").read_bytes()).hexdigest()
    assert_adopted(starting(str(tmp_path / "own.safetensors"), sha256), state)


def test_own_weights_that_this_pipeline_wrote_are_adopted_but_for_the_last_layer(tmp_path: Path, model: nn.Module):
    network.save(tmp_path / "own.safetensors", model, META)
    sha256 = hashlib.sha256((tmp_path / "own.safetensors").read_bytes()).hexdigest()
    adopted = starting(str(tmp_path / "own.safetensors"), sha256)
    assert torch.equal(adopted.conv1.weight, model.conv1.weight)
    assert not torch.equal(adopted.fc[1].weight, model.fc[1].weight)


@pytest.mark.fault("hostile or damaged weights")
@pytest.mark.parametrize(
    ("sha256", "expected"), [(None, "pin the digest"), ("0" * 64, "sha256 is"), ("1" * 64, "no such file")]
)
def test_own_weights_need_a_digest_that_holds(tmp_path: Path, sha256: str | None, expected: str):
    if sha256 != "1" * 64:
        (tmp_path / "own.safetensors").write_bytes(b"x")
    with pytest.raises(InputError, match=expected) as error:
        starting(str(tmp_path / "own.safetensors"), sha256)
    assert "\n" not in str(error.value)


# --- inference


def output(model: nn.Module, images: np.ndarray, batch_size: int = 8, mirror: bool = False) -> np.ndarray:
    return inference.logits(
        model, images, mean=0.2, std=0.2, batch_size=batch_size, device=torch.device("cpu"), mirror=mirror
    )


def test_an_image_alone_gives_the_bits_that_it_gives_in_a_batch():
    runtime.exact(2, "fp32")
    torch.manual_seed(0)
    model = network.build(3)
    images = pictures(11).images
    together = output(model, images)
    assert together.shape == (11, 3) and together.dtype == np.float32
    for number in (0, 7, 10):
        assert (output(model, images[number : number + 1]) == together[number]).all()


def test_mirrored_logits_are_the_mean_of_both_ways():
    torch.manual_seed(0)
    model, images = Small(), pictures(5).images
    both = (output(model, images) + output(model, np.ascontiguousarray(images[:, :, ::-1]))) / 2
    assert (output(model, images, mirror=True) == both).all()
    assert not (both == output(model, images)).all()


def test_inference_neither_trains_nor_warns_of_a_read_only_memory_map(tmp_path: Path):
    np.save(tmp_path / "a.npy", pictures(5).images)
    model = Small(dropout=0.9).train()
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    images = np.load(tmp_path / "a.npy", mmap_mode="r")
    assert (output(model, images) == output(model, images)).all()
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())


def test_progress_is_told_of_every_image_once():
    told: list[int] = []
    inference.logits(
        Small(), pictures(11).images, mean=0, std=1, batch_size=4, device=torch.device("cpu"), progress=told.append
    )
    assert told == [4, 4, 3]


def test_normalising_is_arithmetic_on_levels_from_0_to_1():
    levels = torch.tensor([[[0, 255], [51, 102]]], dtype=torch.uint8)
    expected = (levels.double() / 255 - 0.2) / 0.5
    assert inference.normalise(levels, 0.2, 0.5).shape == (1, 1, 2, 2)
    torch.testing.assert_close(inference.normalise(levels, 0.2, 0.5)[0].double(), expected, rtol=1e-6, atol=1e-6)
