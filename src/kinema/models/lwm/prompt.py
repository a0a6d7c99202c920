"""Prompts as the released weights know them: text pieces around a block of frame codes.

Two layouts exist. ``trained`` has one beginning-of-sequence token, as the training data had;
``release`` has one before every piece and two at the start, as the last release of the original
chat produced. Frame ends differ likewise: training closed inner frames with one id and the last
with another, the release closed all with the latter.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kinema.errors import UsageError
from kinema.messages import Prompt

Layout = Literal["trained", "release"]
"""Where beginning-of-sequence tokens stand."""
FrameEnds = Literal["trained", "release"]
"""Which id closes a frame that is not the last."""

PLACEHOLDER = re.compile(r"<(?:video|image)>")
"""Where a rendered prompt has its medium."""
VISION_START, VISION_END = "<vision>", "</vision>"
"""Plain text around the codes; the vocabulary has no tokens for them."""


@dataclass(frozen=True)
class Tokenizer:
    """Plain text to ids and back; control tokens are never read out of a user's words."""

    bos_id: int
    eos_id: int
    vocab_size: int
    encode: Callable[[str], list[int]]
    """Ids of plain text: no token is added, and ``<s>`` inside is three characters."""
    decode: Callable[[Sequence[int]], str]
    """Text of ids, control tokens left out."""


@dataclass(frozen=True, eq=False)
class LaidOut:
    """One prompt as ids; the mask tells which vocabulary an id belongs to."""

    ids: NDArray[np.int32]
    is_vision: NDArray[np.bool_]

    def __len__(self) -> int:
        return len(self.ids)

    def __add__(self, other: LaidOut) -> LaidOut:
        return LaidOut(
            np.concatenate([self.ids, other.ids]),
            np.concatenate([self.is_vision, other.is_vision]),
        )


def words(ids: Sequence[int]) -> LaidOut:
    """Text tokens."""
    return LaidOut(np.array(ids, np.int32), np.zeros(len(ids), bool))


def frame_block(codes: NDArray[np.integer], *, num_codes: int, ends: FrameEnds) -> LaidOut:
    """``int[T, N]`` codes as ``T * (N + 1)`` vision tokens: each frame and the id that closes it.

    The two ids after the codes mean "end of frame" and "end of vision".
    """
    end_of_frame, end_of_vision = num_codes, num_codes + 1
    closing = np.full((len(codes), 1), end_of_vision)
    if ends == "trained":
        closing[:-1] = end_of_frame
    ids = np.concatenate([codes, closing], axis=1).astype(np.int32).ravel()
    return LaidOut(ids, np.ones(len(ids), bool))


def lay_out(
    prompt: Prompt, frames: Sequence[LaidOut], tokenizer: Tokenizer, *, layout: Layout = "trained"
) -> LaidOut:
    """Tokenize a rendered prompt and put each block of frames where its placeholder stands.

    Raises:
        UsageError: placeholders and media do not correspond.
    """
    pieces = PLACEHOLDER.split(prompt.text)
    if len(pieces) != len(frames) + 1:
        raise UsageError(
            f"The prompt has {len(pieces) - 1} places for media and {len(frames)} were given.",
            hint="Write one <video> or <image> for each medium, or none at all.",
        )
    # The user's guarded words are given back; they are tokenized as plain text.
    literals = iter(prompt.literals)
    texts = [re.sub(Prompt.GUARD, lambda _: next(literals), piece) for piece in pieces]
    bos = [tokenizer.bos_id]
    before = bos if layout == "release" else []
    result = words(bos + before + tokenizer.encode(texts[0]))
    for block, text in zip(frames, texts[1:], strict=True):
        result += words(before + tokenizer.encode(VISION_START)) + block
        result += words(before + tokenizer.encode(VISION_END))
        if text:
            result += words(before + tokenizer.encode(text))
    return result


def bucket(length: int, multiple: int) -> int:
    """The padded length: at most an eighth longer, so that few different ones are compiled."""
    step = max(multiple, (1 << (length.bit_length() - 1)) // 8)
    step = -(-step // multiple) * multiple
    return -(-length // step) * step


def pad_left(
    prompts: Sequence[LaidOut], length: int
) -> tuple[NDArray[np.int32], NDArray[np.bool_], NDArray[np.int32]]:
    """One batch: ids ``int32[B, L]``, vision mask ``bool[B, L]``, first real slot ``int32[B]``."""
    ids = np.zeros((len(prompts), length), np.int32)
    is_vision = np.zeros((len(prompts), length), bool)
    for row, prompt in enumerate(prompts):
        ids[row, length - len(prompt) :] = prompt.ids
        is_vision[row, length - len(prompt) :] = prompt.is_vision
    return ids, is_vision, np.array([length - len(p) for p in prompts], np.int32)
