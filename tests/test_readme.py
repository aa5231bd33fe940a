"""`brainmri readme`: only what stands between the markers is written, and nothing where they are not as expected."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from conftest import ROOT

from commands import readme, tables
from commands.__main__ import main
from stages.files import write_figures, write_json

BLOCKS = {
    "results": ("<!-- results: written by `brainmri readme` -->\n", "<!-- end of results -->"),
    "speed": ("<!-- speed: written by `brainmri readme` -->\n", "<!-- end of speed -->"),
}
(FIRST, LAST), (SPEED, SPEED_END) = BLOCKS.values()
OTHERS = [name for name in readme.PAGES if name != "README.md"]
TEXT = f"before\n{FIRST}old\n{LAST}\nbetween\n{SPEED}old\n{SPEED_END}\nafter\n"


@pytest.fixture
def page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A README.md, beside docs with empty blocks, in a folder without metrics or measurements."""
    monkeypatch.setattr(readme, "ROOT", tmp_path)
    monkeypatch.setattr(tables.behind, "changed", lambda _: [])  # of scores that no run made
    (tmp_path / "docs").mkdir()
    for name in OTHERS:
        blocks = [
            f"<!-- {block}: written by `brainmri readme` -->\n<!-- end of {block} -->\n" for block in readme.PAGES[name]
        ]
        (tmp_path / name).write_text("".join(blocks))
    return tmp_path / "README.md"


def test_what_stands_around_the_blocks_is_kept(page: Path):
    page.write_text(TEXT)
    assert main(["readme", "--check"]) == 1 and page.read_text() == TEXT
    assert main(["readme"]) == 0
    written = page.read_text()
    assert written.startswith(f"before\n{FIRST}| study |") and f"|\n{LAST}\nbetween\n{SPEED}" in written
    assert written.endswith(f"{SPEED}not measured yet\n{SPEED_END}\nafter\n")
    assert main(["readme"]) == main(["readme", "--check"]) == 0 and page.read_text() == written
    assert all((page.parent / name).read_text().count("not measured yet\n<!-- end") == 1 for name in OTHERS)


def test_a_page_of_docs_is_held_to_its_figures_as_the_readme_is(page: Path, capsys: pytest.CaptureFixture[str]):
    page.write_text(TEXT)
    assert main(["readme"]) == 0
    other = page.parent / OTHERS[0]
    other.write_text(other.read_text().replace("not measured yet", "99 %"))
    assert main(["readme", "--check"]) == 1 and OTHERS[0] in capsys.readouterr().err
    other.write_text("no markers\n")
    page.write_text(TEXT)
    assert main(["readme"]) == 1 and f"{OTHERS[0]}: expected" in capsys.readouterr().err
    assert page.read_text() == TEXT  # no page is written where one cannot be


@pytest.mark.parametrize("begin, end", BLOCKS.values(), ids=BLOCKS)
@pytest.mark.parametrize("how", ["no begin", "no end", "begin twice", "end twice", "end first"])
def test_markers_that_are_not_there_once_and_in_order_are_refused(
    page: Path, capsys: pytest.CaptureFixture[str], begin: str, end: str, how: str
):
    text = {
        "no begin": TEXT.replace(begin, ""),
        "no end": TEXT.replace(end, ""),
        "begin twice": TEXT + begin,
        "end twice": TEXT + end,
        "end first": TEXT.replace(begin, "").replace(end, f"{end}\n{begin}"),
    }[how]
    page.write_text(text)
    assert main(["readme"]) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and begin.strip() in said[0] and end in said[0]
    assert page.read_text() == text


def test_a_group_without_a_class_says_so_beside_its_number(page: Path):
    scores = {"accuracy": 0.5, "accuracy_low": 0.1, "accuracy_high": 0.9}
    clean = scores | {"n": 3, "sensitivity": {"glioma": 0.5}}
    every = scores | {"n": 1300, "sensitivity": {"glioma": 0.5, "notumor": 0.5}}
    page.write_text(TEXT)
    (page.parent / "metrics").mkdir()
    for name in ("dvc.yaml", "params.yaml", "versions.yaml"):
        shutil.copy(ROOT / name, page.parent)
    (page.parent / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    write_figures(page.parent / "metrics/scores.csv", {"all": every, "clean": clean, "leaked": {"n": 0}})
    assert main(["readme"]) == 0
    assert (
        "| **50.00%** (10.0% to 90.0%, n = 1,300) | **50.00%** (10.0% to 90.0%, n = 3, no notumor among them) | none |"
        in page.read_text()
    )


PATIENTS = {
    "all": {"n": 9, "accuracy": 0.6, "accuracy_low": 0.55, "accuracy_high": 0.65, "sensitivity": {"a": 0.6, "z": 0.6}}
    | {"by_patient": {"accuracy_low": 0.4, "accuracy_high": 0.8, "clusters": 5}},
    "clean": {"n": 0},
    "leaked": {"n": 0},
    "known_patients": {"n": 0},
    "new_patients": {"n": 7},
    "unknown_patients": {"n": 2},
    "patients": {"n": 3, "accuracy": 0.7, "accuracy_low": 0.2, "accuracy_high": 0.9, "sensitivity": {"a": 0.7}}
    | {"unknown_images": 2, "stand_ins": 2},
    "others": {"n": 7, "accuracy": 0.5, "sensitivity": {"a": 0.5}},
    "others_alone": {"n": 7, "accuracy": 0.75, "sensitivity": {"a": 0.75}},
}


def test_results_by_patient_have_intervals_by_patient_and_say_what_they_mean(page: Path):
    page.write_text(TEXT)
    folder = next(iter(tables.STUDIES))
    write_figures(page.parent / folder / "metrics/scores.csv", PATIENTS)
    assert main(["readme"]) == 0
    written = page.read_text()
    assert "| **60.00%** (40.0% to 80.0%, n = 9) | none | none |" in written
    assert (
        "7 test images are of patients without training images, 0 of patients with; nobody knows the patients of 2: "
        "their 2 groups of copies stand in." in written
    )
    assert "the mean probability over their slices: **70.00%** (20.0% to 90.0%, n = 3, no z among them)." in written
    assert "Without these images 50.00% are right (n = 7); 75.00% where only the other classes may" in written


def test_other_seeds_stand_beside_a_study_until_it_is_run_again(page: Path):
    page.write_text(TEXT)
    folder = next(iter(tables.STUDIES))
    write_figures(page.parent / folder / "metrics/scores.csv", PATIENTS)
    lock = page.parent / folder / "dvc.lock"
    lock.write_text("stages: {train: {outs: [{path: models/model.safetensors, md5: aa}]}}\n")
    runs = [
        {"seed": seed, "isa": isa, "scores": {"all.accuracy": right}, "md5": {"models/model.safetensors": md5}}
        for seed, (isa, right, md5) in enumerate([("avx2", 0.6, "aa"), ("avx512", 0.65, "bb")])
    ]
    found = {"runs": runs, "over_runs": {"all.accuracy": {"mean": 0.625, "sd": 0.0125}}}
    results = page.parent / f"bench/results/seeds-{Path(folder).name}.json"
    results.parent.mkdir(parents=True)
    write_json(results, found)
    assert main(["readme"]) == 0
    said = "Seeds 0 (60.00%, isa avx2), 1 (65.00%, isa avx512): mean **62.50%**, standard deviation 1.25%."
    assert said in page.read_text()
    lock.write_text(lock.read_text().replace("aa", "cc"))
    assert main(["readme"]) == 0 and "Seeds" not in page.read_text()
