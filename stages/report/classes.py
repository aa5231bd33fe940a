"""The page's tables of scores: classes by measures, and what is said of all classes together."""

from __future__ import annotations

from typing import Any

from stages.evaluate.absent import counted
from stages.evaluate.titles import OF_CLASS, SCORES
from stages.report import page
from stages.report.answer import told_of
from stages.shell.errors import InputError

GROUPS = {"clean": "without a copy in training", "all": "all test images", "leaked": "copies of training images"}


def scores(metrics: dict[str, Any], classes: list[str], published: dict[str, float] | None) -> list[str]:
    """Return the sections of scores by class and of whole groups, beside published figures where there are any.

    Raises
    ------
    InputError
        Where a published figure is of no score.
    """
    given = published or {}
    names = [*SCORES, *(f"{key}.{name}" for key in OF_CLASS for name in classes)]
    for key in given:
        if key not in names:
            raise InputError(f"params.yaml: report.published: no score is called {key!r}; there are {', '.join(names)}")
    first = told_of(metrics)
    others = [group for group in GROUPS if group != first and metrics[group]["n"]]
    tables = {group: _of_classes(metrics, group, classes, given) for group in (first, *others)}
    return [
        page.section(
            "Each class",
            tables[first],
            *(page.folded(_named(metrics, group, classes), tables[group]) for group in others),
        ),
        page.section("All classes together", _of_groups(metrics, classes, given), *_empty(metrics)),
    ]


def _of_classes(metrics: dict[str, Any], group: str, classes: list[str], published: dict[str, float]) -> str:
    """Return the table of classes by measures; published figures, which are of all test images, stand there alone."""
    found = metrics[group]
    measures = {key: title for key, title in OF_CLASS.items() if found.get(key)}
    rows = []
    for name in classes:
        cells = [_percent(found, key, name) for key in measures]
        if any(cells):
            rows.append([name, *cells])
        beside = [published.get(f"{key}.{name}") if group == "all" else None for key in measures]
        if any(value is not None for value in beside):
            rows.append([f"{name}, as published", *("" if value is None else f"{value:.1%}" for value in beside)])
    caption = f"{_named(metrics, group, classes)}; 95 % intervals below, by image"
    return page.table(caption, ["", *measures.values()], rows, stacked=True)


def _of_groups(metrics: dict[str, Any], classes: list[str], published: dict[str, float]) -> str:
    groups = [group for group in GROUPS if metrics[group]["n"]]
    given = any(key in published for key in SCORES)
    rows = [
        [title, *(_figure(metrics[group], key) for group in groups), *([_plain(published.get(key))] if given else [])]
        for key, title in SCORES.items()
        if key in published or any(key in metrics[group] for group in groups)
    ]
    head = ["", *(_named(metrics, group, classes) for group in groups), *(["published"] if given else [])]
    return page.table("Test scores; 95 % intervals in brackets", head, rows)


def _empty(metrics: dict[str, Any]) -> list[str]:
    return [
        page.paragraph(f"There is no {name} test image, so nothing is said of them.")
        for name in GROUPS
        if not metrics[name]["n"]
    ]


def _named(metrics: dict[str, Any], group: str, classes: list[str]) -> str:
    return f"{GROUPS[group]} ({counted(metrics[group], classes)})"


def _percent(found: dict[str, Any], key: str, name: str) -> str:
    value, low, high = (found.get(f"{key}{end}", {}).get(name) for end in ("", "_low", "_high"))
    if value is None:
        return ""
    return f"{value:.1%}" + ("" if low is None else f" [{100 * low:.1f}, {100 * high:.1f}]")


def _figure(found: dict[str, Any], key: str) -> str:
    low, high = found.get(f"{key}_low"), found.get(f"{key}_high")
    return _plain(found.get(key)) + ("" if low is None else f" [{_plain(low)}, {_plain(high)}]")


def _plain(value: float | None) -> str:
    return "" if value is None else f"{value:.4f}"
