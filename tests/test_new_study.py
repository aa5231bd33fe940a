"""`brainmri new-study`: a study from one's own images, or one line and no folder."""

from __future__ import annotations

import argparse
import hashlib
import shutil
from pathlib import Path

import pytest
import yaml
from archives import FILES, folder, zipped
from serving import serving

from commands import new_study
from stages.fetch import __main__ as fetch
from stages.fetch import tree
from stages.shell.errors import InputError

ROOT = Path(__file__).parent.parent
FLAT = {f"{label}/{number}.jpg": f"{label} {number}".encode() * 9 for label in ("cat", "dog") for number in range(10)}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Stand in something like a clone, with ../own beside it."""
    clone = tmp_path / "clone"
    (clone / "stages" / "fetch").mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml", "versions.yaml"):
        shutil.copy(ROOT / name, clone / name)
    monkeypatch.setenv("BRAINMRI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.delenv("BRAINMRI_SOURCE", raising=False)
    monkeypatch.chdir(clone)
    return clone


def call(*words: str) -> int:
    parser = argparse.ArgumentParser()
    new_study.add_parser(parser.add_subparsers())
    args = parser.parse_args(["new-study", *words])
    return args.run(args)


def refusal(*words: str) -> str:
    with pytest.raises(InputError) as caught:
        call(*words)
    assert "\n" not in str(caught.value)
    studies = Path("studies")
    assert not studies.exists() or list(studies.iterdir()) == []
    return str(caught.value)


def params(name: str) -> dict:
    return yaml.safe_load(Path(f"studies/{name}/params.yaml").read_text())


@pytest.mark.parametrize("make", [folder, zipped], ids=["folder", "zip"])
def test_given_split_is_kept(root, capsys, make):
    make(root.parent / "own", FILES)
    assert call("mine", "../own") == 0
    values = params("mine")
    assert values["root"] == "../.."
    assert values["classes"] == ["cat", "dog"]
    assert values["fetch"]["source"] == "archive"
    assert values["fetch"]["archive"]["location"] == str(root.parent / "own")
    assert values["fetch"]["split"] is None
    assert values["verify"]["expected"] == {split: {"cat": 3, "dog": 3} for split in ("Training", "Testing")}
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    assert values["fetch"]["tree_digest"] == tree.digest(hashes)
    assert capsys.readouterr().out.splitlines()[:4] == [
        "class  Training   Testing",
        "cat           3         3",
        "dog           3         3",
        "all           6         6",
    ]


@pytest.mark.parametrize(
    "files", [FILES, FLAT, {f"wrapped/{name}": data for name, data in FLAT.items()}], ids=["given", "made", "wrapped"]
)
def test_new_study_can_be_fetched_as_it_is(root, files, monkeypatch):
    folder(root.parent / "own", files | {"README": b"read me"})
    call("mine", str(root.parent / "own"))
    monkeypatch.chdir(root / "studies" / "mine")
    fetch.main()
    assert tree.tree_digest("data/raw") == yaml.safe_load(Path("params.yaml").read_text())["fetch"]["tree_digest"]
    assert tree.listing(tree.hashes_of("data/raw")) == Path("files.sha256").read_text()


def test_title_is_the_studys_own(root):
    folder(root.parent / "own", FILES)
    call("mine", "../own")
    title = params("mine")["report"]["title"]
    assert title.startswith("mine:") and "phantom" not in title


@pytest.mark.parametrize("halves", [("train", "test"), ("TRAINING", "TESTING"), ("Train", "Test")], ids=repr)
def test_halves_of_a_split_by_another_name_are_told_how_to_be_called(root, halves):
    files = {name.replace("Training", halves[0]).replace("Testing", halves[1]): data for name, data in FILES.items()}
    folder(root.parent / "own", files)
    assert "call the halves Training and Testing" in refusal("mine", "../own")


def test_test_set_is_made_where_there_is_none(root):
    folder(root.parent / "own", FLAT)
    call("mine", "../own", "--test-fraction", "0.3", "--seed", "5")
    values = params("mine")
    assert values["fetch"]["split"] == {"test_fraction": 0.3, "seed": 5}
    assert values["verify"]["expected"] == {"Training": {"cat": 7, "dog": 7}, "Testing": {"cat": 3, "dog": 3}}


def test_everything_else_is_as_in_the_root(root):
    folder(root.parent / "own", FILES)
    call("mine", "../own")
    mine, template = params("mine"), yaml.safe_load((root / "params.yaml").read_text())
    for values in (mine, template):
        for key in ("root", "classes"):
            del values[key]
        for key in ("source", "archive", "split", "tree_digest"):
            del values["fetch"][key]
        del values["verify"]["expected"]
        del values["report"]["title"]
    assert mine == template
    study = root / "studies" / "mine"
    for name in ("dvc.yaml", "versions.yaml"):
        assert (study / name).read_bytes() == (root / name).read_bytes()
    made = {"params.yaml", "dvc.yaml", "versions.yaml", ".gitignore", "files.sha256"}
    assert {path.name for path in study.iterdir()} == made
    for kept in ("/data/", "/models/*", "/logs/", "/report/"):
        assert kept in (study / ".gitignore").read_text().splitlines()
    comments = [line.split("#", 1)[1] for line in (root / "params.yaml").read_text().splitlines()[1:] if "#" in line]
    text = (study / "params.yaml").read_text()
    assert [comment for comment in comments if comment not in text] == []


@pytest.mark.parametrize("names", [("no", "yes"), ("0", "1"), ("1e3", "null"), ("Gliome É", "on")], ids=repr)
def test_class_names_that_yaml_takes_for_something_else_stay_text(root, names):
    folder(root.parent / "own", {f"{label}/{n}.jpg": f"{label}{n}".encode() for label in names for n in range(5)})
    call("mine", "../own")
    assert params("mine")["classes"] == sorted(names)
    assert set(params("mine")["verify"]["expected"]["Testing"]) == set(names)


def test_url_is_a_source_too(root):
    with serving({"/own.zip": zipped(root.parent / "own.zip", FLAT).read_bytes()}) as server:
        call("mine", f"{server.url}/own.zip")
        assert params("mine")["fetch"]["archive"]["location"] == f"{server.url}/own.zip"


def test_study_can_be_made_from_a_folder_below_the_root(root, monkeypatch):
    folder(root.parent / "own", FILES)
    (root / "docs").mkdir()
    monkeypatch.chdir(root / "docs")
    call("mine", "../../own")
    assert (root / "studies" / "mine" / "params.yaml").is_file()


BAD_SOURCES = {
    "one class": ({"cat/1.jpg": b"1", "cat/2.jpg": b"2"}, "1 class folders (cat); expected at least 2"),
    "no class": ({"1.jpg": b"1"}, "0 class folders"),
    "nothing": ({".hidden": b""}, "0 class folders"),
    "class of one": (
        {"cat/1.jpg": b"1", "dog/1.jpg": b"2", "dog/2.jpg": b"3"},
        "class 'cat' has 1 distinct files, too few",
    ),
    "class of copies": ({"cat/1.jpg": b"1", "cat/2.jpg": b"1", "dog/1.jpg": b"2", "dog/2.jpg": b"3"}, "class 'cat'"),
    "bad name": ({"c.a.t/1.jpg": b"1", "dog/1.jpg": b"2"}, "'c.a.t' cannot name a class"),
    "too deep": ({"cat/a/1.jpg": b"1", "dog/1.jpg": b"2"}, "folder inside a class"),
    "class without test images": (
        {"Training/cat/1": b"1", "Training/dog/1": b"2", "Testing/cat/1": b"3"},
        "no file in Testing/dog",
    ),
    "split without the other": ({"Training/cat/1": b"1", "Training/dog/1": b"2"}, "no file in Testing/cat"),
    "same class twice": ({"cat/1": b"1", "Cat/1": b"2"}, "differ only in case"),
}


@pytest.mark.parametrize("case", BAD_SOURCES)
def test_bad_source_is_one_line_and_no_study(root, case):
    files, said = BAD_SOURCES[case]
    folder(root.parent / "own", files)
    assert said in refusal("mine", "../own")


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "/abs", "-x", ".x", "a b", "é", "x" * 65, "a\n"])
def test_bad_name_is_refused(root, name):
    folder(root.parent / "own", FILES)
    assert "NAME" in refusal("--", name, "../own")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--test-fraction", "0"), "--test-fraction = 0"),
        (("--test-fraction", "1"), "--test-fraction = 1"),
        (("--test-fraction", "nan"), "--test-fraction = nan"),
        (("--seed", "-1"), "--seed = -1"),
    ],
)
def test_bad_option_is_one_line(root, options, said):
    folder(root.parent / "own", FLAT)
    assert said in refusal("mine", "../own", *options)


def test_options_of_the_split_are_refused_where_one_is_given(root):
    folder(root.parent / "own", FILES)
    assert "--test-fraction and --seed are for" in refusal("mine", "../own", "--seed", "1")


def test_missing_source_is_one_line(root):
    assert "SOURCE" in refusal("mine", "../nowhere")


def test_broken_archive_is_one_line(root):
    path = zipped(root.parent / "own.zip", FILES)
    path.write_bytes(path.read_bytes()[:1000])
    assert "own.zip" in refusal("mine", str(path))


def test_study_that_is_there_is_left_alone(root):
    folder(root.parent / "own", FILES)
    call("mine", "../own")
    before = (root / "studies/mine/params.yaml").read_bytes()
    with pytest.raises(InputError, match="is there already"):
        call("mine", "../own")
    assert (root / "studies/mine/params.yaml").read_bytes() == before


def test_outside_a_clone_is_one_line(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    with pytest.raises(InputError, match="not in a clone"):
        call("mine", "own")
