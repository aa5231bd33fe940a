"""The page, built from tables and pictures that earlier stages made. Pure: values in, HTML out."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape

import numpy as np
from PIL import Image

from stages.evaluate.pictures import png as files

STYLE = """
:root { color-scheme: light; --ink: #1c2430; --soft: #5d6877; --line: #d9dee5; --tint: #f4f6f8; --mark: #0b5cad; }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink); max-width: 62rem; margin: 0 auto;
  padding: 1.5rem 1rem 4rem; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.2; }
h2 { font-size: 1.25rem; margin-top: 2.5rem; border-top: 1px solid var(--line); padding-top: 1rem; }
p, li { max-width: 46rem; }
.soft, figcaption, caption { color: var(--soft); font-size: .875rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; margin: .5rem 0 1rem; }
caption { text-align: left; padding-bottom: .3rem; }
th, td { padding: .3rem .7rem; border-bottom: 1px solid var(--line); text-align: right; overflow-wrap: normal; }
td { white-space: nowrap; }
th:first-child, td:first-child { text-align: left; white-space: normal; }
small { color: var(--soft); font-size: .8em; }
thead th { background: var(--tint); }
img { max-width: 100%; height: auto; }
figure { margin: 1rem 0; }
.cards { display: grid; grid-template-columns: repeat(auto-fill, minmax(16rem, 1fr)); gap: 1rem; }
.card { border: 1px solid var(--line); border-radius: .4rem; padding: .6rem; font-size: .8rem; break-inside: avoid; }
.card .side { display: flex; gap: .4rem; }
.card img { width: 50%; min-width: 0; flex: 1; background: #000; object-fit: contain; }
.card.one img { width: 100%; max-height: 14rem; }
.kind { color: var(--mark); font-weight: 600; }
code { background: var(--tint); padding: .1rem .3rem; border-radius: .2rem; font-size: .875em; }
pre { background: var(--tint); padding: .8rem; font-size: .8rem; overflow-wrap: normal; }
@media (max-width: 40rem) {
  table { font-size: .8rem; }
  th, td { padding: .3rem .3rem; vertical-align: top; }
  td { white-space: normal; }
  small { display: block; }
}
@media print { pre { white-space: pre-wrap; } body { max-width: none; } h2 { break-after: avoid; } }
"""


def page(title: str, sections: Iterable[str]) -> str:
    """Return the whole HTML document."""
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n"
        '<link rel="icon" href="data:,">\n'
        f"<style>{STYLE}</style>\n</head>\n<body>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(sections)
        + "\n</body>\n</html>\n"
    )


def section(heading: str, *parts: str) -> str:
    """Return a section under a heading."""
    return f"<section>\n<h2>{escape(heading)}</h2>\n" + "\n".join(parts) + "\n</section>"


def paragraph(text: str, soft: bool = False) -> str:
    """Return a paragraph of plain text."""
    return f"<p{' class=soft' if soft else ''}>{escape(text)}</p>"


def listing(text: str, caption: str) -> str:
    """Return preformatted text that scrolls sideways, under a caption."""
    return f"<figure><figcaption>{escape(caption)}</figcaption><pre class=scroll>{escape(text)}</pre></figure>"


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table that scrolls sideways on a narrow screen; its first column holds names."""
    titles = "".join(f'<th scope="col">{escape(str(cell))}</th>' for cell in head)
    body = "\n".join("<tr>" + "".join(f"<td>{_cell(str(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return (
        f'<div class="scroll"><table><caption>{escape(caption)}</caption>\n<thead><tr>{titles}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _cell(text: str) -> str:
    """Return a cell; an interval behind a number is set small, and on a narrow screen below it."""
    number, bracket, interval = text.partition(" [")
    return escape(number) + (f" <small>[{escape(interval)}</small>" if bracket else "")


def figure(png: bytes, caption: str) -> str:
    """Return a picture, embedded, with its caption."""
    return f'<figure><img src="{_uri(png)}" alt="{escape(caption)}"><figcaption>{escape(caption)}</figcaption></figure>'


def pair_card(left: np.ndarray, right: np.ndarray, kind: str, similarity: float, names: tuple[str, str]) -> str:
    """Return two images (uint8 [H, W]) side by side with the kind of copy and their paths."""
    images = "".join(
        f'<img src="{_uri(thumbnail(grey))}" alt="{escape(name)}">'
        for grey, name in zip((left, right), names, strict=True)
    )
    return (
        f'<div class="card"><div class="side">{images}</div><span class="kind">{escape(kind)}</span>, '
        f"similarity {similarity:.4f}<br>{escape(names[0])}<br>{escape(names[1])}</div>"
    )


def image_card(grey: np.ndarray, text: str, name: str) -> str:
    """Return one image (uint8 [H, W]) with a line of text and its path."""
    return (
        f'<div class="card one"><div class="side"><img src="{_uri(thumbnail(grey))}" alt="{escape(name)}"></div>'
        f'<span class="kind">{escape(text)}</span><br>{escape(name)}</div>'
    )


def looked_card(grey: np.ndarray, overlay: np.ndarray, text: str, name: str) -> str:
    """Return an image (uint8 [S, S]) beside the same with heat on it (uint8 [H, W, 3]), a line of text and its path."""
    images = "".join(
        f'<img src="{_uri(thumbnail(picture))}" alt="{escape(alt)}">'
        for picture, alt in ((grey, name), (overlay, f"{name}: where the network looked"))
    )
    return (
        f'<div class="card"><div class="side">{images}</div><span class="kind">{escape(text)}</span><br>'
        f"{escape(name)}</div>"
    )


def cards(items: Iterable[str]) -> str:
    """Return cards in as many columns as fit."""
    return '<div class="cards">\n' + "\n".join(items) + "\n</div>"


def thumbnail(grey: np.ndarray, side: int = 160) -> bytes:
    """Return uint8 [H, W] or [H, W, 3] as a PNG of at most `side` pixels a side."""
    image = Image.fromarray(grey)
    image.thumbnail((side, side), Image.Resampling.BILINEAR)
    return files.encode_whole(np.asarray(image))


def _uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
