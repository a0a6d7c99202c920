"""Samples to train on: kinema's data format, and reading every other as if it were that.

A file is JSON Lines, one sample a line: ``{"id", "messages", "meta"}``. Messages are those of
:mod:`kinema.datasets.conversations`, media paths relative to the file; ``meta`` is free.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kinema.datasets.conversations import conversation_to_json
from kinema.datasets.rows import read_rows
from kinema.datasets.shapes import Shape, conversation_of, shape_of
from kinema.errors import MediaNotFound, UsageError
from kinema.files import FEATURES_SUFFIX
from kinema.messages import Conversation, Message, Part, TextPart
from kinema.textfiles import Row, write_json_lines


@dataclass(frozen=True)
class Sample:
    """One conversation to learn from."""

    id: str
    conversation: Conversation
    meta: Mapping[str, Any] = field(default_factory=dict)
    line: int = 0
    """Where it stands in its file, counted from one; 0 when it came from none."""

    def to_dict(self, folder: Path) -> dict[str, Any]:
        """Ready for JSON in a file in ``folder``."""
        messages = conversation_to_json(self.conversation, folder)
        return {"id": self.id, "messages": messages, "meta": dict(self.meta)}


def as_conversation(question: str, medium: Part, answer: str, number: int) -> Conversation:
    """A question about a medium, and its answer.

    Both places of the medium are learned: an even question stands before it, an odd one behind it.
    """
    parts: tuple[Part, ...] = (TextPart(question), medium)
    asked = Message("user", parts if number % 2 == 0 else parts[::-1])
    return Conversation((asked, Message("assistant", (TextPart(answer),))))


def read_samples(path: Path, *, media: Path | None = None) -> Iterator[Sample]:
    """The samples of a data file of any known shape, in order.

    Args:
        path: .jsonl, .json or .parquet, or a folder of a Hugging Face data set.
        media: what relative media paths start at, instead of the file's folder.

    Raises:
        UsageError: at the first row that is no sample; names its line.
    """
    folder = media or (path if path.is_dir() else path.parent)
    for row in read_rows(path):
        try:
            yield sample_of(row, folder)
        except UsageError as problem:
            where = f"{path.name}, line {row.line}"
            raise UsageError(f"{where}: {problem}", hint=problem.hint) from problem


def sample_of(row: Row, folder: Path) -> Sample:
    """The sample in a row; its id is its line where it has none.

    Raises:
        UsageError: it is none; says why.
    """
    if row.error:
        raise UsageError(row.error, hint="Repair or remove the line.")
    conversation = conversation_of(row.value, folder)
    name = row.value.get("id")
    meta = row.value.get("meta") or {}
    return Sample(str(row.line if name is None else name), conversation, meta, row.line)


def detect_shape(path: Path) -> Shape:
    """The shape of a data file's first row.

    Raises:
        UsageError: there is no row, or it has no known shape.
    """
    for row in read_rows(path):
        return shape_of(row.value)
    raise UsageError(f"{path.name} is empty.", hint="Give a file with samples.")


def write_samples(path: Path, samples: Iterable[Sample]) -> int:
    """Write a data file, whole or not at all; returns how many samples it holds."""
    number = 0

    def dumped() -> Iterator[dict[str, Any]]:
        nonlocal number
        for sample in samples:
            number += 1
            yield sample.to_dict(path.parent)

    write_json_lines(path, dumped())
    return number


def features_name(medium: Path, variant: str = "") -> Path:
    """The features file of a medium, both relative to their folders.

    ``P03/cam01/P03_tea.avi`` has ``P03/cam01/P03_tea.avi.safetensors``, and its mirrored copy
    ``P03/cam01/P03_tea.avi.flip.safetensors``.
    """
    ending = f".{variant}{FEATURES_SUFFIX}" if variant else FEATURES_SUFFIX
    return medium.with_name(medium.name + ending)


def find_features(medium: Path, folder: Path, *, variant: str = "") -> Path:
    """The features file of a medium in a folder that ``kinema features`` filled.

    The features lie as the media do, below another folder: the longest tail of the medium's path
    that exists there is taken.

    Raises:
        MediaNotFound: none exists.
    """
    parts = medium.resolve().parts[1:]
    tails = (Path(*parts[start:]) for start in range(len(parts)))
    candidates = (folder / features_name(tail, variant) for tail in tails)
    found = next((path for path in candidates if path.is_file()), None)
    if found is None:
        raise MediaNotFound(
            f"{folder} holds no features of {medium.name}{f' ({variant})' if variant else ''}.",
            hint="Extract them with: kinema features",
        )
    return found
