"""Whose image a file is: by a table or a pattern, or one line; and what fetch writes of it."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
from conftest import make_study, run_stage, set_params
from pydantic import ValidationError

from stages.fetch import patients
from stages.fetch.schema import PatientsParams
from stages.shell.errors import InputError

PATHS = [
    f"{split}/{label}/{label}{n}_{split[:2]}.png" for split in ("Training", "Testing") for label in "ab" for n in (1, 2)
]
ROWS = [(path, path.split("/")[2][:2]) for path in PATHS]
PATTERN = PatientsParams(pattern="(?P<patient>[^_]+)_.*")


def given(folder: Path, text: str | bytes, **more: object) -> PatientsParams:
    data = text.encode() if isinstance(text, str) else text
    (folder / "p.csv").write_bytes(data)
    return PatientsParams.model_validate({"table": "p.csv", "sha256": hashlib.sha256(data).hexdigest(), **more})


def table(rows: list[tuple[str, str]]) -> str:
    return "path,patient\n" + "".join(f"{path},{patient}\n" for path, patient in rows)


def by_table(folder: Path, text: str | bytes, drawn: bool = False, **more: object) -> dict[str, str]:
    settings = given(folder, text, **more)
    return patients.assign(PATHS, settings, patients.read(settings, folder), drawn)


def test_a_table_tells_each_files_patient(tmp_path: Path):
    assert by_table(tmp_path, table(ROWS)) == dict(sorted(ROWS))


def test_a_pattern_tells_it_from_the_files_name_alone():
    assert patients.assign(PATHS, PATTERN) == dict(sorted(ROWS))


def test_nothing_is_known_where_nothing_is_said():
    assert patients.assign(PATHS, None) == {} == dict(patients.read(None))


def test_more_columns_other_ends_of_lines_and_a_mark_of_utf_8_are_taken(tmp_path: Path):
    rows = "".join(f"x,{path},{patient}\r\n" for path, patient in ROWS)
    assert by_table(tmp_path, ("\ufeff" + "examination,path,patient\r\n" + rows).encode()) == dict(sorted(ROWS))


def test_names_that_look_like_numbers_stay_as_they_are(tmp_path: Path):
    found = by_table(tmp_path, table([(PATHS[0], "007"), (PATHS[1], "1e5")]), unknown=True)
    assert list(found.values()) == ["007", "1e5"]


def test_where_the_test_set_was_drawn_a_table_may_name_files_as_their_source_does(tmp_path: Path):
    rows = [(path.split("/", 1)[1], patient) for path, patient in ROWS]
    assert by_table(tmp_path, table(rows), drawn=True) == dict(sorted(ROWS))
    with pytest.raises(InputError, match="8 paths that are no file"):
        by_table(tmp_path, table(rows))
    with pytest.raises(InputError, match="twice"):
        by_table(tmp_path, table([*rows, ROWS[0]]), drawn=True)


BAD = {
    "path,patient\nTraining/a/none.png,x\n": "1 paths that are no file of data/raw, 'Training/a/none.png' the first",
    table(ROWS[:-1]): "tells no patient for 1 of 8 files, 'Testing/b/b2_Te.png' the first.*unknown: true",
    table([(path, "x") for path in PATHS]): "patient 'x' is in two classes, a and b.*two_classes: true",
    table([*ROWS, ROWS[0]]): "'Training/a/a1_Tr.png' twice: expected one line a file",
    "path;patient\n": "no column 'path', but 'path;patient'",
    "": "no column 'path', but ''",
    "path,patient\n": "tells no file's patient, of 8; set it to null",
    f"path,patient\n{PATHS[0]}\n": "line 2: expected a path, a patient and a cell for each head",
    f"path,patient\n{PATHS[0]},x,y\n": "line 2: expected a path, a patient and a cell for each head",
    f"path,patient\n{PATHS[0]},a\tb\n": "line 2: 'a.*tb' cannot name a patient",
    f"path,patient\n{PATHS[0]},{'x' * 201}\n": "cannot name a patient: at most 200 letters",
    f'path,patient\n{PATHS[0]},"x\n': "no plain CSV",
}


@pytest.mark.parametrize("text", BAD, ids=lambda text: BAD[text][:40])
def test_a_bad_table_is_one_line(tmp_path: Path, text: str):
    with pytest.raises(InputError, match=BAD[text]) as caught:
        by_table(tmp_path, text)
    assert "\n" not in str(caught.value)


def test_a_table_that_is_not_there_or_not_as_pinned_or_not_utf_8_is_one_line(tmp_path: Path):
    settings = given(tmp_path, table(ROWS))
    (tmp_path / "p.csv").write_text("path,patient\n")
    with pytest.raises(InputError, match=r"p.csv has sha256 .*, not that of fetch.patients.sha256"):
        patients.read(settings, tmp_path)
    (tmp_path / "p.csv").unlink()
    with pytest.raises(InputError, match=r"p.csv cannot be read"):
        patients.read(settings, tmp_path)
    with pytest.raises(InputError, match="not UTF-8"):
        by_table(tmp_path, b"path,patient\n\xff\xfe,x\n")


def test_one_name_typed_in_two_ways_is_one_patient():
    table = "path,patient\na,Jos\u00e9\nb,Jose\u0301\n".encode()
    assert {patient for _, patient in patients.rows(table, "who.csv")} == {"Jos\u00e9"}


def test_a_pattern_that_matches_nothing_or_never_ends_is_one_line(monkeypatch):
    with pytest.raises(InputError, match=r"pattern matches no file's whole name, such as 'a1_Te.png'"):
        patients.assign(PATHS, PatientsParams(pattern="(?P<patient>x)"))
    monkeypatch.setattr(patients, "SECONDS", 0.2)
    with pytest.raises(InputError, match=r"takes more than 0.2 s"):
        patients.assign([f"Training/a/{'a' * 60}!"], PatientsParams(pattern="(?P<patient>(a+)+)"))


def test_what_is_allowed_is_a_parameter(tmp_path: Path):
    assert len(by_table(tmp_path, table(ROWS[:3]), unknown=True)) == 3
    assert set(by_table(tmp_path, table([(path, "x") for path in PATHS]), two_classes=True).values()) == {"x"}


def test_the_tag_is_what_headers_say_and_an_empty_one_is_nobody():
    tags = {path.split("/", 1)[1]: f"number {at % 2}" for at, path in enumerate(PATHS[:-1])}
    found = patients.assign(PATHS, PatientsParams(tag=True, unknown=True, two_classes=True), (), True, tags)
    assert found == {path: tags[path.split("/", 1)[1]] for path in sorted(PATHS[:-1])}
    with pytest.raises(InputError, match="tells no file's patient"):
        patients.assign(PATHS, PatientsParams(tag=True))


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ({}, "one of table"),
        ({"pattern": "(?P<patient>.)", "tag": True}, "one of table"),
        ({"table": "p.csv"}, "sha256 with a table"),
        ({"tag": True, "sha256": "0" * 64}, "sha256 with a table"),
        ({"tag": False}, "one of table"),
        ({"pattern": "(?P<patient>"}, "no regular expression"),
        ({"pattern": ".*"}, "no group"),
    ],
)
def test_settings_that_mean_nothing_are_refused(values: dict, expected: str):
    with pytest.raises(ValidationError, match=expected):
        PatientsParams.model_validate(values)


# --- the stage


def test_fetch_writes_what_is_known_and_a_head_alone_where_nothing_is(tmp_path: Path):
    study = make_study(tmp_path / "study")
    assert run_stage("fetch", study).returncode == 0
    assert (study / "data/patients.csv").read_bytes() == b"path,patient\n"
    set_params(study, **{"fetch.patients": {"pattern": r"(?P<patient>[0-9a-f]{3}).*", "two_classes": True}})
    done = run_stage("fetch", study)
    assert (done.returncode, done.stderr) == (0, "") and "known patients" in done.stdout
    head, *lines = (study / "data/patients.csv").read_text().splitlines()
    assert head == "path,patient" and len(lines) == 4 * 18 + 8 and lines == sorted(lines)
    assert all(line.split("/")[2][:3] == line.split(",")[1] for line in lines)


def test_patients_that_cannot_be_told_are_one_line_and_no_table_is_left(tmp_path: Path):
    study = make_study(tmp_path / "study")
    assert run_stage("fetch", study).returncode == 0
    set_params(study, **{"fetch.patients": {"pattern": "(?P<patient>none)"}})
    done = run_stage("fetch", study)
    assert done.returncode == 1 and done.stderr.startswith("fetch: fetch.patients.pattern matches no file")
    assert done.stderr.count("\n") == 1 and not (study / "data/patients.csv").exists()
    set_params(study, **{"fetch.patients": {"tag": True}})
    assert run_stage("fetch", study).stderr.count("\n") == 1
