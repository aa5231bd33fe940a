"""Which files of a source are images, the tree digest, and a test set made where there is none."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from pathlib import Path

import pytest
from archives import FILES, LIMITS, folder
from hypothesis import given
from hypothesis import strategies as st

from stages.dialect import parse
from stages.fetch import split, tree
from stages.fetch.extract import unpack
from stages.fetch.layout import Layout
from stages.fetch.schema import SplitParams
from stages.shell.errors import InputError

ROOT = Path(__file__).parent.parent
CLASSES = ["cat", "dog"]
LISTED = [path.parent for path in sorted(ROOT.glob("studies/*/params.yaml")) if path.with_name("files.sha256").exists()]
FLAT = {
    name.replace("Training/", "").replace("Testing/", "").replace("/", f"/{name[:2]}", 1): data
    for name, data in FILES.items()
}


def place(names: list[str], has_splits: bool = True) -> list[str | None]:
    layout = Layout(CLASSES, has_splits, "source")
    places = [layout.place(tuple(name.split("/"))) for name in names]
    layout.check()
    return [at and "/".join(filter(None, (at.split, at.label, at.name))) for at in places]


def test_files_beside_the_images_are_left_out():
    extra = ["README", "docs/cat/1.jpg", "Training/list.csv", ".git/Training/cat/1.jpg", "Training/cat/Thumbs.db"]
    assert place(extra + list(FILES)) == [None] * 5 + list(FILES)


@pytest.mark.parametrize("top", ["", "x/"])
@pytest.mark.parametrize("has_splits", [True, False])
def test_one_wrapping_folder_is_seen_through(top, has_splits):
    names = list(FILES if has_splits else FLAT)
    assert place([f"{top}README"] + [top + name for name in names], has_splits)[1:] == names


BAD = {
    "unknown class": (
        lambda n: [*n, "Training/bird/1.jpg"],
        "folder 'Training/bird' is no known class; `classes` has cat, dog",
    ),
    "misspelt class": (lambda n: [m.replace("dog", "Dog") for m in n], "'Training/Dog' is no known class"),
    "class missing in one split": (lambda n: [m for m in n if "Testing/dog" not in m], "no file in Testing/dog"),
    "split missing": (lambda n: [m for m in n if "Testing" not in m], "it has Training but no Testing; add a folder"),
    "class missing in validation": (lambda n: [*n, "val/cat/1.jpg"], "no file in Validation/dog; every class"),
    "one split inside the other": (
        lambda n: [m.replace("Testing", "Training/Testing") for m in n],
        "'Training/Testing/cat' is a folder for Testing inside one for Training; expected them side by side",
    ),
    "one split by two names": (
        lambda n: [*n, "train/cat/1.jpg"],
        "'Training/cat' and 'train/cat' are both Training/cat; expected one folder",
    ),
    "half of a class doubled": (
        lambda n: [*n, "Training/cat/cat/9.jpg"],
        "'Training/cat' and 'Training/cat/cat' are both Training/cat",
    ),
    "too deep": (lambda n: ["a/b/" + m for m in n], "no Training and Testing in it (folders found: 'a')"),
    "folder in a class": (lambda n: [*n, "Training/cat/more/1.jpg"], "folder inside a class"),
    "two data sets": (lambda n: n + ["x/" + m for m in n], "both in the top and in x"),
    "nothing": (lambda n: [], "folders found: none"),
    "loose images": (lambda n: ["1.jpg", "2.jpg"], "no Training and Testing"),
}


@pytest.mark.parametrize("case", BAD)
def test_wrong_layout_is_one_line(case):
    spoil, said = BAD[case]
    with pytest.raises(InputError) as caught:
        place(spoil(list(FILES)))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("top", ["", "x/", "x/x/"])
@pytest.mark.parametrize(
    "names",
    [
        ("train", "test", "val"),
        ("TRAINING", "Testing", "VALID"),
        ("Train", "TEST", "validation"),
        ("training", "Test", ""),
    ],
    ids=" ".join,
)
def test_splits_are_known_by_the_names_that_people_give_them(top, names):
    theirs = [top + m.replace("Training", names[0]).replace("Testing", names[1]) for m in FILES]
    ours = list(FILES)
    if names[2]:
        theirs += [f"{top}{names[2]}/{label}/1.jpg" for label in CLASSES]
        ours += [f"Validation/{label}/1.jpg" for label in CLASSES]
    assert place(theirs) == ours


@pytest.mark.parametrize(
    "double",
    [
        lambda m: m.replace("Training", "Training/Training").replace("Testing", "Testing/Testing"),
        lambda m: m.replace("Training", "Training/Training"),
        lambda m: m.replace("Training", "train/Training/TRAIN").replace("Testing", "Testing/test"),
        lambda m: m.replace("cat", "cat/cat").replace("dog", "dog/dog/dog"),
        lambda m: f"a/a/a/{m}",
    ],
    ids=["both splits", "one split", "by other names", "classes", "around"],
)
def test_doubled_folders_are_seen_through(double):
    assert place([double(name) for name in FILES]) == list(FILES)


def test_a_class_may_be_called_as_splits_are():
    layout = Layout(["test", "val"], True, "source")
    assert [layout.place(("Training", label, "1.jpg")).label for label in ("test", "val")] == ["test", "val"]


BAD_FLAT = {
    "has splits": (lambda n: ["Training/" + m for m in n], "it has Training already; set fetch.split to null"),
    "unknown class": (lambda n: [*n, "bird/1.jpg"], "folder 'bird' is no known class"),
    "unknown class, wrapped": (lambda n: ["x/" + m for m in [*n, "bird/1.jpg"]], "folder 'x/bird' is no known class"),
    "empty class": (lambda n: [m for m in n if "dog" not in m], "no file in dog"),
    "none": (lambda n: ["x/y/z/1.jpg"], "no class folder"),
}


@pytest.mark.parametrize("case", BAD_FLAT)
def test_wrong_layout_without_splits_is_one_line(case):
    spoil, said = BAD_FLAT[case]
    with pytest.raises(InputError) as caught:
        place(spoil(list(FLAT)), has_splits=False)
    assert said in str(caught.value)


def test_tree_digest_is_that_of_sha256sum(tmp_path):
    folder(tmp_path, FILES)
    text = subprocess.run(
        "sha256sum */*/*", shell=True, cwd=tmp_path, capture_output=True, check=True, env={"LC_ALL": "C"}
    ).stdout
    # sorted by path: Testing comes first, as in the shell
    assert tree.tree_digest(tmp_path) == hashlib.sha256(text).hexdigest()


@given(
    st.dictionaries(st.text("abXY/_é. -", min_size=1), st.sampled_from(["0" * 64, "f" * 64]), min_size=1, max_size=8)
)
def test_tree_digest_ignores_order_and_sees_every_change(hashes):
    assert tree.digest(dict(reversed(hashes.items()))) == tree.digest(hashes)
    for path in hashes:
        assert tree.digest(hashes | {path: "1" * 64}) != tree.digest(hashes)
        assert tree.digest({name: sha for name, sha in hashes.items() if name != path}) != tree.digest(hashes)


def test_difference_counts_and_names(tmp_path):
    good = {f"Training/cat/{n}.jpg": f"{n}" * 64 for n in range(9)}
    (tmp_path / "files.sha256").write_text(tree.listing(good))
    bad = dict(good) | {"Training/cat/new.jpg": "a" * 64, "Training/cat/8.jpg": "b" * 64}
    for n in range(5):
        del bad[f"Training/cat/{n}.jpg"]
    said = tree.difference(bad, tree.digest(good), tmp_path / "files.sha256")
    assert said == (
        "5 missing ('Training/cat/0.jpg', 'Training/cat/1.jpg', 'Training/cat/2.jpg', ...), "
        "1 extra ('Training/cat/new.jpg'), 1 different ('Training/cat/8.jpg')"
    )


@pytest.mark.parametrize("content", [None, "", "0  x\n", "nonsense"])
def test_listing_that_is_not_the_pinned_one_is_not_believed(tmp_path, content):
    if content is not None:
        (tmp_path / "files.sha256").write_text(content)
    assert "cannot be told" in tree.difference({}, "0" * 64, tmp_path / "files.sha256")


@pytest.mark.parametrize("study", LISTED, ids=lambda at: at.name)
def test_listing_beside_a_study_is_the_one_that_it_pins(study):
    text = (study / "files.sha256").read_text()
    pinned = parse((study / "params.yaml").read_text())["fetch"]["tree_digest"]
    assert hashlib.sha256(text.encode()).hexdigest() == pinned
    assert tree.digest({path: sha for sha, path in (line.split("  ", 1) for line in text.splitlines())}) == pinned


HASHES = st.dictionaries(
    st.tuples(st.sampled_from(CLASSES), st.integers(0, 60)).map(lambda at: f"{at[0]}/{at[1]}.jpg"),
    st.integers(0, 40).map(lambda n: hashlib.sha256(bytes([n])).hexdigest()),
    max_size=60,
)


@given(HASHES, st.floats(0.05, 0.95), st.integers(0, 5))
def test_made_test_set_keeps_copies_together_and_no_class_empty(hashes, fraction, seed):
    try:
        chosen = split.testing(hashes, SplitParams(test_fraction=fraction, seed=seed))
    except InputError as error:
        assert "too few" in str(error)
        return
    assert {hashes[path] for path in chosen}.isdisjoint(hashes[path] for path in hashes.keys() - chosen)
    for label in {path.split("/")[0] for path in hashes}:
        of_class = {path for path in hashes if path.startswith(f"{label}/")}
        assert 0 < len(of_class & chosen) < len(of_class)


@given(st.permutations([(f"{label}/{n}.jpg", f"{n:064}{label}") for label in CLASSES for n in range(20)]))
def test_made_test_set_does_not_depend_on_order_or_names(items):
    chosen = {sha for path, sha in items if path in split.testing(dict(items), SplitParams(test_fraction=0.25, seed=1))}
    renamed = {path.replace(".jpg", ".png"): sha for path, sha in items}
    again = {renamed[path] for path in split.testing(renamed, SplitParams(test_fraction=0.25, seed=1))}
    assert chosen == again
    first = {f"{label}/{n}.jpg": f"{n:064}{label}" for label in CLASSES for n in range(20)}
    assert chosen == {first[path] for path in split.testing(first, SplitParams(test_fraction=0.25, seed=1))}
    assert len(chosen) == 10


def test_made_test_set_changes_with_the_seed_and_holds_its_fraction():
    hashes = {f"cat/{n}": hashlib.sha256(bytes([n])).hexdigest() for n in range(200)} | {"dog/1": "1", "dog/2": "2"}
    sets = [frozenset(split.testing(hashes, SplitParams(test_fraction=0.3, seed=seed))) for seed in range(3)]
    assert len(set(sets)) == 3
    assert {sum(path.startswith("cat") for path in chosen) for chosen in sets} == {60}


def test_source_with_class_folders_only_becomes_training_and_testing(tmp_path):
    source = folder(tmp_path / "source", FLAT)
    hashes = unpack(source, tmp_path / "out", CLASSES, SplitParams(test_fraction=0.34, seed=0), LIMITS, "source")
    assert hashes == tree.hashes_of(tmp_path / "out")
    assert sorted(hashes.values()) == sorted(hashlib.sha256(data).hexdigest() for data in FLAT.values())
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["Testing", "Training"]
    assert sum(path.startswith("Testing/cat") for path in hashes) == 2
    shutil.rmtree(source)
