"""`brainmri predict`: the pipeline's bits on any image, hints on odd ones and copies, one line for what is no image."""

from __future__ import annotations

import csv
import io
import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import sklearn
from conftest import ROOT
from faulting import NO_OVERRIDE
from PIL import Image
from working import named_or_fatal

from commands.__main__ import main
from commands.predict import inputs, networks
from commands.predict.inputs import File, Unreadable, files, read, surviving
from stages.backbone.inference import logits
from stages.prepare.schema import Prepare
from stages.verify import dicom
from stages.verify import picture as pictures

PHOTOS = Path(sklearn.__file__).parent / "datasets/images"


@pytest.fixture
def ask(tiny_study: Path, capsys: pytest.CaptureFixture[str]):
    """Return a function that runs the command and returns its status, output and lines on the console's error side."""

    def run(*words: object, study: Path = tiny_study) -> tuple[int, str, list[str]]:
        status = main(["predict", *map(str, words), "--study", str(study)])
        found = capsys.readouterr()
        return status, found.out, [line for line in found.err.splitlines() if line.startswith("brainmri: ")]

    return run


@pytest.fixture(scope="module")
def committed(tiny_study: Path) -> pd.DataFrame:
    return pd.read_csv(tiny_study / "data/predictions.csv", keep_default_na=False)


def rows(text: str) -> list[dict[str, str]]:
    return list(csv.DictReader(io.StringIO(text)))


def test_one_image_alone_has_the_probabilities_of_its_row_to_the_bit(ask, tiny_study, committed):
    for row in committed.iloc[[0, 7, -1]].to_dict("records"):
        status, text, _ = ask(tiny_study / "data/raw" / row["path"], "--json")
        (found,) = json.loads(text)["images"]
        assert status == 0 and found["predicted"] == row["predicted"]
        assert {f"p_{name}": value for name, value in found["probabilities"].items()} == {
            key: value for key, value in row.items() if key.startswith("p_")
        }


def test_a_folder_gives_the_whole_test_set_as_committed(ask, tiny_study, committed):
    status, text, _ = ask(tiny_study / "data/raw/Testing", "--csv")
    found = {row["path"].partition("data/raw/")[2]: row for row in rows(text)}
    assert status == 0 and sorted(found) == sorted(committed["path"])
    for row in committed.to_dict("records"):
        mine = found[row["path"]]
        given = [key for key in row if key.startswith("p_")]
        assert [float(mine[key]) for key in given] == [row[key] for key in given]
        assert mine["predicted"] == row["predicted"]
        if row["leaked"] == "byte":
            assert mine["copy_kind"] == "byte" and mine["copy_of"].startswith("Training/")


def test_other_formats_of_the_same_pixels_give_the_same_answer(ask, tiny_study, committed, tmp_path):
    with Image.open(tiny_study / "data/raw" / committed["path"][0]) as image:
        grey = image.convert("L")
    for name in ("a.png", "a.tiff", "a.bmp"):
        grey.save(tmp_path / name)
    _, text, _ = ask(tmp_path, "--csv")
    found = rows(text)
    assert len(found) == 3 and len({tuple(list(row.values())[2:7]) for row in found}) == 1


def test_what_is_no_image_has_its_own_line_and_all_others_are_predicted(ask, tiny_study, tmp_path):
    for number, path in enumerate(sorted((tiny_study / "data/raw/Testing").glob("*/*"))[:30]):
        shutil.copy(path, tmp_path / f"{number:02d}{path.suffix}")
    (tmp_path / "05-notes.txt").write_text("not an image")
    (tmp_path / "11-cut.jpg").write_bytes(next(tmp_path.glob("00.*")).read_bytes()[:300])
    (tmp_path / ".hidden").write_text("left out")
    status, text, errors = ask(tmp_path, tmp_path / "nowhere.png", "--csv")
    assert status == 1 and len(rows(text)) == 30
    assert [line.split(": ")[1].rpartition("/")[2] for line in errors[:3]] == [
        "05-notes.txt",
        "11-cut.jpg",
        "nowhere.png",
    ]
    assert "not an image in a known format" in errors[0] and "no such file" in errors[2]
    assert errors[3:] == ["brainmri: 3 of 33 files could not be read (named above)"]


def test_linked_folders_are_looked_into_each_once_and_a_ring_of_them_ends(tmp_path):
    (tmp_path / "away/deep").mkdir(parents=True)
    (tmp_path / "away/deep/a.png").touch()
    (tmp_path / "asked").mkdir()
    (tmp_path / "asked/b.png").touch()
    (tmp_path / "asked/link").symlink_to(tmp_path / "away")
    (tmp_path / "asked/again").symlink_to(tmp_path / "away/deep")
    (tmp_path / "away/ring").symlink_to(tmp_path / "asked")
    assert [file.name for file in files([tmp_path / "asked"])] == ["again/a.png", "b.png"]


def test_a_file_that_ends_the_process_of_its_decoder_is_named_and_all_others_are_read(monkeypatch):
    monkeypatch.setenv("BRAINMRI_WORKERS", "2")
    chunks = [[File(Path(f"{n}{each}"), "") for each in ("a", "fatal" if n in (2, 5) else "b")] for n in range(7)]
    found = [each for file in surviving(named_or_fatal, chunks) for each in file]
    assert [each.path for each in found] == [str(file.path) for chunk in chunks for file in chunk]
    crashed = [each.path for each in found if "crashed" in each.reason]
    assert crashed == ["2fatal", "5fatal"] and {each.reason for each in found if each.path not in crashed} == {"read"}


def test_a_file_that_takes_too_long_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(inputs, "SECONDS", 0.2)
    monkeypatch.setattr(inputs, "pictures", lambda *_: time.sleep(30))
    (tmp_path / "a.png").touch()
    (found,) = inputs.read_all([File(tmp_path / "a.png", "a.png")], 32, Prepare.model_construct(max_pixels=1))
    assert found == [Unreadable(str(tmp_path / "a.png"), "takes more than 0.2 s to decode")]


def test_files_of_one_name_are_numbered_whatever_is_there_already(tmp_path):
    for name in ("1/a.png", "2/a.png", "3/a-2.png", "4/a.png"):
        (tmp_path / name).parent.mkdir()
        (tmp_path / name).touch()
    found = files([tmp_path / name for name in ("3/a-2.png", "1/a.png", "2/a.png", "4/a.png")])
    assert [file.name for file in found] == ["a-2.png", "a.png", "a-3.png", "a-4.png"]


@pytest.mark.parametrize("how", ["the folder", "the file"])
def test_training_images_that_may_not_be_looked_at_leave_copies_told_by_descriptors(
    ask, tiny_study, tmp_path, monkeypatch, how
):
    """As root every file may be read: the refusal is the system's own error, raised where it would be."""
    index = pd.read_csv(tiny_study / "data/prepared/index.csv", keep_default_na=False)
    path = index.loc[index["array"] == "train", "path"].iloc[0]
    with Image.open(tiny_study / "data/raw" / path) as image:
        image.convert("L").save(tmp_path / "a.png")

    def closed(*_: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(pictures, "located" if how == "the folder" else "read", closed)
    status, text, _ = ask(tmp_path / "a.png", "--csv")
    assert status == 0 and [(row["copy_of"], row["copy_kind"]) for row in rows(text)] == [(path, "alike")]


def test_files_that_are_no_images_cost_no_forward_passes(ask, tiny_study, tmp_path, monkeypatch):
    for number, path in enumerate(sorted((tiny_study / "data/raw/Testing").glob("*/*"))[:12]):
        shutil.copy(path, tmp_path / f"{number:02d}{path.suffix}")
        (tmp_path / f"{number:02d}.json").write_text("{}")
    passes = []
    monkeypatch.setattr(
        networks, "logits", lambda *args, **options: passes.append(len(args[1])) or logits(*args, **options)
    )
    _, text, errors = ask(tmp_path, "--csv")
    assert passes == [12] and len(rows(text)) == 12 and len(errors) == 13


def test_each_page_of_a_tiff_has_its_own_answer(ask, tiny_study, committed, tmp_path):
    paths = committed["path"][:3]
    first, *others = (Image.open(tiny_study / "data/raw" / path).convert("L") for path in paths)
    first.save(tmp_path / "many.tiff", save_all=True, append_images=others)
    _, text, _ = ask(tmp_path / "many.tiff", "--csv")
    given = [key for key in committed if key.startswith("p_")]
    assert [row["frame"] for row in rows(text)] == ["1", "2", "3"]
    assert [[float(row[key]) for key in given] for row in rows(text)] == committed[given][:3].to_numpy().tolist()


def test_a_photograph_and_noise_are_called_unlike_and_few_clean_test_images_are(ask, tiny_study, committed, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (200, 200), np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    _, text, _ = ask(PHOTOS / "china.jpg", tmp_path / "noise.png", "--json")
    assert [found["unlike"] for found in json.loads(text)["images"]] == [True, True]
    _, text, _ = ask(tiny_study / "data/raw/Testing", "--csv")
    clean = set(committed.loc[committed["leaked"] == "none", "path"])
    flags = [int(row["unlike"]) for row in rows(text) if row["path"].partition("data/raw/")[2] in clean]
    assert flags and np.mean(flags) < 0.3
    _, text, _ = ask(PHOTOS / "china.jpg")
    assert "[unlike the training images:" in text


def test_a_copy_of_a_training_image_is_named_however_it_lies(ask, tiny_study, tmp_path):
    index = pd.read_csv(tiny_study / "data/prepared/index.csv", keep_default_na=False)
    paths = index.loc[index["array"] == "train", "path"].tolist()[::9]
    ways = {"copy": lambda a: a, "mirrored": lambda a: a[:, ::-1], "rotated": lambda a: a.T}
    expected = {}
    for number, path in enumerate(paths):
        with Image.open(tiny_study / "data/raw" / path) as image:
            grey = np.asarray(image.convert("L"))
        kind = list(ways)[number % 3]
        name = f"{number}.jpg"
        Image.fromarray(np.ascontiguousarray(ways[kind](grey))).save(tmp_path / name, quality=60)
        expected[name] = (path, kind)
    _, text, _ = ask(tmp_path, "--csv")
    assert {Path(row["path"]).name: (row["copy_of"], row["copy_kind"]) for row in rows(text)} == expected


def test_gradcam_writes_a_picture_for_each_image_where_it_was(ask, tiny_study, tmp_path):
    folder = tiny_study / "data/raw/Testing"
    status, _, _ = ask(folder, "--gradcam", tmp_path / "maps")
    written = {path.relative_to(tmp_path / "maps").as_posix() for path in (tmp_path / "maps").rglob("*.png")}
    assert status == 0 and written == {f"{p.relative_to(folder).as_posix()}.png" for p in folder.rglob("*.*")}


def test_two_files_of_one_name_have_two_pictures(ask, tiny_study, committed, tmp_path):
    for number, path in enumerate(committed["path"][:3]):
        (tmp_path / str(number)).mkdir()
        shutil.copy(tiny_study / "data/raw" / path, tmp_path / str(number) / "a.png")
    ask(*(tmp_path / str(number) / "a.png" for number in range(3)), "--gradcam", tmp_path / "maps")
    assert sorted(path.name for path in (tmp_path / "maps").iterdir()) == ["a-2.png.png", "a-3.png.png", "a.png.png"]


def test_a_study_that_was_not_run_or_does_not_belong_together_is_one_line(ask, tiny_study, tmp_path):
    status, _, errors = ask("a.png", study=tmp_path)
    assert status == 1 and len(errors) == 1 and "dvc repro" in errors[0]
    other = tmp_path / "other"
    shutil.copytree(tiny_study, other)
    about = json.loads((other / "models/predictor.json").read_text())
    (other / "models/predictor.json").write_text(json.dumps(about | {"weights_sha256": "0" * 64}))
    status, _, errors = ask("a.png", study=other)
    assert status == 1 and "is not the file that" in errors[0]
    (other / "models/predictor.json").write_text("{")
    assert "(Invalid JSON: " in ask("a.png", study=other)[2][0]
    (other / "models/predictor.json").write_text(json.dumps(about))
    manifest = (other / "data/manifest.csv").read_text()
    for damaged in ("\n".join(manifest.splitlines()[:9]), "a,b\n"):
        (other / "data/manifest.csv").write_text(damaged)
        status, _, errors = ask("a.png", study=other)
        assert status == 1 and len(errors) == 1 and "do not belong together: run `dvc repro` there" in errors[0]
    (other / "data/manifest.csv").write_text(manifest)
    (other / "data/descriptors.npy").unlink()
    (other / "models/predictor.json").write_text(json.dumps(about))
    assert "descriptors.npy not found" in ask("a.png", study=other)[2][0]


@pytest.mark.parametrize(
    ("change", "what"),
    [
        ({"mirror": None}, "mirror: Field required"),
        ({"twins": None}, "twins: Field required"),
        ({"later": 1}, "later: Extra inputs"),
        ({"mirror": "yes"}, "mirror: Input should be a valid boolean"),
        ({"threads": 0}, "threads: Input should be greater than 0"),
        ({"prepare.max_pixels": "5"}, "prepare.max_pixels: Input should be a valid integer"),
        ({"prepare.crop": 1}, "prepare.crop: Input should be a valid boolean"),
        ({"twins.similarity": None}, "twins.similarity: Field required"),
        ({"twins.candidate": "0.6"}, "twins.candidate: Input should be a valid number"),
    ],
)
def test_a_predictor_of_other_code_or_with_wrong_types_is_one_line(tiny_study, tmp_path, capsys, change, what):
    about = json.loads((tiny_study / "models/predictor.json").read_text())
    for key, value in change.items():  # None takes it away
        *outer, last = key.split(".")
        group = about[outer[0]] if outer else about
        group.pop(last, None)
        if value is not None:
            group[last] = value
    (tmp_path / "models").mkdir()
    (tmp_path / "models/predictor.json").write_text(json.dumps(about))
    assert main(["predict", "a.png", "--study", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert f"predictor.json is not as this version of the code writes it ({what}" in error
    assert "run `dvc repro`" in error and error.count("\n") == 1


def test_where_gradcam_cannot_write_is_told_before_anything_is_loaded(tmp_path, capsys):
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    for folder in (tmp_path / "file", tmp_path / "file/maps", tmp_path / "link"):
        assert main(["predict", "a.png", "--study", str(tmp_path / "none"), "--gradcam", str(folder)]) == 1
        error = capsys.readouterr().err
        assert error.startswith(f"brainmri: --gradcam {folder}: ") and "is no folder" in error
        assert error.count("\n") == 1 and "dvc repro" not in error
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "link"]
    assert main(["predict", "a.png", "--study", str(tmp_path / "none"), "--gradcam", str(tmp_path / "a/b")]) == 1
    assert "predictor.json not found" in capsys.readouterr().err and not (tmp_path / "a").exists()


def test_heat_maps_never_take_the_place_of_what_was_asked(tmp_path, capsys):
    (tmp_path / "scans/deep").mkdir(parents=True)
    (tmp_path / "scans/deep/a.png").write_bytes(b"mine")
    for folder in (tmp_path / "scans", tmp_path / "scans/deep"):
        assert main(["predict", str(tmp_path / "scans"), "--gradcam", str(folder)]) == 1
        said = capsys.readouterr().err
        assert "a.png lies in it, and could be replaced: name another folder" in said and said.count("\n") == 1
    assert (tmp_path / "scans/deep/a.png").read_bytes() == b"mine"


def test_an_error_of_the_system_names_the_command_and_no_stage(tmp_path, capsys):
    study = tmp_path / ("x" * 300)
    assert main(["predict", "a.png", "--study", str(study)]) == 1
    said = f"{study}/models/predictor.json: File name too long; mend that and run it again"
    assert capsys.readouterr().err == f"brainmri: predict: {said}\n"


def test_too_long_a_name_has_a_line_of_its_own(ask, tiny_study, committed):
    status, text, errors = ask("x" * 300, tiny_study / "data/raw" / committed["path"][0], "--csv")
    assert status == 1 and len(rows(text)) == 1 and errors[0].endswith(": cannot be read: File name too long")


@pytest.mark.skipif(shutil.which("setpriv") is None, reason="needs setpriv, so that root is bound by permissions")
def test_what_may_not_be_read_has_a_line_of_its_own_and_is_never_left_out(tmp_path):
    for name in ("closed", "unlisted", "blind"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.png").touch()
    (tmp_path / "b.png").touch()
    modes = {"closed": 0o000, "unlisted": 0o300, "blind": 0o400, "b.png": 0o000}
    for name, mode in modes.items():
        (tmp_path / name).chmod(mode)
    code = (
        "import sys; from pathlib import Path; from commands.predict.inputs import files, read; "
        "[print(each.path, each.reason) for file in files([*map(Path, sys.argv[1:])]) for each in read(file, 32, None)]"
    )
    words = [*NO_OVERRIDE, sys.executable, "-c", code, ".", "closed/a.png", "closed"]
    try:
        done = subprocess.run(
            words, cwd=tmp_path, env=os.environ | {"PYTHONPATH": str(ROOT)}, text=True, capture_output=True
        )
    finally:
        for name in modes:
            (tmp_path / name).chmod(0o755)
    assert done.stdout.splitlines() == [
        "b.png cannot be read: Permission denied",
        "blind/a.png cannot be read: Permission denied",
        "closed this folder may not be looked into",
        "unlisted this folder may not be looked into",
        "closed/a.png cannot be read: Permission denied",
        "closed this folder may not be looked into",
    ], done.stderr


def test_a_tiff_of_more_pages_than_frames_are_allowed_is_one_line(tmp_path, monkeypatch):
    monkeypatch.setattr(dicom, "MAX_FRAMES", 2)
    page = Image.new("L", (40, 40), 9)
    for count in (2, 3):
        page.save(tmp_path / f"{count}.tiff", save_all=True, append_images=[page] * (count - 1))
    prepare = Prepare(crop=False, crop_threshold=0.1, max_pixels=10_000)
    assert len(read(File(tmp_path / "2.tiff", "2.tiff"), 32, prepare)) == 2
    assert read(File(tmp_path / "3.tiff", "3.tiff"), 32, prepare) == [
        Unreadable(str(tmp_path / "3.tiff"), "3 pages: expected 1 to 2")
    ]


def test_names_that_are_no_utf_8_or_move_the_cursor_spoil_no_output(tiny_study, committed, tmp_path, monkeypatch):
    names = [os.fsdecode(b"caf\xe9.png"), 'a\nb,"c.png', "a\rb.png", "\x1b[31mred.png"]
    for name in names:
        shutil.copy(tiny_study / "data/raw" / committed["path"][0], tmp_path / name)
    (tmp_path / "no\nimage").touch()

    def said(*words: str) -> str:
        out, errors = io.BytesIO(), io.StringIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(out, encoding="utf-8", newline=""))
        monkeypatch.setattr(sys, "stderr", errors)
        assert main(["predict", str(tmp_path), "--study", str(tiny_study), *words]) == 1
        sys.stdout.flush()
        assert f"{tmp_path}/no\\nimage: empty file" in errors.getvalue() and "\n\n" not in errors.getvalue()
        return out.getvalue().decode()

    shown = ["\\x1b[31mred.png", 'a\\nb,"c.png', "a\\rb.png", "caf\\udce9.png"]
    lines = said().splitlines()
    assert len(lines) == 5 and all(f"{tmp_path}/{name}" in line for name, line in zip(shown, lines[1:], strict=True))
    paths = [found["path"] for found in json.loads(said("--json"))["images"]]
    assert sorted(paths) == sorted(f"{tmp_path}/{name}" for name in names)
    table = csv.DictReader(io.StringIO(said("--csv"), newline=""))
    expected = [names[3], names[1], names[2], "caf\\udce9.png"]
    assert [row["path"] for row in table] == [f"{tmp_path}/{name}" for name in expected]


def test_an_empty_folder_is_one_line(ask, tmp_path):
    status, _, errors = ask(tmp_path)
    assert status == 1 and "no file in" in errors[0]


def test_where_nothing_could_be_read_there_is_no_table(ask, tmp_path):
    (tmp_path / "notes.txt").write_text("not an image")
    status, text, errors = ask(tmp_path)
    assert status == 1 and text == "" and len(errors) == 2
    status, text, _ = ask(tmp_path, "--csv")
    assert (
        status == 1 and text.startswith("path,frame,predicted") and rows(text) == []
    )  # a program reads it: its columns stay


def test_it_says_that_it_is_no_medical_device(tiny_study, committed, capsys):
    main(["predict", str(tiny_study / "data/raw" / committed["path"][0]), "--study", str(tiny_study)])
    assert "Not a medical device" in capsys.readouterr().err
