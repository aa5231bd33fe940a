"""`brainmri export`: each form is loaded by what it is for, gives the study's answers, and is the same bytes twice."""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import ROOT, make_study, run_stages
from page_server import ask as ask_page
from page_server import served
from PIL import Image

from commands import extra
from commands.__main__ import main
from commands.export import FORMS
from commands.predict import bundle
from stages.backbone import network

EXTRA = ("onnx", "onnxscript", "onnxruntime", "huggingface_hub")
with_the_extra = pytest.mark.skipif(
    any(importlib.util.find_spec(name) is None for name in EXTRA),
    reason="the extra `export` is not installed (requirements-export.lock)",
)
FORM = [pytest.param(form, marks=with_the_extra if form in ("onnx", "hub") else ()) for form in FORMS]


@pytest.fixture(scope="module")
def exported(tiny_study: Path, tmp_path_factory: pytest.TempPathFactory):
    """Return a function that exports the tiny study once in a form, and gives what was written."""
    folder, names = tmp_path_factory.mktemp("exported"), {"onnx": "a.onnx", "zip": "a.zip", "hub": "hub"}

    def once(form: str) -> Path:
        out = folder / names.get(form, "a.safetensors")
        if not out.exists():
            assert main(["export", form, str(out), "--study", str(tiny_study)]) == 0
        return out

    return once


def refusal(capsys: pytest.CaptureFixture[str], *words: object) -> str:
    """Return the one line that a command ends with."""
    assert main([*map(str, words)]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("brainmri: ")]
    assert len(lines) == 1
    return lines[0]


def bytes_of(path: Path) -> dict[str, bytes]:
    files = [path] if path.is_file() else sorted(path.iterdir())
    return {each.name if path.is_dir() else "": each.read_bytes() for each in files}


def known(study: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the test images of a study and the probabilities that the pipeline wrote."""
    table = pd.read_csv(study / "data/predictions.csv", keep_default_na=False)
    index = pd.read_csv(study / "data/prepared/index.csv", keep_default_na=False)
    rows = index[index["array"] == "test"].set_index("path")["row"]
    images = np.load(study / "data/prepared/test.npy")[rows.loc[table["path"]].to_numpy()]
    return images, table[[name for name in table if name.startswith("p_")]].to_numpy()


@pytest.mark.parametrize("form", FORM)
def test_the_same_study_gives_the_same_bytes_in_another_process(form: str, exported, tiny_study: Path, tmp_path: Path):
    command = [sys.executable, "-m", "commands", "export", form, str(tmp_path / "again"), "--study", str(tiny_study)]
    subprocess.run(command, cwd=ROOT, check=True, env=os.environ | {"PYTHONHASHSEED": "7"}, capture_output=True)
    assert bytes_of(tmp_path / "again") == bytes_of(exported(form))


@pytest.mark.parametrize("form", FORM)
def test_nothing_written_names_this_machine(form: str, exported, tiny_study: Path):
    for data in bytes_of(exported(form)).values():
        assert str(tiny_study).encode() not in data and str(ROOT).encode() not in data and b"site-packages" not in data


@pytest.mark.parametrize("form", FORM)
def test_what_lies_there_already_is_never_replaced(form: str, tiny_study: Path, tmp_path: Path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/file").write_text("1")
    for there in ("mine", "mine/file"):
        said = refusal(capsys, "export", form, tmp_path / there, "--study", tiny_study)
        assert "is there already: remove it, or name another" in said
    assert (tmp_path / "mine/file").read_text() == "1"


@pytest.mark.parametrize("form", FORM)
def test_a_study_that_was_not_run_is_one_line_and_nothing_is_written(form: str, tmp_path: Path, capsys):
    (tmp_path / "study").mkdir()
    assert "dvc repro" in refusal(capsys, "export", form, tmp_path / "out", "--study", tmp_path / "study")
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


@pytest.mark.parametrize("form, missing", [("onnx", name) for name in EXTRA[:3]] + [("hub", EXTRA[3])])
def test_where_the_extra_is_not_installed_it_is_named(form: str, missing: str, tmp_path: Path, capsys, monkeypatch):
    monkeypatch.setattr(extra.importlib.util, "find_spec", lambda name: None if name == missing else True)
    said = refusal(capsys, "export", form, tmp_path / "out")
    assert f"export {form}: {missing} is not installed (the extra `export`): run `pip install" in said


# --- onnx


@with_the_extra
def test_onnxruntime_gives_the_pipelines_probabilities_from_the_file_alone(exported, tiny_study: Path):
    import onnxruntime

    images, expected = known(tiny_study)
    session = onnxruntime.InferenceSession(exported("onnx"), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"images": images})
    assert np.abs(found - expected).max() <= 1e-5 and len(found) == len(expected) > 20
    (alone,) = session.run(None, {"images": images[:1]})
    assert np.abs(alone - expected[:1]).max() <= 1e-5
    about = json.loads(session.get_modelmeta().custom_metadata_map["brainmri"])
    assert about["image_size"] == images.shape[1] and len(about["classes"]) == expected.shape[1]
    assert about["prepare"]["crop"] and about["weights_sha256"]


@with_the_extra
def test_a_file_that_is_too_far_from_torch_is_not_written(tiny_study: Path, tmp_path: Path, capsys, monkeypatch):
    from commands.export import onnx_file

    monkeypatch.setattr(onnx_file, "expected", lambda model, images: np.full((len(images), 4), 0.25))
    assert "from torch's, at most 1e-05" in refusal(capsys, "export", "onnx", tmp_path / "a", "--study", tiny_study)
    assert list(tmp_path.iterdir()) == []


@with_the_extra
@pytest.mark.slow
def test_mirror_images_are_averaged_in_onnx_too(tmp_path: Path, capsys):
    study = make_study(tmp_path / "study", **{"evaluate.mirror": True})
    run_stages(["fetch", "verify", "prepare", "backbone", "train", "evaluate"], study)
    assert main(["export", "onnx", str(tmp_path / "a.onnx"), "--study", str(study)]) == 0
    assert "test images: " in capsys.readouterr().out


# --- hub


@with_the_extra
def test_the_hubs_own_reader_takes_the_card_and_the_weights_lie_beside_it(exported, tiny_study: Path):
    from huggingface_hub import CommitOperationAdd, ModelCard

    folder = exported("hub")
    card = ModelCard.load(folder / "README.md")
    results = {(each.dataset_name, each.metric_type) for each in card.data.eval_results}
    assert card.data.license == "mit" and card.data.pipeline_tag == "image-classification" and len(results) > 10
    for path in folder.iterdir():
        CommitOperationAdd(path_in_repo=path.name, path_or_fileobj=path)
    assert (folder / "model.safetensors").read_bytes() == (tiny_study / "models/model.safetensors").read_bytes()
    assert "models/model.safetensors" not in card.content
    config = json.loads((folder / "config.json").read_text())
    assert config["id2label"]["0"] == network.load(folder / "model.safetensors")[1].classes[0]


@with_the_extra
def test_the_cards_own_lines_load_the_weights_in_the_folder(exported, tiny_study: Path, monkeypatch):
    images, expected = known(tiny_study)
    monkeypatch.chdir(exported("hub"))
    (lines,) = re.findall(r"```python\n(.*?)```", Path("README.md").read_text(), re.DOTALL)
    names: dict[str, Any] = {}
    exec(lines, names)
    assert np.abs(names["probabilities"](torch.from_numpy(images)).numpy() - expected).max() < 1e-5


@with_the_extra
def test_a_card_of_other_weights_or_with_broken_metadata_is_refused(tiny_study: Path, tmp_path: Path, capsys):
    shutil.copytree(tiny_study, tmp_path / "study", copy_function=os.link)
    card = tmp_path / "study/models/MODEL_CARD.md"
    text = card.read_text()
    for changed, line in [("", "is of other weights than"), (text.replace("name: ", "nome: "), "not as the hub wants")]:
        card.unlink()
        card.write_text(changed)
        assert line in refusal(capsys, "export", "hub", tmp_path / "out", "--study", tmp_path / "study")
    assert [path.name for path in tmp_path.iterdir()] == ["study"]


def test_a_study_with_one_network_has_no_fold(tiny_study: Path, tmp_path: Path, capsys):
    said = refusal(capsys, "export", "zip", tmp_path / "a.zip", "--study", tiny_study, "--fold", "0")
    assert said == "brainmri: --fold 0: this study has one network: leave --fold out"


# --- zip


def ask(zipped: Path, *words: str, where: Path) -> tuple[list[dict[str, str]], str]:
    """Ask a zip in a folder where nothing of the project is but a copy of its two packages."""
    for package in ("stages", "commands"):
        if not (where / "installed" / package).exists():
            shutil.copytree(ROOT / package, where / "installed" / package)
    (where / "empty").mkdir(exist_ok=True)
    code = f"import sys; sys.path.insert(0, {str(where / 'installed')!r}); from commands.__main__ import main; "
    command = [sys.executable, "-c", code + "sys.exit(main())", "predict", "--model", str(zipped), "--csv", *words]
    done = subprocess.run(command, cwd=where / "empty", text=True, capture_output=True, timeout=120)
    assert done.returncode == 0, done.stderr
    assert list((where / "empty").iterdir()) == []
    return list(csv.DictReader(io.StringIO(done.stdout))), done.stderr


def test_the_zip_alone_gives_the_studys_bits_and_tells_copies_by_descriptors(
    exported, tiny_study: Path, tmp_path: Path
):
    with zipfile.ZipFile(exported("zip")) as file:
        assert file.read(bundle.PREDICTOR) == (tiny_study / bundle.PREDICTOR).read_bytes()
    shutil.copytree(tiny_study / "data/raw/Testing", tmp_path / "Testing")
    found, _ = ask(exported("zip"), str(tmp_path / "Testing"), where=tmp_path)
    asked = {Path(row["path"]).relative_to(tmp_path).as_posix(): row for row in found}
    table = pd.read_csv(tiny_study / "data/predictions.csv", keep_default_na=False)
    assert sorted(asked) == sorted(table["path"])
    for row in table.to_dict("records"):
        mine = asked[row["path"]]
        assert [float(mine[key]) for key in row if key.startswith("p_")] == [
            value for key, value in row.items() if key.startswith("p_")
        ]
        assert row["leaked"] != "none" or not mine["copy_of"]
    index = pd.read_csv(tiny_study / "data/prepared/index.csv", keep_default_na=False)
    path = index.loc[index["array"] == "train", "path"].iloc[0]
    with Image.open(tiny_study / "data/raw" / path) as image:
        image.convert("L").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored.jpg", quality=60)
    shutil.copy(tiny_study / "data/raw" / path, tmp_path / "same")
    found, _ = ask(exported("zip"), str(tmp_path / "mirrored.jpg"), str(tmp_path / "same"), where=tmp_path)
    assert [(row["copy_of"], row["copy_kind"]) for row in found] == [(path, "alike"), (path, "byte")]


def test_the_line_for_people_says_how_a_copy_was_told(exported, tiny_study: Path, tmp_path: Path, capsys):
    with Image.open(next((tiny_study / "data/raw/Training").glob("*/*"))) as image:
        image.convert("L").save(tmp_path / "a.png")
    assert main(["predict", "--model", str(exported("zip")), str(tmp_path / "a.png")]) == 0
    said = capsys.readouterr().out
    assert "[by descriptors alone a copy of Training/" in said or "unlike" in said


def rewritten(source: Path, target: Path, **changes: bytes | None) -> Path:
    """Write a zip's members again, some changed or left out; keys are the last part of their names."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(target, "w") as new:
        for name in old.namelist():
            data = changes.get(Path(name).stem, old.read(name))
            if data is not None:
                new.writestr(name, data)
    return target


@pytest.mark.fault("weights", commands=6)
@pytest.mark.parametrize(
    "changes, line",
    [
        ({"predictor": None}, "There is no item named 'models/predictor.json'"),
        ({"predictor": b"{}"}, "models/predictor.json is not as this version of the code writes it"),
        ({"model": b"not weights"}, "models/model.safetensors is not a readable safetensors file"),
        ({"index": b"a,b\n1,2\n"}, "its tables do not belong together"),
        ({"manifest": b"path,sha256\n"}, "its tables do not belong together"),
        ({"descriptors": b"no array"}, "its tables do not belong together"),
        ({"descriptors": b""}, "its tables do not belong together"),
    ],
)
def test_a_zip_that_is_none_of_ours_is_one_line(changes, line: str, exported, tmp_path: Path, capsys):
    path = rewritten(exported("zip"), tmp_path / "other.zip", **changes)
    said = refusal(capsys, "predict", "--model", path, "a.png")
    assert said.startswith(f"brainmri: --model {path}: ") and line in said and "scratch" not in said


@pytest.mark.fault("weights", commands=4)
def test_a_damaged_zip_is_one_line(exported, tmp_path: Path, capsys):
    whole = exported("zip").read_bytes()
    at = len(whole) // 2
    damaged = {"flipped": whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :], "cut": whole[:at], "empty": b""}
    for name, data in damaged.items():
        (tmp_path / name).write_bytes(data)
        said = refusal(capsys, "predict", "--model", tmp_path / name, "a.png")
        assert "no readable zip" in said and "expected what `brainmri export zip` writes" in said
    assert "no such file" in refusal(capsys, "predict", "--model", tmp_path / "nowhere.zip", "a.png")


@pytest.mark.fault("weights", commands=2)
@pytest.mark.parametrize("method", [zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2], ids=["lzma", "bzip2"])
def test_a_damaged_zip_of_another_method_is_one_line(tmp_path: Path, capsys, method: int):
    path = tmp_path / "other.zip"
    with zipfile.ZipFile(path, "w", method) as file:
        for member in bundle.MEMBERS:
            file.writestr(member, bytes(range(256)) * 40)
    data = bytearray(path.read_bytes())
    data[60:200] = bytes(140)
    path.write_bytes(data)
    assert "no readable zip" in refusal(capsys, "predict", "--model", path, "a.png")


@pytest.mark.fault("weights")
def test_a_zip_that_unfolds_without_end_is_refused_and_other_names_are_not_written(
    exported, tmp_path: Path, capsys, monkeypatch
):
    monkeypatch.setattr(bundle, "LONGEST", 1000)
    assert "it unfolds into over 1,000 bytes" in refusal(capsys, "predict", "--model", exported("zip"), "a.png")
    monkeypatch.undo()
    shutil.copy(exported("zip"), tmp_path / "more.zip")
    with zipfile.ZipFile(tmp_path / "more.zip", "a") as file:
        file.writestr("../../escaped", "1")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    bundle.load(tmp_path / "more.zip", "cpu")
    assert [path.name for path in tmp_path.iterdir()] == ["more.zip"] and not (tmp_path.parent / "escaped").exists()


def test_the_page_asks_a_zip_too_and_says_what_it_cannot_know(exported, tiny_study: Path, tmp_path: Path, capsys):
    requests = pytest.importorskip("requests")
    copied = min((tiny_study / "data/raw/Training").glob("*/*"))
    with Image.open(copied) as image:
        image.convert("L").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored.png")
    exported("zip")
    capsys.readouterr()
    assert main(["predict", "--model", str(exported("zip")), "--csv", str(tmp_path / "mirrored.png")]) == 0
    with served(exported("zip"), tmp_path / "page") as page:
        name = str(tmp_path / "mirrored.png")
        (said,) = ask_page(page.url, [(name, Path(name).read_bytes())])
        study = requests.get(f"{page.url}study", timeout=30).json()
        assert study["heading"] + said["row"] == capsys.readouterr().out and said["copy_kind"] == "alike"
        assert study["title"] == "a.zip" and not study["raw"] and not study["examples"]
        assert study["clean_accuracy"] is None
        where = {"path": said["nearest"]}
        assert requests.get(f"{page.url}training", params=where, timeout=30).status_code == 404
        assert requests.get(f"{page.url}example", timeout=30).status_code == 404
        assert list(page.scratch.glob("brainmri-*")) == []
    assert set(re.findall(r"(\w+): \"", (ROOT / "commands/serve/page/show.js").read_text())) >= {"byte", "alike"}


# --- torchvision


def test_torchvisions_own_resnet50_loads_the_weights_by_the_lines_that_are_printed(
    tiny_study: Path, tmp_path: Path, capsys
):
    assert main(["export", "torchvision", str(tmp_path / "weights"), "--study", str(tiny_study)]) == 0
    lines = capsys.readouterr().out
    names: dict[str, Any] = {}
    exec(lines, names)
    assert len(lines.split("\n")) == 7 and not names["model"].training
    ours, meta = network.load(tiny_study / "models/model.safetensors")
    images = torch.from_numpy(known(tiny_study)[0]).unsqueeze(1).float() / 255
    x = (images - meta.mean) / meta.std
    with torch.inference_mode():
        assert torch.allclose(names["model"](x.expand(-1, 3, -1, -1)), ours(x), atol=1e-4)


def test_the_page_shows_those_lines():
    from commands.export.plain import LINES

    page = (ROOT / "docs/export.md").read_text()
    assert LINES.format(classes=4, path="resnet50.safetensors") in page
