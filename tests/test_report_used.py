"""The report in a real browser: errors sorted and filtered, pictures opened; without a network, and without scripts."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

sync_api = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
axe_api = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra `browser`")

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
ORDERS = {
    "least": lambda row: row["confidence"],
    "actual": lambda row: (row["actual"], -row["confidence"]),
    "predicted": lambda row: (row["predicted"], -row["confidence"]),
    "file": lambda row: row["file"],
    "most": lambda row: -row["confidence"],
}

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with sync_api.sync_playwright() as playwright:
        yield (opened := playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]))
        opened.close()


class Tab:
    """The report in a tab that reaches nothing beside the file, and what it tried."""

    def __init__(self, browser, page: Path, **options) -> None:
        self.asked, self.said = [], []
        self.context = browser.new_context(**({"viewport": {"width": 1280, "height": 900}} | options))
        self.context.route("**/*", lambda route: route.abort())
        self.context.route(page.as_uri(), lambda route: route.continue_())
        self.page = self.context.new_page()
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(page.as_uri())

    def __enter__(self) -> Tab:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def elsewhere(self) -> list[str]:
        """Return what was asked for beside the page itself and what lies in it."""
        return [url for url in self.asked[1:] if not url.startswith("data:")]

    def errors(self) -> list[dict]:
        """Return the errors that are shown, in their order."""
        given = "all => all.filter(each => !each.hidden).map(each => ({...each.dataset}))"
        rows = self.page.locator("#errors > li").evaluate_all(given)
        return [row | {"confidence": float(row["confidence"])} for row in rows]


@pytest.fixture
def report(tiny_study: Path) -> Path:
    return tiny_study / "report/index.html"


def test_errors_are_sorted_and_filtered_in_the_page_without_a_network(browser, report: Path):
    with Tab(browser, report) as tab:
        page, every = tab.page, tab.errors()
        assert len(every) > 5 and every == sorted(every, key=ORDERS["most"])
        for order, key in ORDERS.items():
            page.get_by_label("order").select_option(order)
            assert [key(row) for row in tab.errors()] == sorted(map(key, every)), order
        actual = every[0]["actual"]
        page.get_by_label("true class").select_option(actual)
        assert tab.errors() == [row for row in every if row["actual"] == actual] != every
        page.get_by_label("taken for").select_option(every[0]["predicted"])
        middle = every[len(every) // 2]["confidence"]
        page.get_by_label("at least, % sure").fill(str(100 * middle))
        kept = [
            row
            for row in every
            if (row["actual"], row["predicted"]) == (actual, every[0]["predicted"]) and row["confidence"] >= middle
        ]
        assert tab.errors() == kept
        assert page.locator("#choose output").text_content() == f"{len(kept)} of {len(every)} shown"
        page.get_by_label("at most, % sure").fill("1")
        assert tab.errors() == []
        assert (tab.elsewhere(), tab.said) == ([], [])


@pytest.mark.parametrize("which", [".card .larger", ".plots .larger"])
@pytest.mark.parametrize("scripts", [True, False])
def test_a_picture_opens_larger_by_click_and_by_keyboard(browser, report: Path, which: str, scripts: bool):
    with Tab(browser, report, java_script_enabled=scripts) as tab:
        picture = tab.page.locator(which).first
        small = picture.locator("img").first.bounding_box()
        picture.locator("summary").click()
        large = picture.locator("img").first.bounding_box()
        assert large["width"] > 1.5 * small["width"] and large["height"] > 1.5 * small["height"]
        picture.locator("summary").press("Enter")
        assert picture.get_attribute("open") is None
        picture.locator("summary").press("Enter")
        assert picture.locator("img").first.bounding_box() == large
        if scripts:
            tab.page.keyboard.press("Escape")
            assert picture.get_attribute("open") is None
        assert (tab.elsewhere(), tab.said) == ([], [])


def test_without_scripts_all_errors_are_listed_and_nothing_is_offered_that_would_not_work(browser, report: Path):
    listed = len(re.findall(r'<li class="card" data-actual=', report.read_text()))
    with Tab(browser, report, java_script_enabled=False) as tab:
        assert tab.page.locator("#errors > li:visible").count() == listed > 5
        assert not tab.page.locator("#choose").is_visible()


def test_a_page_that_asks_a_network_would_be_seen_and_is_refused_by_its_own_policy(browser, report: Path, tmp_path):
    asking = report.read_text().replace("</main>", '<img src="http://127.0.0.1:9/x.png"></main>')
    (tmp_path / "page.html").write_text(asking.replace("</main>", "<script>document.title = 'run'</script></main>"))
    with Tab(browser, tmp_path / "page.html") as tab:
        assert len([line for line in tab.said if "Content Security Policy" in line]) == 2
        assert tab.page.title() != "run"
    (tmp_path / "page.html").write_text(re.sub(r"<meta http-equiv.*", "", asking))
    with Tab(browser, tmp_path / "page.html") as tab:
        assert tab.elsewhere() == ["http://127.0.0.1:9/x.png"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [390, 1280])
def test_axe_finds_no_fault_and_nothing_overflows_open_or_not(browser, report: Path, width: int, scheme: str):
    with Tab(browser, report, viewport={"width": width, "height": 900}, color_scheme=scheme) as tab:
        for _ in range(2):
            found = axe_api.Axe().run(tab.page).response["violations"]
            assert [(each["id"], each["nodes"][0]["html"][:200]) for each in found] == []
            assert tab.page.evaluate("document.documentElement.scrollWidth") == width
            tab.page.evaluate("document.querySelectorAll('details').forEach((each) => { each.open = true; })")


def test_it_prints_in_dark_mode_too_on_white_with_its_matrix_in_colour(browser, report: Path):
    with Tab(browser, report, color_scheme="dark") as tab:
        tab.page.emulate_media(media="print", color_scheme="dark")
        colour = "each => getComputedStyle(each).backgroundColor"
        assert tab.page.locator("body").evaluate(colour) == "rgb(255, 255, 255)"
        deep = tab.page.locator(".matrix td").evaluate_all(f"all => all.map({colour})")
        assert len(set(deep)) > 1 and not tab.page.locator("#choose").is_visible()
        assert tab.page.pdf()[:5] == b"%PDF-"
