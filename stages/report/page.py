"""The page, built from tables and pictures that earlier stages made. Pure: values in, HTML out."""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path

import numpy as np
from PIL import Image

STYLE = Path(__file__).with_name("page.css").read_text(encoding="utf-8")
SCRIPT = Path(__file__).with_name("page.js").read_text(encoding="utf-8")
SIDE = 320  # pixels a side of an image on the page, at most: what it has when it is opened
QUALITY = 88  # of a JPEG, 1 to 95


def page(title: str, sections: Iterable[str]) -> str:
    """Return the whole HTML document. A browser is told to load nothing for it and to run no script but ours."""
    ours = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{ours}'"
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f"<meta http-equiv=\"Content-Security-Policy\" content=\"{policy}; base-uri 'none'; form-action 'none'\">\n"
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{escape(title)}</title>\n"
        '<link rel="icon" href="data:,">\n'
        f"<style>\n{STYLE}</style>\n</head>\n<body>\n<main>\n<h1>{escape(title)}</h1>\n"
        + "\n".join(sections)
        + f"\n</main>\n<script>{SCRIPT}</script>\n</body>\n</html>\n"
    )


def section(heading: str, *parts: str) -> str:
    """Return a section under a heading."""
    return f"<section>\n<h2>{escape(heading)}</h2>\n" + "\n".join(parts) + "\n</section>"


def paragraph(text: str, soft: bool = False) -> str:
    """Return a paragraph of plain text."""
    return f"<p{' class=soft' if soft else ''}>{escape(text)}</p>"


def folded(text: str, *parts: str) -> str:
    """Return parts that are shown when a line is opened."""
    return f"<details><summary>{escape(text)}</summary>\n" + "\n".join(parts) + "\n</details>"


def listing(text: str, caption: str) -> str:
    """Return preformatted text that scrolls sideways, under a caption."""
    scrolls = f'<pre class=scroll tabindex=0 aria-label="{escape(caption)}">'
    return f"<figure><figcaption>{escape(caption)}</figcaption>{scrolls}{escape(text)}</pre></figure>"


def table(caption: str, head: Sequence[str], rows: Iterable[Sequence[object]], stacked: bool = False) -> str:
    """Return a table that scrolls sideways on a narrow screen; its first column holds names.

    An interval stands behind its number, or below it (`stacked`).
    """
    titles = "".join(_title(str(cell)) for cell in head)
    body = "\n".join(f"<tr>{_name(str(first))}{''.join(map(_cell, rest))}</tr>" for first, *rest in rows)
    return scrolled(
        caption,
        f"<table{' class=stacked' if stacked else ''}><caption>{escape(caption)}</caption>\n<thead><tr>{titles}</tr>"
        f"</thead>\n<tbody>\n{body}\n</tbody></table>",
    )


def scrolled(name: str, html: str) -> str:
    """Return HTML that scrolls sideways where it is too wide, with the keyboard too."""
    return f'<div class="scroll" role="region" tabindex="0" aria-label="{escape(name)}">{html}</div>'


def _title(text: str) -> str:
    return f'<th scope="col">{escape(text)}</th>' if text else "<td></td>"


def _name(text: str) -> str:
    return f'<th scope="row">{escape(text)}</th>'


def _cell(value: object) -> str:
    """Return a cell; an interval behind a number is set small, and on a narrow screen below it."""
    number, bracket, interval = str(value).partition(" [")
    return f"<td>{escape(number)}" + (f" <small>[{escape(interval)}</small>" if bracket else "") + "</td>"


def plots(figures: Iterable[str]) -> str:
    """Return figures in as many columns as fit."""
    return '<div class="plots">\n' + "\n".join(figures) + "\n</div>"


def figure(svg: bytes, caption: str) -> str:
    """Return a plot, embedded, with its caption; it opens larger."""
    source = "data:image/svg+xml;base64," + base64.b64encode(svg).decode()
    return f"<figure>{_larger([_img(source, caption)])}<figcaption>{escape(caption)}</figcaption></figure>"


def pair_card(left: np.ndarray, right: np.ndarray, kind: str, similarity: float, names: tuple[str, str]) -> str:
    """Return two images (uint8 [H, W]) side by side with the kind of copy and their paths."""
    return card([(left, names[0]), (right, names[1])], kind, [f"similarity {similarity:.4f}", *names])


def image_card(grey: np.ndarray, text: str, name: str) -> str:
    """Return one image (uint8 [H, W]) with a line of text and its path."""
    return card([(grey, name)], text, [name])


def looked_card(
    grey: np.ndarray, overlay: np.ndarray, text: str, name: str, data: Mapping[str, str] | None = None
) -> str:
    """Return an image (uint8 [S, S]) beside the same with heat on it (uint8 [H, W, 3]), a line of text and its path."""
    return card([(grey, name), (overlay, f"{name}: where the network looked")], text, [name], data)


def card(
    images: Sequence[tuple[np.ndarray, str]], kind: str, rest: Sequence[str], data: Mapping[str, str] | None = None
) -> str:
    """Return an item of `cards`: images with what each shows, a line in colour, and others below.

    `data` is what the page's script chooses by.
    """
    shown = _larger([_img(_jpeg(image), alt) for image, alt in images]) if images else ""
    given = "".join(f' data-{key}="{escape(value)}"' for key, value in (data or {}).items())
    lines = "<br>".join([f'<span class="kind">{escape(kind)}</span>', *map(escape, rest)])
    return f'<li class="card"{given}>{shown}{lines}</li>'


def cards(items: Iterable[str], name: str = "") -> str:
    """Return cards in as many columns as fit, in a list that may have a name."""
    listed = "\n".join(items)
    return f'<ul class="cards"{f" id={name}" if name else ""}>\n{listed}\n</ul>' if listed else ""


def _larger(images: Sequence[str]) -> str:
    """Return pictures side by side that open larger, by a click or the keyboard, with no script."""
    one = " one" if len(images) == 1 else ""
    return f'<details class="larger{one}"><summary>{"".join(images)}</summary></details>'


def _img(source: str, alt: str) -> str:
    return f'<img src="{source}" alt="{escape(alt)}">'


def _jpeg(picture: np.ndarray) -> str:
    """Return uint8 [H, W] or [H, W, 3] as the address of a JPEG of at most SIDE pixels a side.

    libjpeg's integer transform gives the same bytes with and without SIMD; what packs a PNG does not.
    """
    image = Image.fromarray(picture)
    image.thumbnail((SIDE, SIDE), Image.Resampling.BILINEAR)
    out = io.BytesIO()
    image.save(out, "JPEG", quality=QUALITY, subsampling=0)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
