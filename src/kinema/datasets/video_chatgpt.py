"""VideoInstruct100K, the chat data of Video-ChatGPT, as conversations."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from kinema.datasets.rows import read_rows
from kinema.datasets.samples import Sample, as_conversation
from kinema.errors import UsageError
from kinema.messages import Part


def video_instruct(path: Path, find: Callable[[str], Part]) -> Iterator[Sample]:
    """Items ``{"video_id", "q", "a"}``; ``find`` gives the video, or its features, of a video_id.

    Raises:
        UsageError: a row is none; names its line.
    """
    for number, row in enumerate(read_rows(path)):
        if not isinstance(row.value, Mapping) or not {"video_id", "q", "a"} <= set(row.value):
            what = row.error or "The row has no video_id, q and a."
            raise UsageError(
                f"{path.name}, line {row.line}: {what}",
                hint="This is the format of VideoInstruct100K.",
            )
        question, answer, video = (str(row.value[name]) for name in ("q", "a", "video_id"))
        conversation = as_conversation(question, find(video), answer, number)
        yield Sample(f"{video}#{number}", conversation, {}, row.line)
