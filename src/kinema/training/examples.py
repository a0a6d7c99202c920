"""A sample becomes an example: token ids, labels on the answers alone, and its media as tensors."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from kinema.errors import UsageError
from kinema.families import Checkpoint, Family
from kinema.messages import (
    Conversation,
    FeaturesPart,
    ImagePart,
    Part,
    Prompt,
    TextPart,
    VideoPart,
)
from kinema.models.literals import LiteralTokens
from kinema.models.videolm.features import read_header
from kinema.prompt import decode
from kinema.training.script import write_script
from kinema.types import Features, Frames
from kinema.video import plan

IGNORED = -100
"""The label of positions that nothing is learned at."""
_MEDIA = ("features", "pixel_values", "num_frames")


@dataclass(frozen=True, eq=False)
class Example:
    """One conversation as the model takes it."""

    input_ids: Tensor
    """int64[S]"""
    labels: Tensor
    """int64[S], IGNORED outside of answers."""
    media: Mapping[str, Tensor] = field(default_factory=dict)
    """``features`` float[N, L, D] or ``pixel_values`` float[T, 3, H, W]; ``num_frames`` int64[M]"""

    def __len__(self) -> int:
        return len(self.input_ids)


@dataclass(frozen=True)
class Medium:
    """What the text has to know of a medium."""

    kind: Literal["video", "image"]
    num_frames: int
    seconds: tuple[float, ...] = ()


class ExampleMaker:
    """Turns conversations into examples for one model."""

    def __init__(
        self,
        processor: Any,
        config: Any,
        *,
        family: Family,
        checkpoint: Checkpoint,
        max_length: int,
    ) -> None:
        if not processor.tokenizer.is_fast:
            raise UsageError(
                "This tokenizer does not say where its tokens stand in the text.",
                hint="Save it as a fast tokenizer (tokenizer.json).",
            )
        self._processor = processor
        self._config = config
        self._family = family
        self._checkpoint = checkpoint
        self._literals = LiteralTokens(processor.tokenizer)
        self.max_length = max_length

    def length(self, conversation: Conversation) -> int:
        """Tokens of an example, found without decoding a frame."""
        return len(self._undecoded(conversation))

    def make(self, conversation: Conversation) -> Example:
        """The example, cut to ``max_length`` tokens.

        Raises:
            MediaError: a medium cannot be read.
            UsageError: media or answers are not left after the cut.
        """
        decoded = decode(conversation, self._family)
        tensors = self._tensors(decoded)
        media = [_seen(part) for part in decoded.media]
        counts = tensors.get("num_frames", torch.zeros(0, dtype=torch.long)).tolist()
        told = [replace(one, num_frames=n) for one, n in zip(media, counts, strict=True)]
        return self._cut(replace(self._text(conversation, told), media=tensors))

    def can_cut(self, conversation: Conversation) -> bool:
        """Whether media and some of an answer are left after the cut."""
        return self._keeps(self._undecoded(conversation))

    def _undecoded(self, conversation: Conversation) -> Example:
        return self._text(conversation, [self._medium(part) for part in conversation.media])

    def _text(self, conversation: Conversation, media: Sequence[Medium]) -> Example:
        script = write_script(conversation, family=self._family, checkpoint=self._checkpoint)
        written = script.text.count("<video>") + script.text.count("<image>")
        if written != len(media):
            raise UsageError(
                f"The template writes {written} media and the sample has {len(media)}.",
                hint="Each medium stands in a user's turn; `plain` wants exactly one.",
            )
        times = [m.seconds for m in media if m.kind == "video"]
        counts = [m.num_frames for m in media]
        expanded = self._processor.expand(script.pieces, counts, times)
        pieces = [self._literals.reserve(Prompt(p, script.literals)) for p in expanded]
        ids = self._processor.tokenizer(
            "".join(pieces),
            return_offsets_mapping=True,
            add_special_tokens=self._processor.add_special_tokens,
        )
        borders = list(accumulate(map(len, pieces)))
        # Pieces take turns, trained ones being odd; a token belongs where it begins.
        trained = [bisect_right(borders, start) % 2 == 1 for start, _ in ids["offset_mapping"]]
        filled = self._literals.fill(
            {"input_ids": torch.tensor([ids["input_ids"]]), "is_trained": torch.tensor([trained])},
            script.literals,
        )
        row, learned = filled["input_ids"][0], filled["is_trained"][0]
        return Example(row, torch.where(learned, row, IGNORED))

    def _tensors(self, conversation: Conversation) -> dict[str, Tensor]:
        parts = conversation.media
        if not parts:
            return {}
        media = [_seen(part) for part in parts]
        arguments: dict[str, Any] = {
            "text": "".join(f"<{medium.kind}>" for medium in media),
            "seconds": [medium.seconds for medium in media if medium.kind == "video"],
        }
        features: list[Any] = [p.source for p in parts if isinstance(p, FeaturesPart)]
        for one in features:
            self._config.check_features(one.made)
        if features:
            arguments["features"] = [one.values.float() for one in features]
        else:
            arguments["videos"] = [_pixels(p) for p in parts if isinstance(p, VideoPart)]
            arguments["images"] = [_pixels(p)[0] for p in parts if isinstance(p, ImagePart)]
        made = self._processor(**arguments)
        return {name: made[name] for name in _MEDIA if name in made}

    def _medium(self, part: Part) -> Medium:
        if isinstance(part, ImagePart):
            return Medium("image", 1)
        if isinstance(part, FeaturesPart):
            header = read_header(Path(str(part.source)))
            rows = header.num_frames
            # A pickle does not say how many frames it was made of.
            known = self._processor.token_layout.num_frames_of(rows) if header.is_pickled else rows
            return Medium("video", known, header.seconds)
        assert isinstance(part, VideoPart)
        sampling = part.sampling.or_default(self._family.default_sampling)
        found = plan(part.source, sampling)
        exact = self._processor.exact_frames
        return Medium("video", exact or len(found.indices), found.seconds)

    def _cut(self, example: Example) -> Example:
        if len(example) <= self.max_length:
            return example
        if not self._keeps(example):
            raise UsageError(
                f"A sample of {len(example)} tokens loses its media or its whole answer when it is "
                f"cut to {self.max_length}.",
                hint="Raise model_max_length, or use too_long=skip.",
            )
        return replace(
            example,
            input_ids=example.input_ids[: self.max_length],
            labels=example.labels[: self.max_length],
        )

    def _keeps(self, example: Example) -> bool:
        visual = torch.tensor(self._config.visual_token_ids)
        lost = torch.isin(example.input_ids[self.max_length :], visual).any()
        return not lost and bool((example.labels[: self.max_length] != IGNORED).any())


def _seen(part: Part) -> Medium:
    """What the text has to know of a decoded medium."""
    kind: Literal["video", "image"] = "image" if isinstance(part, ImagePart) else "video"
    seen = part.source if not isinstance(part, TextPart) else None
    if isinstance(seen, Features):
        return Medium(kind, seen.num_frames, seen.seconds)
    if isinstance(seen, Frames):
        return Medium(kind, len(seen), tuple(seen.seconds.tolist()))
    raise TypeError("media are decoded before they become tensors")


def _pixels(part: VideoPart | ImagePart) -> Any:
    """uint8[T, H, W, 3] of a decoded medium."""
    if not isinstance(part.source, Frames):
        raise TypeError("media are decoded before they become tensors")
    return part.source.pixels
