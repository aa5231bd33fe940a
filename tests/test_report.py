"""The page that a person reads."""

from __future__ import annotations

import base64
import hashlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from conftest import ROOT, run_stages, set_params

import stages.evaluate.schema as evaluate
import stages.report.schema as report
from stages.card import card
from stages.fetch.tree import tree_digest
from stages.files import read_figures
from stages.params import load
from stages.report import mistakes, page, sections
from stages.report.answer import answer
from stages.report.classes import scores
from stages.report.patients import patients
from stages.report.whose import whose
from stages.shell.errors import InputError

CLASSES = ["glioma", "notumor"]


def read(path: str) -> np.ndarray:
    return np.full((20, 30), 99, np.uint8)


def test_page_of_a_real_run_asks_nothing_of_the_network(tiny_study: Path):
    html = (tiny_study / "report/index.html").read_text()
    assert re.findall(r'(?:src|href)="(?!data:)', html) == []
    assert "://" not in re.sub(r'src="data:[^"]*"', "", html)
    assert html.count("<img ") >= 7
    (policy,) = re.findall(r'<meta http-equiv="Content-Security-Policy" content="([^"]*)">', html)
    (script,) = re.findall(r"<script>(.*?)</script>", html, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert policy.startswith("default-src 'none'; img-src data:;") and f"script-src 'sha256-{digest}';" in policy


def test_gallery_shows_every_kind_and_the_least_similar_first():
    pairs = pd.DataFrame(
        [
            (f"Testing/a/{i}", f"Training/a/{i}", kind, s)
            for i, (kind, s) in enumerate(
                [("copy", 0.99), ("copy", 0.91), ("copy", 0.95), ("mirrored", 0.93), ("byte", 1.0)]
            )
        ],
        columns=["path", "twin", "kind", "similarity"],
    )
    shown = sections.gallery(pairs, 4)
    assert sorted(shown["kind"]) == ["byte", "copy", "copy", "mirrored"]
    assert shown[shown["kind"] == "copy"]["similarity"].tolist() == [0.91, 0.95]


def test_most_confident_error_on_a_clean_image_comes_first_and_leaked_ones_are_not_shown():
    predictions = pd.DataFrame(
        [
            ("a.jpg", "glioma", "notumor", "none", 0.3, 0.7),
            ("b.jpg", "glioma", "notumor", "none", 0.1, 0.9),
            ("c.jpg", "glioma", "notumor", "byte", 0.0, 1.0),
            ("d.jpg", "glioma", "glioma", "none", 1.0, 0.0),
        ],
        columns=["path", "label", "predicted", "leaked", "p_glioma", "p_notumor"],
    )
    wrong = mistakes.clean_errors(predictions)
    assert wrong["path"].tolist() == ["b.jpg", "a.jpg"]
    html = mistakes.errors(wrong, CLASSES, {"b.jpg": (read("b.jpg"), read("b.jpg"))})
    assert "glioma taken for notumor, 90% sure" in html and "70% sure" in html
    assert "All 2 clean test images" in html and "The 1 most confident" in html and html.count("<img ") == 2
    assert mistakes.clean_right(predictions, 5)["path"].tolist() == ["d.jpg"]
    assert "None has a picture (report.errors" in mistakes.errors(wrong, CLASSES, {})
    assert "No clean test image was wrong." in mistakes.errors(wrong[:0], CLASSES, {})


def test_an_empty_group_is_said_and_published_figures_stand_beside_ours():
    group = {"n": 4, "accuracy": 0.75, "accuracy_low": 0.3, "accuracy_high": 0.95, "sensitivity": {"glioma": 0.5}}
    group |= {"sensitivity_low": {"glioma": 0.15}, "sensitivity_high": {"glioma": 0.85}}
    metrics = {"all": group, "clean": group, "leaked": {"n": 0}}
    each, together = scores(metrics, CLASSES, {"accuracy": 0.9886, "sensitivity.glioma": 0.97})
    assert "There is no leaked test image" in together
    assert "0.9886" in together and "0.7500 <small>[0.3000, 0.9500]</small>" in together
    first, second = each.split("<details>")
    assert '<th scope="row">glioma</th><td>50.0% <small>[15.0, 85.0]</small></td>' in first
    assert "glioma, as published</th><td>97.0%</td>" in second and "published" not in first


def test_classes_are_rows_and_measures_columns_in_one_table():
    group = {"n": 4, "accuracy": 0.75} | {key: dict.fromkeys(CLASSES, 0.5) for key in ("sensitivity", "f1_of")}
    each, _ = scores({"all": group, "clean": {"n": 0}, "leaked": {"n": 0}}, CLASSES, None)
    assert re.findall(r'<th scope="col">(.*?)</th>', each) == ["sensitivity", "F1"]
    assert re.findall(r'<th scope="row">(.*?)</th>', each) == CLASSES


def test_the_page_says_which_number_in_a_picture_is_which_class():
    assert sections.numbered(CLASSES) == []
    assert "class 1 is 脑膜瘤, class 2 is notumor" in sections.numbered(["脑膜瘤", "notumor"])[0]


WITHOUT = {"n": 1300, "accuracy": 0.75, "sensitivity": {"glioma": 0.5}}
BOTH = {"n": 4, "accuracy": 0.75, "sensitivity": {"glioma": 0.5, "notumor": 1.0}}
UNEVEN = {"all": BOTH, "clean": WITHOUT, "leaked": {"n": 0}, "temperature": 1.0}
UNEVEN |= {"baselines": {key: {"all": BOTH, "clean": WITHOUT, "leaked": {}} for key in sections.BASELINES}}


def test_a_group_without_a_class_says_so_beside_its_number_on_the_page():
    for html in (scores(UNEVEN, CLASSES, None)[1], sections.worth(UNEVEN, CLASSES, "published")):
        assert "without a copy in training (n = 1,300, no notumor among them)" in html and html.count("among them") == 1


def opening(rows: list[tuple[str, str, str]], classes: list[str], metrics: dict | None = None, **split) -> str:
    """Return what the page opens with, given (label, predicted, leaked) of each test image."""
    predictions = pd.DataFrame(rows, columns=["label", "predicted", "leaked"])
    right = {True: {"n": 4, "accuracy": 0.75, "accuracy_low": 0.25, "accuracy_high": 0.95}, False: {"n": 0}}
    given = {
        "all": right[True],
        "clean": right[bool((predictions["leaked"] == "none").any())],
        "leaked": right[bool((predictions["leaked"] != "none").any())],
    }
    chosen = load(report.Params, ROOT / "params.yaml").split.model_copy(update=split)
    return answer(given | (metrics or {}), predictions, classes, chosen)


MIXED = [("glioma", "glioma", "none"), ("glioma", "notumor", "none"), ("notumor", "notumor", "byte")]


def test_the_page_opens_with_the_clean_images_accuracy_and_their_matrix():
    html = opening(MIXED, CLASSES)
    assert "<strong>75.00%</strong> of 4 test images without a copy in training were" in html
    assert "(95\u00a0% interval 25.0% to 95.0%)" in html and "with all that the test set has a copy of" in html
    cells = [re.sub("<.*?>", " ", cell).split() for cell in re.findall(r"<td style.*?</td>", html)]
    assert cells == [["1", "50.0%"], ["1", "50.0%"], ["0"], ["0"]]
    assert "no copies," in opening(MIXED[:2], CLASSES)
    copied = opening(MIXED[2:], CLASSES)
    assert "all of them copies" in copied and "of these 1 images" in copied


def test_the_opening_names_patients_and_pooled_folds():
    folds = {str(n): f"/folds/{n}" for n in range(3)}
    spread = {"folds": {"accuracy": {"mean": 0.7, "std": 0.05}}}
    html = opening(MIXED[:2], CLASSES, OF_PATIENTS | spread, protocol="by_patient", folds=folds, parts=3)
    assert "no patient in two of them. Pooled over 3 networks" in html and "by network 70.00% ± 5.00%" in html
    assert "62.50% of 3 patients (95\u00a0% interval 31.2% to 93.8%)" in html
    whole = opening(MIXED[2:], CLASSES, OF_PATIENTS, protocol="by_patient")
    assert "by patient 18.8% to 98.8%" in whole and "Trained on all but one, tested on that." in whole


ENDS = {"accuracy_low": 0.3125, "accuracy_high": 0.9375}
OF_PATIENTS = {
    "all": BOTH | ENDS | {"f1": 0.7, "by_patient": {"clusters": 5, "accuracy_low": 0.1875, "accuracy_high": 0.9875}},
    "patients": {"n": 3, "accuracy": 0.625, "images": 4, "images_accuracy": 0.5625, "sensitivity": {"glioma": 0.625}}
    | ENDS
    | {"unknown_images": 7, "stand_ins": 2},
    "known_patients": {"n": 0},
    "new_patients": BOTH | ENDS | {"accuracy": 0.8125},
    "unknown_patients": {"n": 0},
}
OTHERS = {"others": WITHOUT | ENDS | {"accuracy": 0.4375}, "others_alone": WITHOUT | ENDS | {"accuracy": 0.6875}}


def test_the_page_shows_scores_by_patient_and_without_the_classes_set_apart_where_there_are_any():
    assert patients(UNEVEN, CLASSES, []) == []
    (html,) = patients(UNEVEN | OF_PATIENTS | OTHERS, CLASSES, ["notumor"])
    assert "0.7500 <small>[0.3125, 0.9375]</small></td><td>0.7500 <small>[0.1875, 0.9875]</small>" in html
    assert "accuracy 0.6250 [0.3125, 0.9375] (n = 3, no notumor among them)" in html and "0.5625" in html
    assert "2 groups of copies stand in for patients" in html and "Images of notumor come from other sources" in html
    assert "of new patients" in html and "of patients with training images" not in html
    assert "0.4375" in html and "0.6875" in html
    (html,) = patients(UNEVEN | OTHERS, CLASSES, ["notumor"])
    assert "Without some classes" in html and "by patient" not in html


def test_the_card_says_what_is_known_of_patients():
    chosen = load(report.Params, ROOT / "params.yaml").model_copy(update={"classes": CLASSES})
    manifest = pd.DataFrame({"status": ["ok", "ok"], "split": ["Testing", "Testing"], "group": [7, 7]})
    digests = dict.fromkeys(("trained weights", "all images (tree digest)"), "0" * 64)
    before = card.card(UNEVEN, manifest, chosen, digests)
    assert "Clean of copies is not clean of patients" in before and "by patient" not in before
    apart = chosen.evaluate.model_copy(update={"apart": ["notumor"]})
    chosen = chosen.model_copy(update={"evaluate": apart})
    after = card.card(UNEVEN | OF_PATIENTS | OTHERS, manifest, chosen, digests)
    assert "- accuracy, its interval by patient: 0.7500 [0.1875, 0.9875]. 3 patients are known." in after
    assert "new patients: 0.8125" in after and "without notumor: 0.4375" in after
    assert "No test image is of a patient who has training images." in after
    known = OF_PATIENTS | {"known_patients": BOTH | ENDS | {"n": 1234}}
    assert "1,234 test images are of patients" in card.card(UNEVEN | known, manifest, chosen, digests)


@pytest.mark.parametrize(
    ("split", "said"),
    [
        ({"protocol": "published"}, "0 training images (all of them train; 10% of them validate), 14 epochs"),
        ({"protocol": "by_patient", "parts": 5}, "no patient in two of them: one network, tested on one part and"),
        (
            {"protocol": "by_patient", "parts": 5, "unique": True, "folds": {"0": "/folds/0", "1": "/folds/1"}},
            "2 images (1 pictures: one of each group of copies), divided into 5 parts, no patient in two of them: 2 "
            "networks, each tested on one part and trained on the others (10% of those validate), 14 epochs",
        ),
    ],
)
def test_the_card_says_which_images_trained(split: dict, said: str):
    chosen = load(report.Params, ROOT / "params.yaml").model_copy(update={"classes": CLASSES})
    chosen = chosen.model_copy(update={"split": chosen.split.model_copy(update=split)})
    manifest = pd.DataFrame({"status": ["ok", "ok"], "split": ["Testing", "Testing"], "group": [7, 7]})
    digests = dict.fromkeys(("trained weights", "all images (tree digest)"), "0" * 64)
    assert said in card.card(UNEVEN, manifest, chosen, digests)


SNIPPET = """
import sys
import numpy

assert not [name for name in sys.modules if name.split(".")[0] in ("stages", "commands")]
numpy.savetxt("given.txt", probabilities(torch.from_numpy(numpy.load("data/prepared/test.npy"))).numpy())
print(*about["classes"])
"""


@pytest.mark.parametrize("mirror", [True, False])
def test_the_code_in_the_card_loads_the_weights_without_ours_and_gives_the_evaluations_probabilities(
    tiny_study: Path, tmp_path: Path, mirror: bool
):
    folder = shutil.copytree(tiny_study, tmp_path / "study")
    set_params(folder, **{"evaluate.mirror": mirror})
    run_stages(["evaluate", "card"], folder)
    (code,) = re.findall(r"```python\n(.*?)```", (folder / "models/MODEL_CARD.md").read_text(), re.DOTALL)
    command = [sys.executable, "-I", "-W", "error", "-c", code + SNIPPET]
    done = subprocess.run(command, cwd=folder, text=True, capture_output=True)
    assert done.returncode == 0, done.stderr
    index = pd.read_csv(folder / "data/prepared/index.csv", keep_default_na=False)
    expected = pd.read_csv(folder / "data/predictions.csv").set_index("path")
    expected = expected.loc[index[index["array"] == "test"].sort_values("row")["path"]]
    columns = [f"p_{name}" for name in done.stdout.split()]
    np.testing.assert_allclose(np.loadtxt(folder / "given.txt"), expected[columns], atol=1e-4)


def test_a_group_without_a_class_says_so_beside_its_number_in_the_card_for_people_and_machines():
    chosen = load(report.Params, ROOT / "params.yaml").model_copy(update={"classes": CLASSES})
    manifest = pd.DataFrame({"status": ["ok", "ok"], "split": ["Testing", "Testing"], "group": [7, 7]})
    digests = dict.fromkeys(("trained weights", "all images (tree digest)"), "0" * 64)
    _, head, body = card.card(UNEVEN, manifest, chosen, digests).split("---\n", 2)
    assert "test images without a copy in training (n = 1,300, no notumor among them)" in body
    names = [result["dataset"]["name"] for result in yaml.safe_load(head)["model-index"][0]["results"]]
    assert [name.endswith("in training (no notumor among them)") for name in names] == [False, True]


def test_a_published_figure_of_no_score_is_refused():
    empty = {"n": 0}
    with pytest.raises(InputError, match=r"report\.published: no score is called 'acuracy'; there are accuracy, "):
        scores(dict.fromkeys(("all", "clean", "leaked"), empty), CLASSES, {"acuracy": 0.9886})


def test_numbers_that_yaml_takes_for_text_are_shown_and_handed_on_as_the_stages_understand_them(tmp_path: Path):
    """YAML 1.1 takes 1e-1 for text; `prepare` makes a number of it."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    set_params(tmp_path, **{"split.val_fraction": "1e-1", "verify.twins.candidate": "6e-1", "prepare.crop": "off"})
    shown = load(report.Params, tmp_path / "params.yaml")
    handed_on = load(evaluate.Params, tmp_path / "params.yaml")
    assert f"{shown.split.val_fraction:.0%}" == "10%"
    assert handed_on.verify.twins.candidate == 0.6 and handed_on.prepare.crop is False


def test_names_cannot_become_markup():
    name = """'"><script>alert(1)</script>.jpg"""
    assert "<script>" not in page.image_card(read(""), "x", name)
    found = pd.DataFrame({"path": [name], "label": [name], "predicted": ["b"], "leaked": "none", "confidence": [0.9]})
    html = mistakes.errors(found, [name, "b"], {}) + opening([(name, "b", "none")], [name, "b"])
    assert "<script>" not in html and html.count("&lt;script&gt;") >= 5


def test_page_names_what_it_was_made_of_and_shows_examples_of_each_class(tiny_study: Path):
    html = (tiny_study / "report/index.html").read_text()
    assert hashlib.sha256((tiny_study / "models/model.safetensors").read_bytes()).hexdigest() in html
    assert tree_digest(tiny_study / "data/raw") in html
    assert "weight_decay: 0.05" in html and "dvc repro" in html
    examples = html.partition("Examples of each class")[2].partition("</section>")[0]
    assert all(examples.count(f"Training/{name}/") >= 2 for name in ("glioma", "meningioma", "notumor", "pituitary"))


def test_the_card_says_what_the_metrics_say_and_a_machine_can_read_its_head(tiny_study: Path):
    text = (tiny_study / "models/MODEL_CARD.md").read_text()
    metrics = read_figures(tiny_study / "metrics/scores.csv")
    _, head, body = text.split("---\n", 2)
    found = yaml.safe_load(head)
    clean = next(r for r in found["model-index"][0]["results"] if "without a copy" in r["dataset"]["name"])
    values = {entry["type"]: entry["value"] for entry in clean["metrics"]}
    assert values["accuracy"] == metrics["clean"]["accuracy"] and values["roc_auc"] == metrics["clean"]["auc"]
    assert f"(n = {metrics['clean']['n']})" in body and f"{metrics['all']['accuracy']:.4f}" in body
    assert hashlib.sha256((tiny_study / "models/model.safetensors").read_bytes()).hexdigest() in body
    assert "Not a medical device" in body and "None" not in text and "nan" not in text.split()


def test_the_page_shows_where_the_network_looked(tiny_study: Path):
    html = (tiny_study / "report/index.html").read_text()
    correct = html.partition("Correct answers")[2].partition("</section>")[0]
    assert correct.count("where the network looked") == correct.count("<img ") / 2 > 0


def whose_images(*rows: tuple[str, str, str, int]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=["split", "label", "patient", "twin_in_training"])
    return table.assign(status="ok", path=[f"{row[0]}/{row[1]}/{n}.png" for n, row in enumerate(rows)])


def test_the_page_says_what_the_given_test_set_has_of_patients():
    manifest = whose_images(
        ("Training", "glioma", "x", 0),
        ("Testing", "glioma", "x", 0),
        ("Testing", "glioma", "x", 1),
        ("Testing", "notumor", "y", 0),
        ("Testing", "notumor", "", 1),
    )
    (html,) = whose(manifest, CLASSES, "published")
    assert (
        "4 of 5 images are of 2 known patients" in html and "2 are of patients with training images and 1 are" in html
    )
    cells = [re.findall(r"<td[^>]*>(.*?)</td>", row) for row in html.split("<tr")]
    assert [row[-4:] for row in cells if len(row) >= 4] == [
        ["2", "0", "2", "1"],
        ["0", "1", "1", "1"],
        ["0", "1", "1", "0"],
    ]
    assert "divided anew" in whose(manifest, CLASSES, "by_patient")[0] and "divided anew" not in html
    assert whose(manifest.assign(patient=""), CLASSES, "published") == []
    volume = manifest.assign(path=["Training/glioma/v.nii#1", *manifest["path"][1:]])
    volume.loc[0, "patient"] = "Training/glioma/v.nii"
    assert "1 of the patients are volumes whose patient nobody told" in whose(volume, CLASSES, "published")[0]
    assert "volumes" not in html


def test_a_patient_of_whom_validation_was_given_is_not_new():
    manifest = whose_images(
        ("Training", "glioma", "x", 0), ("Validation", "glioma", "y", 0), ("Testing", "glioma", "y", 0)
    )
    (html,) = whose(manifest, CLASSES, "published")
    assert "1 are of patients with training images and 0 are known to be of new ones" in html


@pytest.mark.parametrize("protocol", ["leak_free", "by_patient"])
def test_what_never_trained_is_not_said_to_be_found_nowhere(protocol: str):
    assert "No test image has a copy in training: " in sections.copied(UNEVEN | {"leaked": {"n": 0}}, protocol)


def test_what_is_of_the_split_that_was_undone_says_so():
    manifest = whose_images(("Training", "glioma", "", 0), ("Testing", "glioma", "", 0))
    crossing = pd.DataFrame(columns=["path", "twin", "kind", "similarity"])
    for protocol, said in (("published", 0), ("by_patient", 1)):
        html = sections.data(manifest, CLASSES, protocol, {}) + sections.pairs(crossing, 3, lambda _: None, protocol)
        assert html.count("scores here are of another split") == 2 * said
    seen = {"patients": {}, "known_patients": {"n": 0}, "new_patients": {"n": 3}, "unknown_patients": {"n": 2}}
    assert sections.seen_before(seen).endswith("and of 2 nobody knows.")


def test_the_page_says_what_was_left_out_and_what_is_burnt_in():
    manifest = whose_images(("Training", "glioma", "", 0))
    html = sections.data(manifest, CLASSES, "published", {"localisers": 3, "burnt in": 2})
    assert "Left out by fetch.scans: 3 localisers." in html and "2 DICOM files say that text is burnt" in html
    assert "Left out" not in sections.data(manifest, CLASSES, "published", {})
