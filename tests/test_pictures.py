"""README's pictures are those that the code and the default study's parameters give, and they are there."""

from __future__ import annotations

import re
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from conftest import ROOT, script
from PIL import Image

from stages.dialect import parse

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "bench/README.md", *sorted((ROOT / "docs").glob("*.md"))]


@pytest.fixture
def pictures() -> Any:
    return script("pictures")


def test_the_pipelines_picture_is_of_dvc_yaml_as_it_is(pictures: Any):
    declared = parse((ROOT / "dvc.yaml").read_text())["stages"]
    drawn = pictures.svg(pictures.graph(declared, pictures.networks()), declared)
    assert drawn == (ROOT / "docs/pipeline.svg").read_text(), "run `python bench/pictures.py`"
    texts = [node.text for node in ElementTree.fromstring(drawn).iter() if node.get("class") == "name"]
    assert texts == list(declared)


def test_an_arrow_stands_for_each_need_that_no_chain_of_others_says(pictures: Any):
    declared = {
        "a": {"deps": ["${root}/stages/x"], "outs": ["x", "w"]},
        "b": {"deps": ["x/part"], "metrics": [{"y": {"cache": False}}]},
        "t": {"foreach": "${f}", "do": {"deps": ["y", "x"], "outs": ["models${item}/n"]}},
        "c": {"deps": ["models/${split.networks}", "w"]},
    }
    needs = pictures.graph(declared, "n")
    assert sorted(needs.edges) == [("a", "b"), ("b", "t"), ("t", "c")]
    assert pictures.places(needs, list(declared)) == {"a": (0, 0), "b": (1, 0), "t": (2, 0), "c": (3, 0)}


def test_the_phantoms_shown_are_the_default_studys(pictures: Any):
    with Image.open(ROOT / "docs/phantoms.png") as image:
        assert np.array_equal(np.asarray(image), pictures.row()), "run `python bench/pictures.py`"


@pytest.mark.parametrize("page", PAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_picture_and_page_that_is_named_is_there(page: Any):
    named = re.findall(r"\]\((?!https?:|#|mailto:)([^)#]+)", page.read_text())
    assert [name for name in named if not (page.parent / name).exists()] == []


def test_the_page_of_bench_names_every_script():
    page = (ROOT / "bench/README.md").read_text()
    assert [path.name for path in (ROOT / "bench").glob("*.py") if f"`{path.name}`" not in page] == []
