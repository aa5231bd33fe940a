"""The page of `brainmri serve` in a real browser: dropped on, slid through, read, downloaded from; accessible."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pandas as pd
import pytest
from page_server import Page, served
from PIL import Image

pytest.importorskip("aiohttp", reason="needs the extra `serve`")
sync_api = pytest.importorskip("playwright.sync_api", reason="needs the extra `browser`")
axe_api = pytest.importorskip("axe_playwright_python.sync_playwright", reason="needs the extra `browser`")
nibabel = pytest.importorskip("nibabel", reason="needs the extra `serve`")

from commands.__main__ import main  # noqa: E402

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
WIDTHS = {"phone": (390, 844), "desk": (1280, 900)}
# gives the page a drop of files that an input holds; a browser lets no script make a drop from the disk
DROP = """(input) => {
  const transfer = new DataTransfer();
  for (const file of input.files) transfer.items.add(file);
  document.getElementById("drop").dispatchEvent(new DragEvent("drop", { dataTransfer: transfer, bubbles: true }));
}"""

DROP_CLOSED = """(input) => {
  const error = (message) => new DOMException(message, "NotReadableError");
  const gone = { slice: () => ({ arrayBuffer: () => Promise.reject(error("is gone")) }), size: 1 };
  const file = (fullPath, found) => ({ isFile: true, fullPath, file: (given) => given(found) });
  const folder = (fullPath, ...inside) => ({ isFile: false, fullPath, createReader: () => {
    return { readEntries: (given) => given(inside.splice(0)) };
  }});
  const closed = { isFile: false, fullPath: "/closed", createReader: () => {
    return { readEntries: (_, failed) => failed(error("may not be listed")) };
  }};
  const locked = { isFile: true, fullPath: "/locked.png", file: (_, failed) => failed(error("may not be read")) };
  const entries = [closed, locked, folder("/d", file("/d/gone.png", gone), file("/d/good.png", input.files[0]))];
  const items = entries.map((entry) => ({ kind: "file", webkitGetAsEntry: () => entry }));
  const drop = new Event("drop", { bubbles: true });
  Object.defineProperty(drop, "dataTransfer", { value: { items, files: [] } });
  document.getElementById("drop").dispatchEvent(drop);
}"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")
expect = sync_api.expect


@pytest.fixture(scope="module")
def page_server(tiny_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Page]:
    with served(tiny_study, tmp_path_factory.mktemp("page")) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[object]:
    with sync_api.sync_playwright() as playwright:
        yield (opened := playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"]))
        opened.close()


class Tab:
    """The page in a tab that reaches nothing but loopback, and what it did there."""

    def __init__(self, browser, url: str, hold: str | None = None, **options) -> None:
        self.hold, self.held = hold, []  # requests for this path wait until they are let go
        self.elsewhere, self.asked, self.said = [], 0, []
        self.context = browser.new_context(**options)
        self.context.route("**/*", self._route)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.goto(url)

    def _route(self, route) -> None:
        if urlsplit(route.request.url).hostname != "127.0.0.1":
            self.elsewhere.append(route.request.url)
            route.abort()
        else:
            self.asked += 1
            if urlsplit(route.request.url).path == self.hold:
                self.held.append(route)
            else:
                route.continue_()

    def __enter__(self) -> Tab:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def drop(self, *paths: Path) -> None:
        """Drop files on the page, let go what was held, and wait for all answers."""
        self.page.evaluate("document.body.append(Object.assign(document.createElement('input'), "
                           "{ type: 'file', multiple: true, id: 'hand', hidden: true }))")  # fmt: skip
        self.page.set_input_files("#hand", [str(path) for path in paths])
        self.page.locator("#hand").evaluate(DROP)
        self.hold = None
        for route in self.held:
            route.continue_()
        self.answered()

    def answered(self) -> None:
        expect(self.page.locator("#status")).to_contain_text("answered", timeout=60_000)
        expect(self.page.locator("#stop")).to_be_hidden(timeout=60_000)


@pytest.fixture(scope="module")
def volume(tiny_study: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a NIfTI volume of seven slices, the first and last empty."""
    voxels = np.zeros((96, 96, 7), np.int16)
    for place, path in enumerate(sorted((tiny_study / "data/raw/Testing/glioma").glob("*"))[:5], 1):
        with Image.open(path) as image:
            voxels[:, :, place] = np.asarray(image.convert("L").resize((96, 96))).T[::-1, ::-1]
    path = tmp_path_factory.mktemp("volume") / "head <img src=x onerror=alert(1)>.nii.gz"
    path.write_bytes(gzip.compress(nibabel.Nifti1Image(voxels, np.diag([1, 1, 5, 1])).to_bytes()))
    return path


def test_dropped_slid_through_read_and_downloaded(page_server, browser, tiny_study, volume, tmp_path, capsys):
    (tmp_path / "notes <b>.txt").write_text("not an image")
    with Tab(browser, page_server.url, accept_downloads=True) as tab:
        page = tab.page
        expect(page.get_by_text("Not a medical device")).to_be_visible()
        tab.drop(volume, tmp_path / "notes <b>.txt")
        expect(page.locator("#at-said")).to_have_text("4 of 7")  # where something is to be seen
        expect(page.locator("#heat")).to_be_visible()
        first, heat = page.get_attribute("#slice", "src"), page.get_attribute("#heat", "src")

        page.locator("#at").focus()
        page.keyboard.press("ArrowRight")
        expect(page.locator("#at-said")).to_have_text("5 of 7")
        assert page.get_attribute("#slice", "src") != first
        expect(page.locator("#heat")).to_be_visible()
        assert page.get_attribute("#heat", "src") != heat

        page.locator("#strength").fill("100")
        assert page.locator("#heat").evaluate("(each) => getComputedStyle(each).opacity") == "1"
        heat = page.get_attribute("#heat", "src")
        page.select_option("#heat-class", "pituitary")
        expect(page.locator("#heat")).not_to_have_attribute("src", heat)

        assert page.locator("#bars li").count() == 4 and "no tumour" in page.text_content("#bars")
        expect(page.locator("#summaries")).to_contain_text("Mean over 5 slices")
        expect(page.locator("#summaries")).to_contain_text("2 empty slices left out")
        assert page.locator("#nearest").evaluate("async (each) => (await each.decode(), each.naturalWidth)") == 384
        expect(page.locator("#unreadable")).to_contain_text("notes <b>.txt: not an image in a known format")
        assert page.locator("#unreadable b, td img, #name img").count() == 0  # names are text

        with page.expect_download() as download:
            page.click("#csv")
        written = Path(download.value.path()).read_text()
        page.keyboard.press("Home")
        page.locator("#rows button").first.click()
        expect(page.locator("#remarks")).to_contain_text("nothing in this picture")
        page.click("#clear")
        expect(page.locator("#answers")).to_be_hidden()
        assert tab.said == [] and tab.elsewhere == [] and tab.asked > 5
    main(["predict", str(volume), "--study", str(tiny_study), "--csv"])
    assert written == capsys.readouterr().out.replace(f"{volume.parent}/", "")
    assert page_server.calls.read_text() == ""


def test_a_drop_before_the_page_knows_its_study_is_answered(page_server, browser, tiny_study):
    with Tab(browser, page_server.url, hold="/study") as tab:
        tab.drop(next((tiny_study / "data/raw/Testing/glioma").glob("*")))
        assert tab.held and tab.said == [] and "1 picture answered" in tab.page.text_content("#status")


def test_what_the_browser_cannot_read_is_named_and_the_rest_is_answered(page_server, browser, tiny_study):
    """Three dropped: a folder and a file that are closed, and a folder with a file that has vanished and a good one."""
    with Tab(browser, page_server.url) as tab:
        tab.page.evaluate("document.body.append(Object.assign(document.createElement('input'), "
                          "{ type: 'file', id: 'hand', hidden: true }))")  # fmt: skip
        tab.page.set_input_files("#hand", str(next((tiny_study / "data/raw/Testing/glioma").glob("*"))))
        tab.page.locator("#hand").evaluate(DROP_CLOSED)
        tab.answered()
        said = tab.page.locator("#unreadable").text_content()
        for name, why in (
            ("closed", "may not be listed"),
            ("locked.png", "may not be read"),
            ("d/gone.png", "is gone"),
        ):
            assert f"{name}: cannot be read: {why}" in said
        assert "1 picture answered" in tab.page.text_content("#status") and tab.said == []


def test_a_test_image_is_tried_and_a_copy_is_shown_beside_what_it_copies(page_server, browser, tiny_study):
    with Tab(browser, page_server.url) as tab:
        tab.page.click("#example")
        tab.answered()
        expect(tab.page.locator("#predicted")).not_to_be_empty()
        seen = next((tiny_study / "data/raw/Training/meningioma").glob("*"))
        tab.drop(seen)
        tab.page.locator("#rows button").last.click()
        if "memory" in (tab.page.text_content("#remarks") or ""):  # not where it was kept for validation
            expect(tab.page.locator("#nearest-title")).to_have_text("The training image that it copies")
        assert tab.said == [] and tab.elsewhere == []


def test_a_zip_is_asked_and_the_page_says_how_a_copy_was_told(browser, tiny_study, tmp_path):
    assert main(["export", "zip", str(tmp_path / "mine.zip"), "--study", str(tiny_study)]) == 0
    index = pd.read_csv(tiny_study / "data/prepared/index.csv", keep_default_na=False)
    trained = index.loc[index["array"] == "train", "path"].iloc[0]
    with Image.open(tiny_study / "data/raw" / trained) as image:
        image.convert("L").transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored.png")
    with served(tmp_path / "mine.zip", tmp_path / "page") as page, Tab(browser, page.url) as tab:
        expect(tab.page.locator("#study")).to_have_text("mine.zip")
        expect(tab.page.locator("#example")).to_be_hidden()
        tab.drop(tmp_path / "mirrored.png")
        expect(tab.page.locator("#remarks")).to_contain_text("by descriptors alone a copy of a training image")
        expect(tab.page.locator("#nearest-said")).to_contain_text("its file is not in data/raw here")
        assert tab.elsewhere == []


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", WIDTHS)
def test_it_fits_and_axe_finds_no_fault(page_server, browser, volume, tiny_study, tmp_path, width, scheme):
    (tmp_path / "notes.txt").write_text("not an image")
    size = dict(zip(("width", "height"), WIDTHS[width], strict=True))
    # axe is a script of the test's; the page's own policy would not let it in
    with Tab(browser, page_server.url, viewport=size, color_scheme=scheme, bypass_csp=True) as tab:
        tab.drop(volume, tmp_path / "notes.txt", *sorted((tiny_study / "data/raw/Testing/glioma").glob("*"))[:2])
        tab.page.click("#unreadable summary")
        found = axe_api.Axe().run(tab.page).response["violations"]
        assert [(fault["id"], fault["impact"], fault["nodes"][0]["html"]) for fault in found] == []
        assert tab.page.evaluate("document.documentElement.scrollWidth") == size["width"]


def test_by_keyboard_alone(page_server, browser, volume):
    with Tab(browser, page_server.url) as tab:
        page = tab.page
        page.on("filechooser", lambda _: None)  # from now on choosers are ours: asked for later, the key may be faster
        expect(page.locator("#example")).to_be_visible()  # the page knows its study
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "choose"
        with page.expect_file_chooser() as chooser:
            page.keyboard.press("Enter")
        chooser.value.set_files(str(volume))
        tab.answered()
        visited = []
        page.locator("#choose").focus()
        for _ in range(14):
            page.keyboard.press("Tab")
            visited.append(page.evaluate("document.activeElement.id"))
        assert [each for each in ("previous", "at", "next", "strength", "heat-class", "csv") if each in visited] == [
            "previous", "at", "next", "strength", "heat-class", "csv"]  # fmt: skip
