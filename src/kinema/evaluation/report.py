"""Reports as Markdown and HTML, both written from the same blocks."""

from __future__ import annotations

import html
from collections.abc import Sequence
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Heading:
    """A title; level 1 is the page's."""

    text: str
    level: int = 2


@dataclass(frozen=True)
class Text:
    """A paragraph."""

    text: str


@dataclass(frozen=True)
class Code:
    """Something to copy."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows under a header; the first column is words, the others are numbers."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]] = field(default_factory=tuple)


@dataclass(frozen=True)
class Picture:
    """A picture beside the report, by relative path."""

    path: str
    caption: str


Block = Heading | Text | Code | Table | Picture

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 16px/1.5 system-ui, sans-serif; margin: 2rem auto; max-width: 64rem }}
table {{ border-collapse: collapse; margin: 1rem 0 }}
th, td {{ border-bottom: 1px solid #ccc; padding: .25rem .75rem; text-align: right }}
th:first-child, td:first-child {{ text-align: left }}
pre {{ background: #f4f4f4; padding: .75rem; white-space: pre-wrap; word-break: break-word }}
img {{ max-width: 100% }}
</style>
</head>
<body>
{body}
</body>
</html>
"""


def to_markdown(blocks: Sequence[Block]) -> str:
    """The blocks as GitHub Markdown."""
    return "\n\n".join(map(_markdown, blocks)) + "\n"


def _markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {_one_line(text)}"
        case Text(text):
            return _one_line(text)
        case Code(text):
            return f"```sh\n{text}\n```"
        case Table(header, rows):
            rule = ["---", *["---:"] * (len(header) - 1)]
            return "\n".join(f"| {' | '.join(map(_cell, row))} |" for row in (header, rule, *rows))
        case Picture(path, caption):
            return f"![{_cell(caption)}]({path})"


def _one_line(text: str) -> str:
    return " ".join(text.split())


def _cell(text: str) -> str:
    return _one_line(text).replace("|", "\\|")


def to_html(blocks: Sequence[Block], *, title: str) -> str:
    """The blocks as one page without scripts; all text is escaped."""
    return _PAGE.format(title=html.escape(title), body="\n".join(map(_html, blocks)))


def _html(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"<h{level}>{html.escape(text)}</h{level}>"
        case Text(text):
            return f"<p>{html.escape(text)}</p>"
        case Code(text):
            return f"<pre>{html.escape(text)}</pre>"
        case Table(header, rows):
            lines = [_row(header, "th"), *(_row(row, "td") for row in rows)]
            return "\n".join(["<table>", *lines, "</table>"])
        case Picture(path, caption):
            words = html.escape(caption)
            image = f'<img src="{html.escape(path)}" alt="{words}">'
            return f"<figure>{image}<figcaption>{words}</figcaption></figure>"


def _row(cells: Sequence[str], tag: str) -> str:
    return "<tr>" + "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells) + "</tr>"
