"""A benchmark's item as it is put to a model."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from kinema.evaluation.records import Item
from kinema.messages import Conversation, TextPart, VideoPart
from kinema.types import FrameSampling, PictureFolder

_PICTURES_PER_SECOND = 1.0
"""Of a folder of pictures whose benchmark does not say."""


@dataclass(frozen=True)
class Question:
    """One item, ready to be asked; nothing of its video is read yet."""

    item: Item
    prompt: str
    system: str
    """System prompt of the preset; empty for the model family's own."""
    source: Path | PictureFolder | None
    """The video; None for a blind baseline."""
    sampling: FrameSampling
    missing: bool = False
    """There is no file of this video."""

    @property
    def conversation(self) -> Conversation:
        """What the model is shown and asked."""
        shown = () if self.source is None else (VideoPart(self.source, self.sampling),)
        return Conversation.asked(*shown, TextPart(self.prompt), system=self.system)


def video_of(item: Item, root: Path) -> Path | PictureFolder:
    """The file of an item's video, or the folder of pictures with the rate they were taken at."""
    path = (root if root.is_dir() else root.parent) / item.video
    if not path.is_dir():
        return path
    return PictureFolder(path, item.facts.get("fps") or _PICTURES_PER_SECOND)
