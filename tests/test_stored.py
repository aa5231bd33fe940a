"""Outputs of a commit, taken from DVC's cache or the folder; never others, never outside."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import pytest

from commands.stored import place
from stages.shell.errors import InputError
from stages.shell.provenance import dvc_hash


def cache(root: Path, data: bytes, kind: str = "") -> str:
    digest = hashlib.md5(data).hexdigest() + kind
    path = root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    return digest


def cache_folder(root: Path, files: dict[str, bytes]) -> str:
    listing = [{"md5": cache(root, data), "relpath": name} for name, data in sorted(files.items())]
    return cache(root, json.dumps(listing, sort_keys=True).encode(), ".dir")


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "root/.dvc").mkdir(parents=True)
    (tmp_path / "root/studies/mine/data").mkdir(parents=True)
    return tmp_path / "root"


def placed(root: Path, path: str, digest: str) -> Path:
    clone = root.parent / "clone"
    place(root, "studies/mine", [{"path": path, "md5": digest}], clone)
    return clone / "studies/mine" / path


def test_files_and_folders_come_from_the_cache(root: Path):
    assert placed(root, "models/one", cache(root, b"1")).read_bytes() == b"1"
    digest = cache_folder(root, {"a": b"1", "b/c": b"2"})
    assert dvc_hash(placed(root, "data/folder", digest)) == digest


def test_a_study_that_names_a_cache_of_its_own_is_looked_for_there(root: Path):
    digest = cache(root.parent / "shared", b"1")
    (root / "studies/mine/.dvc").mkdir()
    (root / "studies/mine/.dvc/config").write_text(f"[cache]\n    dir = {root.parent}/shared/.dvc/cache\n")
    assert placed(root, "models/one", digest).read_bytes() == b"1"


def test_what_the_cache_lacks_or_has_damaged_comes_from_the_studys_folder(root: Path):
    folder = root / "studies/mine/data/folder"
    (folder / "b").mkdir(parents=True)
    (folder / "b/c").write_bytes(b"2")
    digest = dvc_hash(folder)
    assert dvc_hash(placed(root, "data/folder", digest)) == digest
    (root / "studies/mine/data/one").write_bytes(b"1")
    damaged = cache(root, b"1")
    (root / ".dvc/cache/files/md5" / damaged[:2] / damaged[2:]).write_bytes(b"9")
    assert placed(root, "data/one", damaged).read_bytes() == b"1"


def test_a_damaged_list_of_a_folder_in_the_cache_is_passed_over(root: Path):
    folder = root / "studies/mine/data/folder"
    folder.mkdir()
    (folder / "a").write_bytes(b"1")
    digest = cache_folder(root, {"a": b"1"})
    (root / ".dvc/cache/files/md5" / digest[:2] / digest[2:]).write_text('[{"md5": "')
    assert dvc_hash(placed(root, "data/folder", digest)) == digest


@pytest.mark.parametrize("there", ["nothing", "another file", "half a folder"])
def test_what_has_not_its_hash_is_not_taken_and_dvc_pull_is_named(root: Path, there: str):
    digest = cache_folder(root, {"a": b"1", "b": b"2"}) if there == "half a folder" else hashlib.md5(b"1").hexdigest()
    if there == "half a folder":
        one = hashlib.md5(b"2").hexdigest()
        (root / ".dvc/cache/files/md5" / one[:2] / one[2:]).unlink()
    if there == "another file":
        (root / "studies/mine/data/one").write_bytes(b"2")
    with pytest.raises(InputError, match=r"data/one with hash .* get it with `dvc pull`"):
        placed(root, "data/one", digest)
    assert not (root.parent / "clone/studies/mine/data/one").exists()


def test_a_listing_that_leads_outside_is_refused(root: Path):
    with pytest.raises(InputError, match="outside its folder"):
        placed(root, "data/folder", cache_folder(root, {"../../../../evil": b"1"}))
    assert not list(root.parent.rglob("evil"))
