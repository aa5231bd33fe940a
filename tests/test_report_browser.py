"""The report as a browser shows it, on a phone and on a desk."""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
# The page in a frame of a given width; what the browser finds is left in the outer page's title.
FRAME = """<!doctype html><title>loading</title><iframe width="{width}" height="900" srcdoc="{page}"></iframe>
<script>
document.querySelector("iframe").onload = (event) => {{
  const page = event.target.contentDocument, width = page.documentElement.clientWidth;
  const wide = [...page.querySelectorAll("body *")].filter((each) => each.getBoundingClientRect().right > width + 1)
    .filter((each) => !each.closest(".scroll"));
  document.title = JSON.stringify({{
    images: page.images.length,
    broken: [...page.images].filter((image) => !image.naturalWidth).map((image) => image.alt),
    overflow: page.documentElement.scrollWidth - width,
    wide: wide.map((each) => each.tagName + " " + each.textContent.slice(0, 40)),
  }});
}};
</script>"""

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="needs Chromium")


def shown(page: str, width: int, folder: Path) -> tuple[dict, str]:
    """Return what the browser found in a page at a width in pixels, and what it wrote to its console."""
    outer = folder / "outer.html"
    outer.write_text(FRAME.format(width=width, page=html.escape(page)), encoding="utf-8")
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--virtual-time-budget=20000"]
    words = [str(CHROMIUM), *options, f"--user-data-dir={folder / 'profile'}", "--dump-dom", outer.as_uri()]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120)
    title = re.search(r"<title>(.*?)</title>", done.stdout, re.DOTALL)
    assert title, done.stderr
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    return json.loads(html.unescape(title[1])), "\n".join(said)


@pytest.mark.parametrize("width", [390, 1440])
def test_every_picture_loads_nothing_overflows_and_the_console_is_silent(width, tiny_study: Path, tmp_path: Path):
    page = (tiny_study / "report/index.html").read_text(encoding="utf-8")
    found, console = shown(page, width, tmp_path)
    assert found["images"] > 10
    assert (found["broken"], found["overflow"], found["wide"], console) == ([], 0, [], "")


def test_the_browser_would_see_a_broken_picture_an_overflow_and_an_error(tmp_path: Path):
    page = '<img src="none.png" alt="gone"><p style="width: 2000px">wide</p><script>throw new Error("x")</script>'
    found, console = shown(page, 390, tmp_path)
    assert found["broken"] == ["gone"] and found["overflow"] > 1000 and "Error: x" in console
