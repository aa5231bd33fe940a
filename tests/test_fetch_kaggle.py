"""The kaggle source against a stand-in for Kaggle on loopback: pinned version, cache, failures in one line."""

from __future__ import annotations

import gc
import sys

import pytest
from archives import FILES, zipped
from serving import serving

from stages.fetch import kaggle, source
from stages.shell.errors import InputError

pytest.importorskip("kagglehub", reason="the extra `kaggle` is not installed")
pytestmark = pytest.mark.filterwarnings("ignore")

ENDPOINT = "/api/v1/datasets.DatasetApiService/DownloadDataset"


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Answer as Kaggle does: a call that redirects to where the archive lies."""
    for name in (
        "BRAINMRI_SOURCE",
        "KAGGLE_USERNAME",
        "KAGGLE_KEY",
        "KAGGLE_API_TOKEN",
        "KAGGLEHUB_CACHE",
        "TBE_RUNTIME_ADDR",
    ):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("BRAINMRI_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("KAGGLE_CONFIG_DIR", str(tmp_path))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("no_proxy", "*")
    with serving({"/bucket/archive.zip": zipped(tmp_path / "a.zip", FILES).read_bytes()}) as running:
        running.files[ENDPOINT] = f"->{running.url}/bucket/archive.zip".encode()
        from kagglesdk import kaggle_env

        monkeypatch.setenv("KAGGLE_API_ENVIRONMENT", "LOCALHOST")
        monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.LOCAL, running.url)
        yield running
    gc.collect()  # connections that kagglehub's client left open would warn in a later test


def test_dataset_is_downloaded_once_and_unpacked(server, tmp_path):
    path = kaggle.download("owner/brain-mri", 3)
    assert {p.relative_to(path).as_posix(): p.read_bytes() for p in path.rglob("*") if p.is_file()} == FILES
    assert path == tmp_path / "cache/kagglehub/datasets/owner/brain-mri/versions/3"
    assert kaggle.download("owner/brain-mri", 3) == path
    assert len(server.gets("/bucket/archive.zip")) == 1


def test_source_from_the_cache_is_not_fresh_and_can_be_forgotten(server):
    assert source._from_kaggle("owner/brain-mri", 3).fresh
    again = source._from_kaggle("owner/brain-mri", 3)
    assert not again.fresh
    again.forget()
    assert source._from_kaggle("owner/brain-mri", 3).fresh
    assert len(server.gets("/bucket/archive.zip")) == 2


def test_version_is_part_of_what_is_asked(server):
    assert kaggle.download("owner/brain-mri", 3) != kaggle.download("owner/brain-mri", 4)
    assert len(server.gets("/bucket/archive.zip")) == 2


@pytest.mark.parametrize("status", [401, 403, 404, 500])
def test_refusal_is_one_line(server, status):
    server.answers = [status]
    with pytest.raises(InputError) as caught:
        kaggle.download("owner/brain-mri", 3)
    line = str(caught.value)
    assert line.startswith("Kaggle dataset owner/brain-mri, version 3: ")
    assert "\n" not in line
    assert "BRAINMRI_SOURCE" in line


def test_cut_download_is_continued_by_the_next_run(server):
    server.cuts = [500]
    with pytest.raises(InputError):
        kaggle.download("owner/brain-mri", 3)
    assert (kaggle.download("owner/brain-mri", 3) / "Training/cat/1.jpg").is_file()


def test_broken_archive_is_one_line_and_the_next_run_gets_it_again(server):
    good = server.files["/bucket/archive.zip"]
    server.files["/bucket/archive.zip"] = b"x" * len(good)
    with pytest.raises(InputError, match="Kaggle dataset"):
        kaggle.download("owner/brain-mri", 3)
    server.files["/bucket/archive.zip"] = good
    assert (kaggle.download("owner/brain-mri", 3) / "Training/cat/1.jpg").is_file()


def test_no_kaggle_is_one_line(server, monkeypatch):
    from kagglesdk import kaggle_env

    monkeypatch.setitem(kaggle_env._env_to_endpoint, kaggle_env.KaggleEnv.LOCAL, "http://127.0.0.1:9")
    with pytest.raises(InputError, match="BRAINMRI_SOURCE"):
        kaggle.download("owner/brain-mri", 3)


def test_missing_kagglehub_says_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "kagglehub", None)
    with pytest.raises(InputError, match=r"run `make env`.*BRAINMRI_SOURCE"):
        kaggle.download("owner/brain-mri", 3)
