"""Reports as Markdown and HTML, both written from the same blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from kinema.pages import template


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
    page = template(Path(__file__).with_name("report.html"))
    return page.render(title=title, blocks=[(type(block).__name__, block) for block in blocks])
