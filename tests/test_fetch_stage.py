"""`python -m stages.fetch` in a study's folder: data/raw whole and as pinned, or one line and nothing."""

from __future__ import annotations

import hashlib
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
from archives import FILES, LIMITS, folder, tarred, zipped
from serving import serving

from stages.dialect import parse, written
from stages.fetch import __main__ as stage
from stages.fetch import download, source, tree
from stages.fetch.schema import FetchParams
from stages.params import load
from stages.shell.errors import InputError

ROOT = Path(__file__).parent.parent
DIGEST = tree.digest({name: hashlib.sha256(data).hexdigest() for name, data in FILES.items()})


@pytest.fixture
def study(tmp_path, monkeypatch):
    """Stand in a new study whose source is ../source.zip."""
    for name in ("BRAINMRI_SOURCE", "BRAINMRI_CACHE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BRAINMRI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
    monkeypatch.setattr(download, "PAUSE", 0.0)
    (tmp_path / "study").mkdir()
    monkeypatch.chdir(tmp_path / "study")
    zipped(tmp_path / "source.zip", FILES)
    write_params()
    return tmp_path / "study"


def write_params(location: object = "../source.zip", tree_digest: object = DIGEST, **fetch: object) -> None:
    values = parse((ROOT / "params.yaml").read_text())
    values["classes"] = ["cat", "dog"]
    values["fetch"] |= {"source": "archive", "archive": {"location": location}, "tree_digest": tree_digest}
    values["fetch"] |= {"limits": LIMITS.model_dump()} | fetch
    Path("params.yaml").write_text(written(values))


def run(limit_bytes: int | None = None, **environment: str) -> subprocess.CompletedProcess[str]:
    def limit() -> None:
        if limit_bytes:
            resource.setrlimit(resource.RLIMIT_FSIZE, (limit_bytes, limit_bytes))

    variables = os.environ | {"PYTHONPATH": str(ROOT)} | environment
    command = [sys.executable, "-m", "stages.fetch"]
    return subprocess.run(
        command, env=variables, capture_output=True, text=True, preexec_fn=limit, timeout=60, check=False
    )


def refusal(**environment: str) -> str:
    """Run the stage in this process, expect one line and nothing written; return the line."""
    before = set(Path().rglob("*"))
    with pytest.raises(InputError) as caught, pytest.MonkeyPatch.context() as patch:
        for name, value in environment.items():
            patch.setenv(name, value)
        stage.main()
    assert "\n" not in str(caught.value)
    assert {path for path in Path().rglob("*") if path.is_file()} <= before
    assert not list(Path().rglob("*.part"))
    return str(caught.value)


def fetched() -> dict[str, bytes]:
    raw = Path("data/raw")
    return {path.relative_to(raw).as_posix(): path.read_bytes() for path in raw.rglob("*") if path.is_file()}


def test_stage_prints_what_it_did(study):
    done = run()
    assert done.returncode == 0, done.stderr
    assert f"{len(FILES)} files in data/raw, tree digest {DIGEST}" in done.stdout
    assert fetched() == FILES


@pytest.mark.fault("a source that is not what it should be")
@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda: Path("../source.zip").unlink(), "not there"),
        (lambda: Path("../source.zip").write_bytes(Path("../source.zip").read_bytes()[:2000]), "damaged"),
        (lambda: write_params(tree_digest="0" * 64), "is not what fetch.tree_digest pins"),
        (lambda: write_params(tree_digest="x"), "fetch.tree_digest = 'x'"),
        (lambda: zipped(Path("../source.zip"), FILES | {"../evil": b"1"}), "leaves the folder"),
    ],
    ids=["missing", "cut", "digest", "params", "traversal"],
)
def test_failure_is_one_line_with_status_1_and_nothing_left(study, spoil, said):
    spoil()
    done = run()
    assert done.returncode == 1
    assert said in done.stderr
    assert done.stderr.startswith("fetch: ")
    assert done.stderr.count("\n") == 1
    assert {path.name for path in study.rglob("*")} <= {"params.yaml", "data"}
    assert not (study.parent / "evil").exists()


@pytest.mark.fault("a source that is not what it should be")
def test_full_disk_is_one_line_and_nothing_left(study):
    big = {name: data * 1000 for name, data in FILES.items()}
    zipped(Path("../source.zip"), big)
    done = run(limit_bytes=100_000)
    assert done.returncode == 1
    assert done.stderr.startswith("fetch: cannot write")
    assert done.stderr.count("\n") == 1
    assert {path.name for path in study.rglob("*")} <= {"params.yaml", "data"}


@pytest.mark.fault("a source that is not what it should be")
def test_failure_leaves_the_old_data_as_they_were(study):
    stage.main()
    zipped(Path("../source.zip"), FILES | {"Training/cat/new.jpg": b"1"})
    with pytest.raises(InputError):
        stage.main()
    assert fetched() == FILES


def test_mismatch_is_explained_by_the_listing(study):
    stage.main()
    Path("files.sha256").write_text(tree.listing(tree.hashes_of("data/raw")))
    spoilt = {name: data for name, data in FILES.items() if name != "Testing/dog/2.jpg"} | {
        "Training/cat/0.jpg": b"other"
    }
    zipped(Path("../source.zip"), spoilt)
    with pytest.raises(InputError) as caught:
        stage.main()
    assert "1 missing ('Testing/dog/2.jpg'), 0 extra, 1 different ('Training/cat/0.jpg')" in str(caught.value)


def test_missing_digest_says_which_one_it_would_be(study):
    write_params(tree_digest=None)
    assert DIGEST in refusal()


def test_missing_location_is_one_line(study):
    write_params(location=None)
    assert "fetch.archive.location is null" in refusal()


@pytest.mark.fault("a source that is not what it should be")
@pytest.mark.parametrize("location", ["ftp://host/a.zip", "file:///tmp/a.zip", "nowhere.zip", "\0"])
def test_bad_location_is_one_line(study, location):
    write_params(location=location)
    assert "fetch.archive.location" in refusal()


@pytest.mark.parametrize("make", [folder, zipped, tarred], ids=["folder", "zip", "tar"])
def test_bytes_from_elsewhere_change_no_output(study, make):
    write_params(location="nowhere.zip")
    where = make(study.parent / "elsewhere", FILES)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BRAINMRI_SOURCE", str(where))
        stage.main()
    assert fetched() == FILES


@pytest.mark.fault("a source that is not what it should be")
def test_bytes_from_elsewhere_are_checked_too(study):
    where = folder(study.parent / "elsewhere", FILES | {"Training/cat/new.jpg": b"1"})
    assert "is not what fetch.tree_digest pins" in refusal(BRAINMRI_SOURCE=str(where))


@pytest.mark.parametrize("where", ["source.zip", "../source.zip", "~/source.zip", "ftp://host/a.zip"])
def test_relative_source_is_refused(study, where):
    assert "absolute path" in refusal(BRAINMRI_SOURCE=where)


def test_absolute_source_that_is_missing_names_the_variable(study):
    assert "BRAINMRI_SOURCE is '/nowhere'" in refusal(BRAINMRI_SOURCE="/nowhere")


def test_empty_source_variable_is_as_none(study, monkeypatch):
    monkeypatch.setenv("BRAINMRI_SOURCE", "")
    stage.main()
    assert fetched() == FILES


def test_kaggle_study_takes_the_source_variable_too(study, monkeypatch):
    write_params(source="kaggle")
    monkeypatch.setenv("BRAINMRI_SOURCE", str(study.parent / "source.zip"))
    stage.main()
    assert fetched() == FILES


def test_url_is_fetched_and_then_read_from_the_cache(study):
    with serving({"/source.zip": (study.parent / "source.zip").read_bytes()}) as server:
        write_params(location=f"{server.url}/source.zip")
        stage.main()
        stage.main()
        assert len(server.requests) == 1
    assert fetched() == FILES


@pytest.mark.fault("a source that is not what it should be")
def test_wrong_copy_in_the_cache_is_got_again(study):
    with serving(
        {"/source.zip": zipped(study.parent / "old.zip", {"Training/cat/1.jpg": b"old"}).read_bytes()}
    ) as server:
        write_params(location=f"{server.url}/source.zip")
        refusal()
        server.files["/source.zip"] = (study.parent / "source.zip").read_bytes()
        stage.main()
    assert fetched() == FILES


@pytest.mark.fault("a source that is not what it should be")
def test_url_of_other_bytes_is_one_line(study):
    with serving({"/source.zip": b"<html>log in</html>"}) as server:
        write_params(location=f"{server.url}/source.zip")
        assert "web page" in refusal()
        assert "web page" in refusal()


def test_phantoms_ignore_the_source_variable_and_say_so(study, capsys, monkeypatch):
    values = parse((ROOT / "params.yaml").read_text())
    values["classes"] = ["glioma", "notumor"]
    values["fetch"]["phantom"] |= {"train_per_class": 3, "test_per_class": 2, "min_side": 48, "max_side": 60}
    values["fetch"]["phantom"]["copies"] = {"byte": 0, "recoded": 0, "contrast": 0, "mirrored": 0}
    Path("params.yaml").write_text(written(values))
    monkeypatch.setenv("BRAINMRI_SOURCE", "/nowhere")
    monkeypatch.setenv("BRAINMRI_WORKERS", "1")
    stage.main()
    said = capsys.readouterr().out
    assert "BRAINMRI_SOURCE is ignored" in said
    assert "10 files" in said
    values["fetch"]["tree_digest"] = "0" * 64
    Path("params.yaml").write_text(written(values))
    with pytest.raises(InputError, match="what was drawn is not what"):
        stage.main()


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("source", "s3"),
        ("archive", {}),
        ("kaggle", {"dataset": "no-owner", "version": 1}),
        ("kaggle", {"dataset": "../../etc/x", "version": 1}),
        ("kaggle", {"dataset": "a/b", "version": 0}),
        ("tree_digest", "ABC"),
        ("tree_digest", 5),
        ("split", {"test_fraction": 1, "seed": 0}),
        ("split", {"test_fraction": 0.2}),
        ("split", {"test_fraction": float("nan"), "seed": 0}),
        ("limits", {"members": 0, "total_bytes": 1, "file_bytes": 1, "ratio": 2}),
        ("limits", {"members": 1, "total_bytes": 1, "file_bytes": 1, "ratio": float("inf")}),
        ("unknown", 1),
    ],
)
def test_wrong_parameter_is_one_line_with_its_key(study, key, value):
    write_params(**{key: value})
    line = refusal()
    assert line.startswith("params.yaml: ")
    assert key in line


@pytest.mark.fault("a source that is not what it should be")
@pytest.mark.parametrize(
    "classes",
    [
        ["cat"],
        [],
        ["cat", "cat"],
        ["cat", "Cat"],
        ["cat", "../x"],
        ["cat", ""],
        ["cat", ".git"],
        ["cat", "a/b"],
        ["cat", "a.b"],
        ["cat", "dog "],
        ["cat", "Training"],
        ["cat", "x" * 101],
        ["cat", "a\nb"],
        ["cat", "a\n"],
        ["cat", 3],
        "cat",
        None,
    ],
    ids=repr,
)
def test_wrong_classes_are_one_line(study, classes):
    values = parse(Path("params.yaml").read_text()) | {"classes": classes}
    Path("params.yaml").write_text(written(values))
    assert "classes" in refusal()


def test_source_is_found_without_touching_the_network(study):
    params = load(stage.Params).fetch
    assert source.find(params).path == Path("../source.zip")
    assert isinstance(params, FetchParams)
