"""A self-contained HTML page of headings, paragraphs, tables and pictures: what every report of ours is made from."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Sequence
from html import escape

from datakit.summary import visible

_STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1c2330; --soft: #5a6478; --line: #d9dee7; --strong: #8d97a8; --paper: #ffffff;
  --mark: #e3f3e8; --mark-ink: #14532d; --note: #eef3fb; --note-edge: #2f62b0; --plate: #ffffff;
}
@media (prefers-color-scheme: dark) {
  :root {
    --ink: #e4e8ef; --soft: #9aa5b8; --line: #313a49; --strong: #66718a; --paper: #14181f;
    --mark: #17382a; --mark-ink: #b6efcb; --note: #1b2638; --note-edge: #6a9bea; --plate: #f4f6f9;
  }
}
* { box-sizing: border-box; }
body { font: 15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; color: var(--ink);
  background: var(--paper); max-width: 62rem; margin: 2rem auto 4rem; padding: 0 1.2rem; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .6rem; }
h2 { font-size: 1.15rem; margin: 2.2rem 0 .5rem; }
p { margin: .6rem 0; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; margin: .8rem 0; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; }
th, td { padding: .32rem .8rem; text-align: left; vertical-align: top; border-bottom: 1px solid var(--line); }
th { border-bottom: 2px solid var(--strong); font-weight: 600; vertical-align: bottom; }
td { overflow-wrap: anywhere; white-space: pre-wrap; }
th:first-child, td:first-child { padding-left: .4rem; }
th.r, td.r { text-align: right; white-space: nowrap; }
tr.mark td { background: var(--mark); color: var(--mark-ink); font-weight: 600; }
.answer { background: var(--note); border-left: 4px solid var(--note-edge); padding: .7rem 1.1rem; margin: 1.2rem 0; }
.answer strong { display: block; font-size: 1.25rem; }
.note { color: var(--soft); font-size: 13px; }
img { max-width: 100%; height: auto; }
img.plate { background: var(--plate); border-radius: 4px; padding: 4px; }
@media print {
  :root { --ink: #000; --soft: #444; --paper: #fff; --mark: #e8f3ec; --mark-ink: #000; --note: #f2f5fa; --plate: #fff; }
  body { margin: 0; max-width: none; font-size: 11pt; }
  .scroll { overflow: visible; }
  tr, img, .answer { break-inside: avoid; }
  h2 { break-after: avoid; }
  thead { display: table-header-group; }
}
"""


def page(title: str, *sections: str) -> str:
    """The whole document; ``title`` also stands on top of it, ``sections`` (HTML of this module's making) below."""
    head = (
        '<meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{_text(title)}</title><style>{_STYLE}</style>"
    )
    body = "\n".join(section for section in sections if section)
    return f'<!doctype html>\n<html lang="en">\n<head>{head}</head>\n<body>\n<h1>{_text(title)}</h1>\n{body}\n</body></html>\n'


def heading(text: str) -> str:
    """The heading of one part."""
    return f"<h2>{_text(text)}</h2>"


def paragraph(text: str) -> str:
    """One paragraph of plain text."""
    return f"<p>{_text(text)}</p>"


def note(text: str) -> str:
    """A paragraph in small, soft print: how a table is to be read, or what a figure leaves out."""
    return f'<p class="note">{_text(text)}</p>'


def answer(text: str, reason: str = "") -> str:
    """What the page is there to say, set off from the rest, with its ``reason`` below."""
    return f'<p class="answer"><strong>{_text(text)}</strong>{_text(reason)}</p>'


def table(
    heads: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    right: Collection[int] = (),
    mark: Collection[int] = (),
) -> str:
    """A table of plain text, every cell escaped; without a head where all ``heads`` are empty.

    ``right`` names the columns (from 0) that are set flush right, ``mark`` the rows that are set off.
    """

    def cells(tag: str, values: Sequence[object]) -> str:
        return "".join(
            f'<{tag} class="r">{_text(value)}</{tag}>' if i in right else f"<{tag}>{_text(value)}</{tag}>"
            for i, value in enumerate(values)
        )

    body = "\n".join(
        f'<tr class="mark">{cells("td", row)}</tr>' if number in mark else f"<tr>{cells('td', row)}</tr>"
        for number, row in enumerate(rows)
    )
    head = f"<thead><tr>{cells('th', heads)}</tr></thead>" if any(heads) else ""
    return f'<div class="scroll"><table>{head}\n<tbody>\n{body}\n</tbody></table></div>'


def picture(png: bytes, alt: str, *, dark: bytes | None = None) -> str:
    """A PNG, carried within the page, and the one to show in its place on a dark screen.

    ``alt`` says what it shows to whoever cannot see it.
    """
    night = f'<source media="screen and (prefers-color-scheme: dark)" srcset="{_data(dark)}">' if dark else ""
    plate = "" if dark else ' class="plate"'
    return f'<p><picture>{night}<img{plate} alt="{_text(alt)}" src="{_data(png)}"></picture></p>'


def _data(png: bytes) -> str:
    return f"data:image/png;base64,{base64.b64encode(png).decode()}"


def _text(value: object) -> str:
    return escape(visible(str(value)))
