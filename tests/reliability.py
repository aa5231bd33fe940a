"""docs/reliability.md: how many cases of each kind of fault and hostile input were tried, and how each came out.

A test marked `fault("kind")` is a case; one that tries many says how many with `record_property("cases", n)`, and
one made of several commands with `fault("kind", commands=n)`: it has 30 s for each (`limits` in faulting.py).
`make faults` runs them all and writes the page; a run of some of them replaces the rows of the kinds that it tried.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

HEAD = """# Faults and hostile input: what was tried

Written by `make faults` (`pytest --reliability`). A case is handled where it ends within 30 s and 2 GiB, in a right
result or one line that says what, where and what to do; leaves no output lost, torn or wrong, and nothing outside the
study's folder; and where the next run succeeds without cleaning by hand.

Both limits are enforced, on the tests themselves and on what they start: 2 GiB is the peak of any one process. A case
made of several commands has 30 s for each: a stage that fails and then succeeds, two at once, killed and run again, and
inputs at random (30 s an input). A `dvc repro` of all stages and an experiment in a queue count as as many commands as
there are stages. No case is exempt.

A `.part` that a killed stage leaves beside its outputs, which Git and DVC ignore, is removed the next time that the
stage runs; until then it stays where DVC restores the output from its cache instead. DVC writes `dvc.lock` in place:
killed in just that moment it leaves a torn one, which the next run names, and `git checkout dvc.lock` mends. What stops
what is in [security.md](security.md).
"""


class Reliability:
    """Counts cases by kind, over a run of the tests."""

    def __init__(self, page: Path) -> None:
        """Count for a page."""
        self.page = page
        self.tried: Counter[str] = Counter()
        self.wrong: Counter[str] = Counter()
        self.failed: set[str] = set()  # tests, each counted as wrong once
        self.skipped: Counter[tuple[str, str]] = Counter()

    @pytest.hookimpl(hookwrapper=True)
    def pytest_runtest_makereport(self, item: pytest.Item, call: pytest.CallInfo[Any]) -> Any:
        """Count a test's outcome."""
        outcome = yield
        report = outcome.get_result()
        marker = item.get_closest_marker("fault")
        if marker is None or (report.when != "call" and report.passed):
            return
        kind, cases = marker.args[0], int(dict(item.user_properties).get("cases", 1))
        if report.skipped:
            self.skipped[kind, report.longrepr[2].removeprefix("Skipped: ")] += cases
            return
        if report.when != "teardown":  # it was counted when it was called; what it leaves behind may still be wrong
            self.tried[kind] += cases
        if report.failed and item.nodeid not in self.failed:
            self.failed.add(item.nodeid)
            self.wrong[kind] += 1

    def pytest_sessionfinish(self) -> None:
        """Write the page."""
        self.page.write_text(self.text(), encoding="utf-8")

    def text(self) -> str:
        """Return the page."""
        rows = figures(self.page.read_text(encoding="utf-8")) if self.page.is_file() else {}
        rows.pop("**all**", None)
        rows |= {kind: (tried, self.wrong[kind]) for kind, tried in self.tried.items()}
        total = (sum(tried for tried, _ in rows.values()), sum(wrong for _, wrong in rows.values()))
        lines = [HEAD, "| fault or input | tried | handled | outputs lost or wrong |", "|---|---|---|---|"]
        for kind, (tried, wrong) in [*sorted(rows.items()), ("**all**", total)]:
            lines.append(f"| {kind} | {tried:,} | {tried - wrong:,} | {wrong} |")
        if self.skipped:
            each = [f"{count} of {kind} ({why})" for (kind, why), count in sorted(self.skipped.items())]
            lines += ["", f"Not tried here: {', '.join(each)}."]
        return "\n".join([*lines, ""])


def figures(page: str) -> dict[str, tuple[int, int]]:
    """Return {kind: (tried, lost or wrong)} of a page."""
    rows = re.findall(r"^\| (.+?) \| ([\d,]+) \| [\d,]+ \| (\d+) \|$", page, re.MULTILINE)
    return {kind: (int(tried.replace(",", "")), int(wrong)) for kind, tried, wrong in rows}
