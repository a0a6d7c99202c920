"""VideoInstruct100K, the chat data of Video-ChatGPT, as conversations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from kinema.datasets.rows import DataRow, read_rows
from kinema.datasets.samples import Sample
from kinema.errors import UsageError
from kinema.messages import Conversation, Message, Part, TextPart

FindMedium = Callable[[str], Part]
"""The video, or its features, that a ``video_id`` means."""


def video_instruct(path: Path, find: FindMedium) -> Iterator[Sample]:
    """Items ``{"video_id", "q", "a"}``; even ones ask before the video, odd ones behind it.

    Raises:
        UsageError: a row is none; names its line.
    """
    for number, row in enumerate(read_rows(path)):
        question, answer, video = _fields(row, path)
        parts: tuple[Part, ...] = (TextPart(question), find(video))
        asked = Message("user", parts if number % 2 == 0 else parts[::-1])
        answered = Message("assistant", (TextPart(answer),))
        yield Sample(f"{video}#{number}", Conversation((asked, answered)), {}, row.line)


def _fields(row: DataRow, path: Path) -> tuple[str, str, str]:
    if not isinstance(row.value, Mapping) or not {"video_id", "q", "a"} <= set(row.value):
        raise UsageError(
            f"{path.name}, line {row.line}: {row.error or 'The row has no video_id, q and a.'}",
            hint="This is the format of VideoInstruct100K.",
        )
    return str(row.value["q"]), str(row.value["a"]), str(row.value["video_id"])
