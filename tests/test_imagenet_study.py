"""studies/nickparvar-gpu on a CPU, small: from ImageNet's weights (others, of their form) to scores by patient."""

from __future__ import annotations

import hashlib
import re
import subprocess
from pathlib import Path

import pytest
import torch
from conftest import ROOT, TINY, copy_repository, dvc_environment, set_params
from serving import serving

from stages.backbone import network
from stages.files import read_figures

FOLDS = {"0": "/folds/0", "1": "/folds/1"}
SMALL = {
    "root": ".",
    "device": "cpu",
    "precision": "fp32",
    "epochs": 2,
    "split.folds": FOLDS,
    "split.parts": 2,
    "split.val_fraction": 0.2,
    # heads of two slices each, in the place of the public set and its table
    "fetch.source": "phantom",
    "fetch.phantom.slices_per_head": 2,
    "fetch.phantom.copies": dict.fromkeys(("byte", "recoded", "contrast", "mirrored"), 0),
    "fetch.patients": {"pattern": r"(?P<patient>[0-9a-f]+)_.*"},
    "fetch.tree_digest": None,
    "report.boxes": None,
}


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory, torchvisions: tuple[bytes, dict[str, torch.Tensor]]) -> Path:
    data, _ = torchvisions
    top = tmp_path_factory.mktemp("imagenet")
    folder = copy_repository(top / "clone", ("studies/", "metrics/", "plots/", "dvc.lock"))
    (folder / "params.yaml").write_bytes((ROOT / "studies/nickparvar-gpu/params.yaml").read_bytes())
    set_params(folder, **(TINY | SMALL | {"backbone.sha256": hashlib.sha256(data).hexdigest()}))
    subprocess.run(["git", "init", "-q"], cwd=folder, check=True)
    with serving({"/w.pth": data}) as server:
        variables = {"BRAINMRI_IMAGENET": f"{server.url}/w.pth", "BRAINMRI_CACHE": str(top / "cache")}
        done = subprocess.run(
            ["dvc", "repro"], cwd=folder, text=True, capture_output=True, env=dvc_environment() | variables, timeout=500
        )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


def test_it_starts_from_those_weights_and_trains_all_of_them(study: Path, torchvisions: tuple[bytes, dict]):
    start, meta = network.load(study / "models/init.safetensors")
    assert (meta.mean, meta.std) == (0.449, 0.226)
    inner = "layer3.4.conv2.weight"
    assert torch.equal(start.state_dict()[inner], torchvisions[1][inner].float())
    for part in FOLDS.values():
        end, _ = network.load(study / f"models{part}/model.safetensors")
        assert not torch.equal(end.state_dict()[inner], start.state_dict()[inner])


def test_it_ends_with_scores_by_patient_a_page_and_a_card(study: Path):
    scores = read_figures(study / "metrics/scores.csv")
    assert scores["all"]["n"] == scores["new_patients"]["n"] > 0 == scores["known_patients"]["n"]
    assert "from ImageNet" in (study / "report/index.html").read_text()
    assert re.search(r"imagenet", (study / "models/MODEL_CARD.md").read_text(), re.IGNORECASE)


def test_only_the_head_trains_at_first():
    text = (ROOT / "studies/nickparvar-gpu/params.yaml").read_text()
    assert re.search(r"^  freeze_epochs: [1-9]", text, re.MULTILINE)
    assert float(re.search(r"^  backbone_lr_scale: (\S+)", text, re.MULTILINE)[1]) < 1
