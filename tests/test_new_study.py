"""`brainmri new-study`: a study from one's own images, or one line and no folder."""

from __future__ import annotations

import argparse
import hashlib
import json
import shlex
import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest
import yaml
from archives import FILES, folder, zipped
from dvc.utils.hydra import apply_overrides
from serving import serving

from commands import new_study
from stages.dialect import parse, written
from stages.fetch import __main__ as fetch
from stages.fetch import tree
from stages.params import load
from stages.report.schema import Params
from stages.shell.errors import InputError

ROOT = Path(__file__).parent.parent
FLAT = {f"{label}/{number}.jpg": f"{label} {number}".encode() * 9 for label in ("cat", "dog") for number in range(10)}
# what Git has of a new study: its own, and what makes it a DVC project
KEPT = {
    "params.yaml",
    "dvc.yaml",
    "versions.yaml",
    ".gitignore",
    "files.sha256",
    ".dvcignore",
    ".dvc/config",
    ".dvc/.gitignore",
}
KEPT |= {f".dvc/plots/{path.name}" for path in (ROOT / ".dvc/plots").iterdir()}


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Stand in something like a clone, with ../own beside it."""
    clone = tmp_path / "clone"
    (clone / "stages" / "fetch").mkdir(parents=True)
    for name in ("params.yaml", "dvc.yaml", "versions.yaml", ".dvcignore"):
        shutil.copy(ROOT / name, clone / name)
    shutil.copytree(ROOT / ".dvc/plots", clone / ".dvc/plots")
    shutil.copy(ROOT / ".dvc/.gitignore", clone / ".dvc")
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
    return parse(Path(f"studies/{name}/params.yaml").read_text())


@pytest.mark.parametrize("make", [folder, zipped], ids=["folder", "zip"])
def test_given_split_is_kept(root, capsys, make):
    make(root.parent / "own", FILES)
    assert call("mine", "../own") == 0
    values = params("mine")
    assert values["root"] == "../.."
    assert values["classes"] == ["cat", "dog"]
    assert values["fetch"]["source"] == "archive"
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
    assert tree.tree_digest("data/raw") == parse(Path("params.yaml").read_text())["fetch"]["tree_digest"]
    assert tree.listing(tree.hashes_of("data/raw")) == Path("files.sha256").read_text()


def test_title_is_the_studys_own(root):
    folder(root.parent / "own", FILES)
    call("mine", "../own")
    title = params("mine")["report"]["title"]
    assert title.startswith("mine:") and "phantom" not in title


@pytest.mark.parametrize("names", [("train", "test", "val"), ("TRAINING", "TESTING", "Valid")], ids=repr)
def test_splits_by_the_names_that_people_give_them_become_the_studys(root, names, monkeypatch, capsys):
    files = {name.replace("Training", names[0]).replace("Testing", names[1]): data for name, data in FILES.items()}
    files |= {f"{names[2]}/{label}/{n}.jpg": f"v {label} {n}".encode() for label in ("cat", "dog") for n in range(2)}
    folder(root.parent / "own", files)
    call("mine", "../own")
    assert params("mine")["verify"]["expected"]["Validation"] == {"cat": 2, "dog": 2}
    assert capsys.readouterr().out.splitlines()[:2] == [
        "class  Training   Testing  Validation",
        "cat           3         3           2",
    ]
    monkeypatch.chdir(root / "studies" / "mine")
    fetch.main()
    assert sorted(path.name for path in Path("data/raw").iterdir()) == ["Testing", "Training", "Validation"]
    assert tree.listing(tree.hashes_of("data/raw")) == Path("files.sha256").read_text()


def test_a_cross_validation_by_patient_is_asked_for_by_the_number_of_folds(root):
    folder(root.parent / "own", FILES)
    call("mine", "../own", "--folds", "3")
    split = params("mine")["split"]
    assert split["folds"] == {"0": "/folds/0", "1": "/folds/1", "2": "/folds/2"} and split["networks"] == "folds"
    assert split["protocol"] == "by_patient" and split["parts"] == 3
    call("plain", "../own")
    assert params("plain")["split"]["folds"] == {"0": ""}


@pytest.mark.parametrize("number", ["1", "0", "-2", "x", "101"])
def test_no_number_of_folds_is_one_line_and_makes_nothing(root, number, capsys):
    folder(root.parent / "own", FILES)
    with pytest.raises(SystemExit):
        call("mine", "../own", "--folds", number)
    assert "expected a whole number from 2 to 100" in capsys.readouterr().err
    assert not (root / "studies/mine").exists()


def test_doubled_folders_are_seen_through(root):
    files = {f"own/{name.replace('/', '/' + name.split('/')[0] + '/', 1)}": data for name, data in FILES.items()}
    assert "Training/Training/cat" in next(iter(files))
    folder(root.parent / "own", files)
    call("mine", "../own")
    assert params("mine")["classes"] == ["cat", "dog"]


@pytest.mark.parametrize("make", [folder, zipped], ids=["folder", "zip"])
@pytest.mark.parametrize("empty", ["Training/bird", "Testing/bird", "val/cat"])
def test_an_empty_class_folder_is_named(root, make, empty):
    source = make(root.parent / "own", FILES)
    if source.is_dir():
        (source / empty).mkdir(parents=True)
    else:
        with zipfile.ZipFile(source, "a") as archive:
            archive.mkdir(empty)
    said = empty.replace("val", "Validation")
    assert f"folder '{said}' has no image; put the images of that class there, or remove it" in refusal(
        "mine", "../own"
    )


def test_a_class_folder_with_hidden_files_alone_is_named(root):
    folder(root.parent / "own", FLAT | {"bird/.DS_Store": b"1"})
    assert "folder 'bird' has no image" in refusal("mine", "../own")


def test_no_path_of_this_machine_is_in_any_file_of_a_study_and_fetch_finds_the_images(root, monkeypatch, capsys):
    folder(root.parent / "own", FILES)
    call("mine", "../own")
    study = root / "studies" / "mine"
    assert [
        path for path in study.rglob("*") if path.is_file() and str(root.parent).encode() in path.read_bytes()
    ] == []
    assert params("mine")["fetch"]["archive"]["location"] is None
    assert "this machine remembers " + str(root.parent / "own") in capsys.readouterr().out
    workspace = root.parent / "elsewhere"  # as an experiment's is
    shutil.copytree(study, workspace)
    monkeypatch.chdir(workspace)
    fetch.main()
    assert tree.tree_digest("data/raw") == parse(Path("params.yaml").read_text())["fetch"]["tree_digest"]


def test_images_that_were_moved_are_asked_for(root, monkeypatch):
    own = folder(root.parent / "own", FILES)
    call("mine", "../own")
    own.rename(root.parent / "moved")
    monkeypatch.chdir(root / "studies" / "mine")
    with pytest.raises(
        InputError, match=r"the place of these images \(BRAINMRI_SOURCE may name another\) is .*not there"
    ):
        fetch.main()
    monkeypatch.setenv("BRAINMRI_SOURCE", str(root.parent / "moved"))
    fetch.main()
    monkeypatch.delenv("BRAINMRI_SOURCE")
    shutil.rmtree(root.parent / "cache")
    with pytest.raises(InputError, match=r"location is null: expected .* BRAINMRI_SOURCE"):
        fetch.main()


def test_links_are_followed_and_those_that_lead_out_are_told(root, capsys):
    pool = folder(root.parent / "pool", FILES)
    own = root.parent / "own"
    for name in FILES:
        (own / name).parent.mkdir(parents=True, exist_ok=True)
        (own / name).symlink_to(pool / name)
    call("mine", "../own")
    assert "Links that lead out of it: 12, as 0.jpg; what they lead to is taken." in capsys.readouterr().out
    hashes = {name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()}
    assert params("mine")["fetch"]["tree_digest"] == tree.digest(hashes)


def test_what_to_do_next_is_one_line_in_order(root, monkeypatch, capsys):
    folder(root.parent / "own", FILES)
    call("mine", "../own")
    assert capsys.readouterr().out.endswith("then:\n  cd studies/mine && dvc repro\n"), "no Git, nothing to commit"
    (root / "docs").mkdir()
    monkeypatch.chdir(root / "docs")
    git(root, "init")
    call("other", str(root.parent / "own"))
    line = 'git commit -m "Study other" -- ../studies/other && cd ../studies/other && dvc repro'
    assert capsys.readouterr().out.endswith(f"then:\n  {line}\n")
    git(root / "docs", *shlex.split(line)[1:6])
    assert git(root, "status", "--porcelain", "studies/other") == ""


def git(folder: Path, *words: str) -> str:
    who = [word for name in ("name", "email") for word in ("-c", f"user.{name}=x")]
    return subprocess.run(["git", *who, *words], cwd=folder, check=True, capture_output=True, text=True).stdout


def test_files_are_staged_so_that_git_knows_them(root):
    folder(root.parent / "own", FILES)
    git(root, "init")
    call("mine", "../own")
    staged = git(root, "diff", "--cached", "--name-only").split()
    assert {f"studies/mine/{name}" for name in KEPT} == set(staged)


def test_commit_takes_the_studys_files_and_nothing_else(root, monkeypatch, capsys):
    folder(root.parent / "own", FILES)
    for name in ("AUTHOR", "COMMITTER"):
        monkeypatch.setenv(f"GIT_{name}_NAME", "x")
        monkeypatch.setenv(f"GIT_{name}_EMAIL", "x")
    git(root, "init")
    git(root, "commit", "--allow-empty", "-m", "first")
    git(root, "add", "dvc.yaml")
    call("mine", "../own", "--commit")
    committed = git(root, "show", "--name-only", "--format=%s").split()
    assert committed[:2] == ["Study", "mine"]
    assert set(committed[2:]) == {f"studies/mine/{name}" for name in KEPT}
    left = git(root, "status", "--porcelain").splitlines()
    assert left == ["A  dvc.yaml", "?? .dvc/", "?? .dvcignore", "?? params.yaml", "?? versions.yaml"]
    assert capsys.readouterr().out.endswith("then:\n  cd studies/mine && dvc repro\n")


def test_commit_without_git_is_one_line_and_no_study(root):
    folder(root.parent / "own", FILES)
    assert "--commit: " in refusal("mine", "../own", "--commit")


def test_what_git_refuses_is_one_line(root, monkeypatch):
    folder(root.parent / "own", FILES)
    git(root, "init")
    (root / ".git/index.lock").touch()
    with pytest.raises(InputError, match=r"studies/mine is made, but Git does not take it: .*index.lock"):
        call("mine", "../own")


def rewritten_by_dvc(text: str, path: Path) -> str:
    path.write_text(text)
    apply_overrides(path, ["lr=1e-4"])
    return path.read_text()


FORMS = {
    "as DVC writes it": rewritten_by_dvc,
    "without comments": lambda text, _: written(parse(text), default_flow_style=False),
    "in flow style": lambda text, _: json.dumps(parse(text)),
    "in another order": lambda text, _: written(parse(text), sort_keys=True),
    "by PyYAML": lambda text, _: yaml.safe_dump(parse(text)),
    "lines of Windows": lambda text, _: text.replace("\n", "\r\n"),
    "a mark at the start": lambda text, _: "\ufeff" + text,
    "with a directive and an end": lambda text, _: f"%YAML 1.2\n---\n{text}...\n",
    "with anchors": lambda text, _: text.replace("max_pixels: 5", "max_pixels: &most 5", 1).replace(
        "expected: null", "expected: &none null"
    ),
    "with odd classes": lambda text, path: rewritten_by_dvc(text.replace("[glioma,", "['no', '1e5',"), path),
}


@pytest.mark.parametrize("form", FORMS)
def test_root_params_are_taken_in_any_form(root, form):
    folder(root.parent / "own", {f"{c}/{n}": f"{c}{n}".encode() for c in ("no", "yes", "1e5") for n in range(5)})
    template = root / "params.yaml"
    template.write_bytes(FORMS[form](template.read_text(), root.parent / "params.yaml").encode())
    call("mine", "../own")
    mine, roots = params("mine"), parse(template.read_bytes().removeprefix(b"\xef\xbb\xbf"))
    assert mine["classes"] == ["1e5", "no", "yes"] and mine["root"] == "../.."
    assert {key: mine[key] for key in ("lr", "train", "augment", "prepare")} == {
        key: roots[key] for key in ("lr", "train", "augment", "prepare")
    }
    text = Path("studies/mine/params.yaml").read_text()
    assert yaml.safe_load(text)["classes"] == mine["classes"], "read otherwise by YAML 1.1"
    assert text.count("# A study of your own") == 1 and "The default study" not in text


def test_test_set_is_made_where_there_is_none(root):
    folder(root.parent / "own", FLAT)
    call("mine", "../own", "--test-fraction", "0.3", "--seed", "5")
    values = params("mine")
    assert values["fetch"]["split"] == {"test_fraction": 0.3, "seed": 5}
    assert values["verify"]["expected"] == {"Training": {"cat": 7, "dog": 7}, "Testing": {"cat": 3, "dog": 3}}


def test_everything_else_is_as_in_the_root(root):
    folder(root.parent / "own", FILES)
    call("mine", "../own")
    mine, template = params("mine"), parse((root / "params.yaml").read_text())
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
    assert {path.relative_to(study).as_posix() for path in study.rglob("*") if path.is_file()} == KEPT
    for kept in ("/data/", "/models/*", "/logs/", "/report/"):
        assert kept in (study / ".gitignore").read_text().splitlines()
    comments = [line.split("#", 1)[1] for line in (root / "params.yaml").read_text().splitlines()[1:] if "#" in line]
    text = (study / "params.yaml").read_text()
    assert [comment for comment in comments if comment not in text] == []


ODD_NAMES = [
    ("no", "yes"),
    ("0", "1"),
    ("1e3", "null"),
    ("Gliome É", "on"),
    ("012", "0o12"),
    ("2001-01-01", "1_0"),
    ("y", "N"),
]


@pytest.mark.parametrize("names", ODD_NAMES, ids=repr)
def test_class_names_that_yaml_takes_for_something_else_stay_text(root, names):
    folder(root.parent / "own", {f"{label}/{n}.jpg": f"{label}{n}".encode() for label in names for n in range(5)})
    call("mine", "../own")
    path = Path("studies/mine/params.yaml")
    for read in (yaml.safe_load, parse):
        assert read(path.read_text())["classes"] == sorted(names)
        assert set(read(path.read_text())["verify"]["expected"]["Testing"]) == set(names)
    apply_overrides(path, ["lr=1e-4"])  # what `dvc exp run -S` does: quotes are dropped
    assert load(Params, path).classes == sorted(names)
    assert load(Params, path).lr == 1e-4


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
        "class 'cat' has 1 distinct files or patients, too few",
    ),
    "class of copies": ({"cat/1.jpg": b"1", "cat/2.jpg": b"1", "dog/1.jpg": b"2", "dog/2.jpg": b"3"}, "class 'cat'"),
    "bad name": ({"c.a.t/1.jpg": b"1", "dog/1.jpg": b"2"}, "'c.a.t' cannot name a class"),
    "too deep": ({"cat/a/1.jpg": b"1", "dog/1.jpg": b"2"}, "folder inside a class"),
    "class without test images": (
        {"Training/cat/1": b"1", "Training/dog/1": b"2", "Testing/cat/1": b"3"},
        "no file in Testing/dog",
    ),
    "split without the other": (
        {"Training/cat/1": b"1", "Training/dog/1": b"2"},
        "it has Training but no Testing; add a folder Testing",
    ),
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


def test_study_that_came_while_the_source_was_looked_through_is_left_alone(root, monkeypatch):
    folder(root.parent / "own", FILES)
    before = new_study.look

    def look(*words):
        (root / "studies/mine").mkdir(parents=True)
        (root / "studies/mine/trained").touch()
        return before(*words)

    monkeypatch.setattr(new_study, "look", look)
    with pytest.raises(InputError, match="is there already"):
        call("mine", "../own")
    assert [each.name for each in (root / "studies").rglob("*")] == ["mine", "trained"]


@pytest.mark.parametrize(("where", "said"), [("s3://bucket/images", "not an http(s) URL"), ("../ring", "not there")])
def test_source_that_cannot_be_one_is_one_line(root, where, said):
    (root.parent / "ring").symlink_to("ring")
    assert said in refusal("mine", where)


def test_outside_a_clone_is_one_line(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    with pytest.raises(InputError, match="not in a clone"):
        call("mine", "own")
