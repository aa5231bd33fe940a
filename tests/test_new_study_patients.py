"""`brainmri new-study --patients`: whose images they are, in three forms, or one line and no folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from archives import folder
from test_new_study import call, params, refusal, root  # noqa: F401

from commands.new_study import patients
from stages.fetch import __main__ as fetch
from stages.params import load
from stages.report.schema import Params

PATTERN = "(?P<patient>[^_]+)_.*"
FLAT = {
    f"{label}/{label}{p}_{n}.png": f"{label} {p} {n}".encode()
    for label in ("cat", "dog")
    for p in range(5)
    for n in range(4)
}
GIVEN = {
    f"{split}/{label}/{label}{p}_{n}{split[1]}.png": f"{split} {label} {p} {n}".encode()
    for split in ("Training", "Testing")
    for label in ("cat", "dog")
    for p in range(3)
    for n in range(2)
}
pytestmark = pytest.mark.usefixtures("root")


def own(files: dict[str, bytes], rows: list[str] | None = None) -> str:
    folder(Path("../own"), files)
    if rows is not None:
        Path("../who.csv").write_text("\n".join(["path,patient", *rows]) + "\n")
    return "../own"


def fetched(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir("studies/mine")
    fetch.main()
    return Path("data/patients.csv").read_text().splitlines()


def test_a_pattern_stands_in_params_and_fetch_takes_it(capsys, monkeypatch):
    assert call("mine", own(FLAT), "--patients", PATTERN) == 0
    values = params("mine")
    assert values["fetch"]["patients"] == {"pattern": PATTERN}
    assert values["split"]["protocol"] == "by_patient", "a test set that is drawn by file would divide patients"
    said = capsys.readouterr()
    assert "40 of 40 files are of 10 patients." in said.out and said.err == ""
    assert "(both are divided anew, by patient)" in said.out and "made here" not in said.out
    load(Params, "studies/mine/params.yaml")
    assert len(fetched(monkeypatch)) == 41


@pytest.mark.parametrize("words", [("--test-fraction", "0.3"), ("--seed", "0")])
@pytest.mark.parametrize("how", [("--patients", PATTERN), ("--folds", "3")])
def test_how_a_test_set_is_drawn_is_refused_where_none_is(words: tuple[str, str], how: tuple[str, str]):
    assert "this study is divided by patient: leave them out" in refusal("mine", own(FLAT), *how, *words)


@pytest.mark.parametrize("drawn", [True, False])
def test_a_table_is_kept_in_the_study_and_pinned(capsys, monkeypatch, drawn: bool):
    files = FLAT if drawn else GIVEN
    call(
        "mine",
        own(files, [f"{path},{path.split('/')[-1].split('_')[0]}" for path in files]),
        "--patients",
        "../who.csv",
    )
    values = params("mine")
    assert values["fetch"]["patients"]["table"] == "patients.csv"
    assert values["split"]["protocol"] == ("by_patient" if drawn else "published")
    assert Path("studies/mine/patients.csv").read_bytes() == Path("../who.csv").read_bytes()
    crossing = "12 of the test images are of patients with training images; split.protocol: by_patient"
    assert (crossing in capsys.readouterr().out) != drawn
    assert len(fetched(monkeypatch)) == len(files) + 1


def test_other_columns_of_a_table_which_may_name_people_stay_where_they_are():
    own(FLAT)
    lines = [f"Jane Doe,{path},p{n // 4}, 1970-01-01" for n, path in enumerate(FLAT)]
    Path("../who.csv").write_text("\n".join(["name,path,patient,born", *lines]) + "\n")
    call("mine", "../own", "--patients", "../who.csv", "--patients-two-classes")
    kept = Path("studies/mine/patients.csv").read_text()
    assert kept.startswith("path,patient\n") and "Jane" not in kept and "1970" not in kept


def test_with_folds_nothing_advises_what_is_chosen_already(capsys):
    rows = [f"{path},{path.split('/')[-1].split('_')[0]}" for path in GIVEN]
    call("mine", own(GIVEN, rows), "--patients", "../who.csv", "--folds", "2")
    assert "split.protocol is by_patient: no patient both trains and tests." in capsys.readouterr().out
    call("other", "../own", "--folds", "2")
    assert "Nobody's patient is known: groups of copies stand in" in capsys.readouterr().out


def test_what_is_allowed_is_an_option(monkeypatch):
    rows = [f"{path},x" for path in list(FLAT)[:-1]]
    assert "tells no patient for 1 of 40 files" in refusal("mine", own(FLAT, rows), "--patients", "../who.csv")
    allowed = ("--patients-unknown", "--patients-two-classes")
    assert "in two classes" in refusal("mine", "../own", "--patients", "../who.csv", allowed[0])
    call("mine", "../own", "--patients", "../who.csv", *allowed)
    found = params("mine")["fetch"]["patients"]
    assert found["unknown"] is True and found["two_classes"] is True
    assert len(fetched(monkeypatch)) == 40


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["--patients", "nowhere.csv"], "--patients 'nowhere.csv': No such file or directory; expected a CSV"),
        (["--patients", ".."], "--patients '..': Is a directory"),
        (["--patients", "(?P<patient>"], "it is no regular expression"),
        (["--patients", "(?P<who>.*)"], "it has no group (?P<patient>...)"),
        (["--patients", "(?P<patient>x)"], "matches no file's whole name"),
        (["--patients", "(?P<patient>" + "x" * 200 + ")"], "at most 200"),
        (["--patients", "tag"], "there is no DICOM file here"),
        (["--patients", "../who.csv"], "1 paths that are no file"),
        (["--patients-unknown"], "--patients-unknown needs --patients"),
        (["--patients-two-classes"], "--patients-two-classes needs --patients"),
    ],
)
def test_what_cannot_be_told_is_one_line_and_no_study(words: list[str], expected: str):
    assert expected in refusal("mine", own(FLAT, ["cat/none.png,x"]), *words)


def names(*stems: str) -> list[str]:
    return [f"Training/cat/{stem}.png" for stem in stems]


SERIES = [f"p{p}_{n:03d}" for p in range(3) for n in (1, 2, 5)]


NAMES = {
    "series": (SERIES, True),
    "series with other words": ([f"scan {p}-slice{n}" for p in "xyz" for n in (10, 11, 12)], True),
    "another number last": ([f"{stem}_t1" for stem in SERIES], False),
    "one series": ([f"Tr-gl_{n:04d}" for n in range(300)], False),
    "two series": ([f"{part}{n:04d}" for part in ("Te-gl_", "Te-glTr_") for n in range(300)], False),
    "few of all": ([*SERIES, *(f"other{n}x{n}" for n in range(0, 999, 50))], False),
    "far apart": ([f"p{p}_{n * 1000}" for p in range(3) for n in range(3)], False),
    "numbers": ([f"{n}" for n in range(99)], False),
    "no numbers": (["cat", "a", "b"], False),
}


@pytest.mark.parametrize(("stems", "warned"), NAMES.values(), ids=NAMES)
def test_names_like_slices_of_one_patient_are_told_from_others(stems: list[str], warned: bool):
    assert (patients.warning(names(*stems)) is not None) == warned


def test_a_person_is_warned_where_names_look_like_slices_and_nothing_was_said(capsys):
    call("mine", own(FLAT))
    said = capsys.readouterr().err
    assert said.startswith("warning: 'cat0_0.png' and 'cat0_1.png' look like slices of one patient, and 5 such series")
    assert said.count("\n") == 1 and params("mine")["fetch"]["patients"] is None
