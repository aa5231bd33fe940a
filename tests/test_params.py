"""params.yaml: what is right is coerced, what is wrong is one line with key, value and what is allowed."""

from __future__ import annotations

import datetime
import shutil
from pathlib import Path

import pytest
import yaml
from conftest import ROOT, run_stage, set_params
from dvc.utils.serialize import dumps_yaml, loads_yaml

from stages import dialect, params
from stages.prepare.schema import Params as Prepare
from stages.shell.errors import InputError
from stages.train.schema import Params as Train


@pytest.fixture
def study(tmp_path: Path) -> Path:
    shutil.copy(ROOT / "params.yaml", tmp_path)
    return tmp_path


def refusal(schema: type[params.Group], study: Path) -> str:
    """Return the message with which params.yaml is refused; it must be one line that names the file."""
    with pytest.raises(InputError) as error:
        params.load(schema, study / "params.yaml")
    line = str(error.value)
    assert "\n" not in line and "params.yaml" in line and "Traceback" not in line
    return line


def test_a_number_in_quotes_is_coerced(study: Path):
    text = (study / "params.yaml").read_text()
    (study / "params.yaml").write_text(text.replace("lr: 0.001", "lr: '1e-05'"))
    assert params.load(Train, study / "params.yaml").lr == 1e-5


@pytest.mark.parametrize(
    ("key", "value", "expected"),
    [
        ("lr", "fast", ["lr = 'fast'", "valid number"]),
        ("lr", True, ["lr = True", "not allowed"]),
        ("lr", [0.1], ["lr = [0.1]", "valid number"]),
        ("lr", None, ["lr = None", "valid number"]),
        ("lr", 0, ["lr = 0", "greater than 0"]),
        ("lr", 11, ["lr = 11", "less than or equal to 10"]),
        ("lr", float("nan"), ["lr = nan", "finite"]),
        ("lr", float("inf"), ["lr = inf", "finite"]),
        ("lr", "nan", ["lr = 'nan'", "finite"]),
        ("epochs", 1.5, ["epochs = 1.5", "integer"]),
        ("epochs", False, ["epochs = False", "not allowed"]),
        ("batch_size", 1, ["batch_size = 1", "greater than or equal to 2"]),
        ("seed", -1, ["seed = -1", "greater than or equal to 0"]),
        ("seed", 2**32, ["seed = 4294967296", "less than 4294967296"]),
        ("device", "gpu", ["device = 'gpu'", "'cpu' or 'cuda'"]),
        ("precision", "fp8", ["precision = 'fp8'", "'fp32'", "'bf16'"]),
        ("train.ema_decay", 1, ["train.ema_decay = 1", "less than 1"]),
        ("train.mirror_typo", 1, ["unknown key 'train.mirror_typo'"]),
        ("train.size_schedule", [[0.5]], ["train.size_schedule.0"]),
        ("train.size_schedule", [[0.5, 8]], ["train.size_schedule.0.1 = 8", "greater than or equal to 16"]),
        ("train", 3, ["train = 3"]),
        ("augment.rotate", 181, ["augment.rotate = 181", "less than or equal to 180"]),
        ("augment.noise", "x" * 500, ["augment.noise = 'xxx", "valid number"]),
    ],
)
def test_a_wrong_value_is_one_line_with_key_value_and_what_is_allowed(study: Path, key, value, expected):
    group = {"train.mirror_typo": {"mirror_typo": 1}}.get(key)
    if group:
        text = (study / "params.yaml").read_text()
        (study / "params.yaml").write_text(text.replace("train:  ", "train:\n  mirror_typo: 1 #"))
    else:
        set_params(study, **{key: value})
    line = refusal(Train, study)
    assert all(part in line for part in expected), line
    assert len(line) < 400


def test_an_unknown_key_names_the_nearest_known_one(study: Path):
    with (study / "params.yaml").open("a") as file:
        file.write("\nbatchsize: 3\n")
    assert "unknown key 'batchsize' (did you mean 'batch_size'?)" in refusal(Train, study)


def test_an_unknown_key_in_a_group_names_the_nearest_known_one(study: Path):
    text = (study / "params.yaml").read_text()
    (study / "params.yaml").write_text(text.replace("  weight_decay:", "  weight_decai:"))
    line = refusal(Train, study)
    assert "unknown key 'train.weight_decai' (did you mean 'train.weight_decay'?)" in line
    assert "key 'train.weight_decay' is missing" in line


def test_a_stage_does_not_mind_what_is_wrong_in_another_ones_keys(study: Path):
    set_params(study, lr="fast")
    assert params.load(Prepare, study / "params.yaml").image_size == 64


def test_a_missing_key_is_named(study: Path):
    text = (study / "params.yaml").read_text()
    (study / "params.yaml").write_text(text.replace("\nlr: 0.001", "\n#"))
    assert "key 'lr' is missing" in refusal(Train, study)


@pytest.mark.parametrize("precision", ["fp16", "tf32"])
def test_a_precision_that_the_device_lacks_is_refused_without_a_dump_of_all_keys(study: Path, precision: str):
    set_params(study, precision=precision)
    line = refusal(Train, study)
    assert line.endswith(f"params.yaml: precision = {precision!r} needs device = 'cuda'; on a CPU use fp32 or bf16")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("lr: !!python/object/apply:os.system ['touch ran']", "not plain YAML"),
        ("!!python/object/new:os.system ['touch ran']", "not plain YAML"),
        ("lr: [1", "not plain YAML"),
        ("lr: 2020-99-99", "not plain YAML"),
        ("- lr", "expected keys and values, found list"),
        ("", "expected keys and values, found NoneType"),
        ("lr", "expected keys and values, found str"),
        ("1: 2", "unknown key '1'"),
        ("\tlr: 1", "not plain YAML"),
        ("{" * 2000, "not plain YAML"),
        ("lr: 1\nlr: 2", "found duplicate key"),
        ("lr: !!bool x", "not plain YAML"),
        ("lr: !!int ''", "not plain YAML"),
        ("lr: !<", "not plain YAML"),
        ("%YAML 3.0\n---\nlr: 1", "not plain YAML"),
        ("1: &a 2\n3: &a 4", "unknown key '1'"),
    ],
)
def test_what_is_no_plain_mapping_is_refused_and_builds_nothing(study: Path, monkeypatch, text: str, expected: str):
    monkeypatch.chdir(study)
    (study / "params.yaml").write_text(text)
    assert expected in refusal(Train, study)
    assert [path.name for path in study.iterdir()] == ["params.yaml"]


def test_bytes_that_are_no_text_are_refused(study: Path):
    (study / "params.yaml").write_bytes(b"lr: \xff\xfe")
    assert "not plain YAML" in refusal(Train, study)


def test_a_folder_without_params_is_told_where_to_stand(tmp_path: Path):
    assert "stand in a study's folder" in refusal(Train, tmp_path)


def test_parameters_cannot_be_changed_once_read(study: Path):
    chosen = params.load(Train, study / "params.yaml")
    with pytest.raises(ValueError, match="frozen"):
        chosen.lr = 1.0


def test_a_stage_prints_the_line_and_no_traceback(study: Path):
    set_params(study, image_size="large")
    done = run_stage("prepare", study)
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "prepare: params.yaml: image_size = 'large': input should be a valid integer, "
        "unable to parse string as an integer"
    ]


# Plain text that YAML 1.1 and YAML 1.2 read differently, or that either reads as something else than text.
ODD = [
    *("no", "yes", "on", "off", "y", "N", "null", "~", "true", "None", "1e5", "1e-5", "1e-05", "012", "08", "0o12"),
    *("0x1F", "0b11", "1_000", "1:30", "190:20:30", "2001-01-01", ".inf", ".nan", "0", "1e3", "=", "<<", "-", ""),
    *("# x", "a: b"),
]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        *((text, text) for text in ("no", "yes", "on", "off", "No", "OFF", "y", "1:30", "190:20:30", "None")),
        *((text, None) for text in ("null", "~", "")),
        *((text, True) for text in ("true", "TRUE")),
        *((text, 1e5) for text in ("1e5", "1E5", "100000.0", "1e+5")),
        *((text, 1e-5) for text in ("1e-5", "1e-05", "0.1e-4")),
        ("012", 12),
        ("0o12", 10),
        (".inf", float("inf")),
        ("2001-01-01", datetime.date(2001, 1, 1)),
        ("'0'", "0"),
        ('"1e3"', "1e3"),
    ],
)
def test_plain_text_is_read_in_the_dialect_in_which_dvc_writes_it(text: str, value: object):
    (found,) = dialect.parse(f"[{text}]") or [None]
    assert found == value and type(found) is type(value)
    assert dialect.parse(f"{text}: 1") == {value: 1}
    assert loads_yaml(f"key: {text}") == {"key": value}, "DVC itself reads something else"


@pytest.mark.parametrize("text", ODD, ids=repr)
def test_what_is_written_means_the_same_in_both_dialects(text: str):
    values = {"classes": [text, "glioma"], "expected": {text: 1}, "value": text, "lr": 1e-05}
    for style in (None, True, False):
        out = dialect.written(values, default_flow_style=style)
        assert dialect.parse(out) == yaml.safe_load(out) == values
    rewritten = dumps_yaml(loads_yaml(out))
    assert dialect.parse(rewritten) == values, "lost where DVC writes it anew"


def test_a_learning_rate_as_dvc_writes_it_is_a_number(study: Path):
    set_params(study, lr=1)
    text = (study / "params.yaml").read_text()
    (study / "params.yaml").write_text(text.replace("lr: 1\n", "lr: 1e-05\n"))
    assert params.read(study / "params.yaml")["lr"] == 1e-5
