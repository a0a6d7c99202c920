"""VideoInstruct100K, the chat data of Video-ChatGPT, as conversations."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from kinema.datasets.rows import read_rows
from kinema.datasets.samples import Sample, as_conversation
from kinema.errors import UsageError
from kinema.files import PICKLED_SUFFIX, write_lines
from kinema.messages import Part, TextPart


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


def write_video_instruct(path: Path, samples: Iterable[Sample]) -> int:
    """Write what Video-ChatGPT and its fork train on; returns how many items it holds.

    A list of ``{"id", "video": "X.pkl", "conversations"}``; in the fork a video of Breakfast is
    ``P03_tea_cam01_all.pkl``.
    """
    items = [_item(sample) for sample in samples]
    write_lines(path, [json.dumps(items, ensure_ascii=False, indent=1)])
    return len(items)


def _item(sample: Sample) -> dict[str, Any]:
    medium = next(iter(sample.conversation.media), None)
    turns = []
    for turn in sample.conversation.messages:
        said = "\n".join(p.text if isinstance(p, TextPart) else "<video>" for p in turn.parts)
        turns.append({"from": "gpt" if turn.role == "assistant" else "human", "value": said})
    if medium is None:
        return {"id": sample.id, "conversations": turns}
    name = _pickle_of(Path(str(medium.source)), sample.meta)
    return {"id": name.removesuffix(PICKLED_SUFFIX), "video": name, "conversations": turns}


def _pickle_of(medium: Path, meta: Mapping[str, Any]) -> str:
    if medium.suffix == PICKLED_SUFFIX:
        return medium.name
    stem = medium.name.partition(".")[0]
    if camera := meta.get("camera"):
        variant = f"_{meta['variant']}" if meta.get("variant") else ""
        return f"{stem}{variant}_{camera}_all{PICKLED_SUFFIX}"
    return f"{stem}{PICKLED_SUFFIX}"
