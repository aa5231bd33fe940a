"""Tables, pictures and the console: what they say, that they never fail, and that their bytes never change."""

from __future__ import annotations

import doctest
import itertools
import json
import os
import subprocess
import sys
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from commands import show
from commands.__main__ import main as brainmri
from stages.evaluate import absent, outputs, tables
from stages.evaluate.pictures import bars, letters, lines
from stages.evaluate.pictures.canvas import style
from stages.evaluate.scores import scores_by_group
from stages.evaluate.summary import summary
from stages.files import write_figures

FOUR = ["glioma", "meningioma", "notumor", "pituitary"]
HISTORY = pd.DataFrame(
    {"epoch": [0, 1], "lr": [0.1, 0.0], "train_loss": [1.5, 1.0], "val_loss": [1.4, 1.1], "val_accuracy": [0.4, 0.6]}
)


def made(labels, leaked, classes=FOUR, seed=0, sharp=2.0):
    """Return predictions, metrics and the plots' tables for made-up outputs of a network."""
    labels, random = np.asarray(labels), np.random.default_rng(seed)
    given = random.dirichlet([0.5] * len(classes), len(labels)) + sharp * np.eye(len(classes))[labels]
    given = np.round(given / given.sum(axis=1, keepdims=True), 8)
    index = pd.DataFrame(
        {"path": [f"Testing/{classes[c]}/{n}.jpg" for n, c in enumerate(labels)], "label": [classes[c] for c in labels]}
    ).assign(leaked=leaked)
    predicted = tables.predictions(index, given, classes)
    clean = (predicted["leaked"] != "none").to_numpy()
    metrics = scores_by_group(labels, given, clean, classes, seed=0, bootstrap=20, bins=10) | {"temperature": 1.0}
    return predicted, metrics, outputs.plot_tables(predicted, HISTORY, classes, 10)


LABELS = np.repeat(range(4), [6, 5, 8, 6])
LEAKED = ["none", "byte", "none", "copy", "mirrored"] * 5

EDGES = {
    "as usual": (LABELS, LEAKED, FOUR),
    "a class absent": (LABELS[LABELS != 2], "none", FOUR),
    "everything leaked": (LABELS, "byte", FOUR),
    "one image": ([1], "none", FOUR),
    "one class, a kind of leak never heard of": ([0, 0, 0], ["none", "none", "traced"], FOUR),
    "two classes, odd names": ([0, 1, 1], ["none", "none", "copy"], ["$x_1$", 'a, "b"']),
    "letters that the font lacks": (np.arange(10) % 5, "none", ["脑膜瘤", "ورم", "ग्लियोमा", "🧠 glioma", "class 1"]),
    "names too long for a picture": (np.arange(9) % 3, "none", [f"{'long ' * 40}{n}" for n in range(3)]),
    "many classes, long names": (np.arange(60) % 17, "none", [f"a class with a long name {n}" for n in range(17)]),
    "more classes than a page has lines": (np.arange(90) % 45, "none", [f"{n} is a long name" for n in range(45)]),
    "many short names": (np.arange(90) % 45, "none", [f"c{n}" for n in range(45)]),
}


@pytest.mark.parametrize("case", EDGES)
def test_every_picture_and_table_is_made_whole_whatever_is_in_the_test_set(case):
    labels, leaked, classes = EDGES[case]
    predicted, metrics, drawn = made(labels, leaked, classes)
    pictures = outputs.pictures(drawn, metrics, classes)
    assert set(pictures) == set(drawn) - {"confusion_clean"}
    for name, picture in pictures.items():
        tags = {each.tag.rpartition("}")[2] for each in ElementTree.fromstring(picture).iter()}
        assert "path" in tags and not tags & {"image", "text", "script"}, f"{name} needs fonts, or another encoder"
    with style():
        figures = outputs.figures(drawn, metrics, classes)
        pixels_of = {name: rendered(each) for name, each in figures.items()}
    for name, pixels in pixels_of.items():
        assert pixels.std() > 1, f"{name} is blank"
        rim = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
        assert (rim == 255).all(), f"{name} is cut off at an edge"
    assert not drawn["leakage"].isna().any(axis=None) and drawn["leakage"]["images"].sum() == len(predicted)
    assert summary(metrics, tables.counts(drawn["confusion"], classes))
    json.dumps(metrics, allow_nan=False)


def rendered(figure: Figure) -> np.ndarray:
    """Return the figure's pixels, grey in 0..255 [H, W]."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    return np.asarray(canvas.buffer_rgba())[..., :3].mean(axis=2)


def figures_of(labels, leaked, classes=FOUR, history=HISTORY, sharp=1.0):
    """Return the pictures that have axes with numbers, drawn."""
    _, metrics, drawn = made(labels, leaked, classes, sharp=sharp)
    with style():
        found = {
            "histograms": bars.histograms(drawn["histograms"], classes),
            "reliability": bars.reliability(drawn["reliability"], metrics),
            "leakage": bars.leakage(drawn["leakage"], classes),
            "curves": lines.training(history),
        }
        for each in found.values():
            rendered(each)
    return found


UNEVEN = np.repeat(range(4), [1000, 1500, 9, 300])


@pytest.mark.parametrize("case", [*EDGES, "hundreds beside a few"])
def test_no_bar_leaves_its_frame(case):
    labels, leaked, classes = (EDGES | {"hundreds beside a few": (UNEVEN, "none", FOUR)})[case]
    for name, made_figure in figures_of(labels, leaked, classes).items():
        for axes in made_figure.axes:
            across, up = (max(axes.get_xlim()), max(axes.get_ylim())) if axes.get_visible() else (np.inf, np.inf)
            for bar in axes.patches:
                assert bar.get_x() + bar.get_width() <= across + 1e-9, name
                assert bar.get_y() + bar.get_height() < up, name


@pytest.mark.parametrize(("labels", "bent"), [(UNEVEN, True), (LABELS, False)])
def test_an_axis_that_is_not_linear_says_so(labels, bent: bool):
    for name, made_figure in figures_of(labels, "none").items():
        scales = {axes.get_yscale() for axes in made_figure.axes} | {axes.get_xscale() for axes in made_figure.axes}
        said = any("logarithmic" in axes.get_ylabel() for axes in made_figure.axes)
        assert said == (scales != {"linear"}), name
        if name == "histograms":
            assert said == bent
            ticks = [text.get_text() for text in made_figure.axes[0].get_yticklabels()]
            assert len(set(ticks)) == len(ticks) > 1


@pytest.mark.parametrize("epochs", [1, 2, 3, 40])
def test_epochs_are_counted_in_whole_numbers_that_do_not_touch(epochs: int):
    column = np.linspace(1.0, 0.0, epochs)
    history = pd.DataFrame({"epoch": range(epochs)} | dict.fromkeys(HISTORY.columns[1:], column))
    drawn = figures_of([0, 1], "none", history=history)["curves"]
    assert drawn.get_suptitle() == ("Training: 1 epoch" if epochs == 1 else f"Training: {epochs} epochs")
    for axes in drawn.axes:
        low, high = axes.get_xlim()
        shown = [text for text in axes.get_xticklabels() if low <= text.get_position()[0] <= high]
        assert all(1 <= int(text.get_text()) <= epochs for text in shown) and shown
        boxes = [text.get_window_extent() for text in shown]
        assert all(left.x1 < right.x0 for left, right in itertools.pairwise(boxes))


@pytest.mark.parametrize("classes", [5, 6, 8])
def test_the_lowest_histogram_of_each_column_has_its_scale(classes: int):
    names = [f"kind {n}" for n in range(classes)]
    axes = figures_of(np.arange(40) % classes, "none", names)["histograms"].axes
    for number in range(classes - 4, classes):
        assert axes[number].get_xlabel() and axes[number].xaxis.get_tick_params()["labelbottom"]


def test_reliability_has_the_numbers_of_the_larger_group_on_the_axis_that_both_share():
    drawn = figures_of(np.zeros(2000, int), ["byte"] * 1950 + ["none"] * 50)["reliability"]
    assert "1,000" in [text.get_text() for text in drawn.axes[2].get_yticklabels()]


def test_a_class_whose_letters_the_font_lacks_is_its_number_everywhere_and_that_is_told_once():
    classes = ["脑膜瘤", "glioma", "me\u0301ningiome", "a\u202eb"]
    assert letters.drawn(classes) == ["class 1", "glioma", "m\u00e9ningiome", "class 4"]
    line = letters.told(classes)
    assert line.count("\n") == 0 and "'class 1' for '脑膜瘤'" in line and "glioma" not in line
    assert letters.told(FOUR) is None
    assert letters.drawn(["class 2", "腫瘍"]) == ["class 2", "(class 2)"], "no other class's name"


def test_docstring_examples_hold():
    assert doctest.testmod(letters).failed == doctest.testmod(absent).failed == 0


def test_long_names_are_cut_and_stay_apart():
    shown = letters.drawn([f"{'x' * 40}{n}" for n in range(3)] + ["y" * 50, "y" * 51])
    assert len(set(shown)) == 5 and max(map(len, shown)) <= letters.LONGEST
    assert shown[0].endswith("0") and shown[3:] == ["class 4", "class 5"]


def test_pictures_have_the_same_bytes_twice_and_whatever_a_person_has_set():
    _, metrics, drawn = made(LABELS, LEAKED)
    before = outputs.pictures(drawn, metrics, FOUR)
    import matplotlib as mpl

    with mpl.rc_context({"font.size": 30, "figure.dpi": 40, "axes.facecolor": "red", "lines.linewidth": 9}):
        assert outputs.pictures(drawn, metrics, FOUR) == before
        assert mpl.rcParams["font.size"] == 30, "a person's settings were changed"


def test_predictions_name_the_largest_probability_and_keep_every_digit(tmp_path):
    predicted, _, _ = made(LABELS, LEAKED)
    columns = [f"p_{name}" for name in FOUR]
    assert list(predicted.columns) == ["path", "label", "predicted", "leaked", *columns]
    predicted.to_csv(tmp_path / "p.csv", index=False)
    again = pd.read_csv(tmp_path / "p.csv", keep_default_na=False)
    assert (again[columns].to_numpy() == predicted[columns].to_numpy()).all()
    assert [f"p_{name}" for name in again["predicted"]] == again[columns].idxmax(axis=1).tolist()


def test_confusion_table_counts_every_image_once():
    predicted, metrics, drawn = made(LABELS, LEAKED, sharp=0.2)
    counts = tables.counts(drawn["confusion"], FOUR)
    assert counts.to_numpy().sum() == len(LABELS) and counts.sum(axis=1).tolist() == [6, 5, 8, 6]
    assert np.trace(counts) / len(LABELS) == metrics["all"]["accuracy"] < 1
    assert len(drawn["confusion_clean"]) == metrics["clean"]["n"] == (predicted["leaked"] == "none").sum()


def test_leakage_table_by_class_and_kind():
    table = made([0, 0, 0, 1], ["none", "byte", "byte", "mirrored"])[2]["leakage"].set_index(["class", "kind"])[
        "images"
    ]
    assert (table["glioma", "none"], table["glioma", "byte"], table["meningioma", "mirrored"]) == (1, 2, 1)
    assert table["pituitary", "none"] == 0 and table.sum() == 4


def test_curves_run_from_end_to_end():
    drawn = made(LABELS, LEAKED, sharp=0.3)[2]
    curve = drawn["roc"].query("images == 'all' and `class` == 'notumor'")
    assert curve.iloc[0, 2:].tolist() == [0, 0] and curve.iloc[-1, 2:].tolist() == [1, 1]
    area = np.trapezoid(curve["true_positive_rate"], curve["false_positive_rate"])
    assert area == pytest.approx(made(LABELS, LEAKED, sharp=0.3)[1]["all"]["auc_of"]["notumor"], abs=1e-5)
    recall = drawn["precision_recall"].query("images == 'clean' and `class` == 'glioma'")["recall"]
    assert recall.is_monotonic_increasing and (recall.iloc[0], recall.iloc[-1]) == (0, 1)


def test_long_curves_are_thinned_evenly_and_keep_their_ends():
    x = np.linspace(0, 1, 5000)
    kept = tables.thinned(x, np.sqrt(x), 200)
    assert len(kept) <= 200 and (kept[0], kept[-1]) == (0, 4999)
    steps = np.diff(x[kept]) + np.diff(np.sqrt(x)[kept])
    assert steps.max() < 0.03  # of a length of 2
    assert tables.thinned(x[:3], x[:3], 200).tolist() == [0, 1, 2]


def test_histograms_count_every_image_once_however_sure():
    table = made(LABELS, LEAKED, sharp=50)[2]["histograms"]
    assert table[table["images"] == "all"].groupby("class")["n"].sum().reindex(FOUR).tolist() == [6, 5, 8, 6]


def test_pictures_have_the_same_bytes_on_any_processor_and_say_nothing_of_when_they_were_made(tmp_path):
    """The same bytes with every optional instruction set of NumPy and of the C library switched off."""
    _, metrics, drawn = made(LABELS, LEAKED)
    (tmp_path / "given.json").write_text(
        json.dumps([{key: each.to_dict("list") for key, each in drawn.items()}, metrics])
    )
    code = (
        "import stages, hashlib, json, sys, pandas as pd; from stages.evaluate import outputs; "
        "drawn, metrics = json.load(open(sys.argv[1])); "
        "drawn = {key: pd.DataFrame(each) for key, each in drawn.items()}; "
        "made = outputs.pictures(drawn, metrics, sys.argv[2:]); "
        "print({key: hashlib.sha256(each).hexdigest() for key, each in made.items()})"
    )
    seen = set()
    for change in (
        {},
        {"GLIBC_TUNABLES": "glibc.cpu.hwcaps=-AVX512F,-AVX2,-FMA,-ERMS", "NPY_DISABLE_CPU_FEATURES": "AVX2 FMA3"},
        {"OPENBLAS_CORETYPE": "Haswell", "PYTHONHASHSEED": "7"},
    ):
        environment = os.environ | {"PYTHONPATH": str(ROOT)} | change
        words = [sys.executable, "-c", code, str(tmp_path / "given.json"), *FOUR]
        seen.add(subprocess.run(words, env=environment, text=True, capture_output=True, check=True).stdout)
    assert len(seen) == 1
    for picture in outputs.pictures(drawn, metrics, FOUR).values():
        assert b"<dc:date>" not in picture and b"Matplotlib v" not in picture


def test_console_table_is_aligned_and_says_what_is_missing():
    _, metrics, drawn = made(LABELS, "none")
    lines = summary(metrics, tables.counts(drawn["confusion"], FOUR)).splitlines()
    assert lines[0].split() == ["test", "images", "n", "accuracy", "95", "%", "interval", "macro", "F1", "macro", "AUC"]
    assert lines[3].split() == ["leaked", "0", "-", "-", "-", "-"]
    assert len({len(line) for line in lines[:4]}) == len({len(line) for line in lines[6:]}) == 1
    assert lines[7].split()[0] == "glioma" and lines[7].split()[-1].endswith("%")


def test_a_group_without_a_class_says_so_beside_its_number_and_no_other_does():
    _, metrics, drawn = made(LABELS, np.where(LABELS == 2, "byte", "none"))
    lines = summary(metrics, tables.counts(drawn["confusion"], FOUR)).splitlines()
    assert lines[2].startswith("clean ") and lines[2].endswith("  no notumor among them")
    assert lines[3].startswith("leaked ") and lines[3].endswith("  no glioma, meningioma or pituitary among them")
    assert "among" not in "".join(lines[:2] + lines[4:])


def test_show_prints_what_the_stage_found(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    _, metrics, drawn = made(LABELS, LEAKED)
    (tmp_path / "metrics").mkdir()
    (tmp_path / "plots").mkdir()
    (tmp_path / "params.yaml").write_text((ROOT / "params.yaml").read_text())
    write_figures("metrics/scores.csv", metrics)
    drawn["confusion"].to_csv("plots/confusion.csv", index=False)
    assert brainmri(["show"]) == 0
    assert capsys.readouterr().out == summary(metrics, tables.counts(drawn["confusion"], FOUR)) + "\n"
    assert brainmri(["show", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == metrics


def test_show_where_nothing_was_run_is_one_clear_line(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert brainmri(["show"]) == 1
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and str(show.SCORES) in error and "dvc repro" in error
