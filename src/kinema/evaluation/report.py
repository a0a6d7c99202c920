"""Reports as Markdown and HTML, both written from the same blocks."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

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
    return _filled("report.md", blocks, line=lambda text: " ".join(text.split()))


def to_html(blocks: Sequence[Block], *, title: str) -> str:
    """The blocks as one page without scripts; all text is escaped."""
    return _filled("report.html", blocks, title=title)


def _filled(name: str, blocks: Sequence[Block], **words: Any) -> str:
    page = template(Path(__file__).with_name(name))
    return page.render(blocks=[(type(block).__name__, block) for block in blocks], **words)
