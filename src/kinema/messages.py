"""What is said: conversations, the requests made of them, and what engines answer.

A :class:`Conversation` is what a person means, a :class:`Request` is what an engine gets, a
:class:`Completion` is what it gives back.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import ClassVar, Literal

from kinema.plain import Plain
from kinema.ranges import Ranges, require_ranges, require_value
from kinema.types import Features, Frames, FrameSampling, Shown, Source

Role = Literal["system", "user", "assistant"]
FinishReason = Literal["stop", "length", "refusal"]
"""Why an answer ended: the model was done, the tokens were, or a server's model or filter refused;
then the text is what it said instead of an answer, or nothing."""


@dataclass(frozen=True)
class TextPart:
    """Words. Always words: placeholders and control tokens inside stay text."""

    text: str


@dataclass(frozen=True, eq=False)
class ImagePart:
    """One still picture."""

    source: Source
    name: str = ""
    """What records call it, where that is not what the source is called."""


@dataclass(frozen=True, eq=False)
class VideoPart:
    """One video, or one range of it."""

    source: Source
    sampling: FrameSampling = FrameSampling()
    name: str = ""
    """What records call it, where that is not what the source is called."""
    size: int | None = None
    """Pixels of the shorter side that frames are scaled down to; None keeps the video's own."""
    skip_similar: float | None = None
    """Leave out frames whose brightness differs by less than this (of 255) from the one before."""


@dataclass(frozen=True)
class FeaturesPart:
    """Features of one video that an encoder wrote to a file earlier."""

    source: Path | Features


Part = TextPart | ImagePart | VideoPart | FeaturesPart


@dataclass(frozen=True)
class Message:
    """One turn of a conversation."""

    role: Role
    parts: tuple[Part, ...]
    between: str = "\n"
    """What stands between parts, where a template takes them as one text."""

    @property
    def text(self) -> str:
        """The words of this turn, media left out."""
        return "\n".join(part.text for part in self.parts if isinstance(part, TextPart))


@dataclass(frozen=True)
class Conversation:
    """Turns in order."""

    messages: tuple[Message, ...] = ()

    @classmethod
    def asked(cls, *parts: Part, system: str = "") -> Conversation:
        """One turn of the user, behind a system prompt where there is one."""
        before = (Message("system", (TextPart(system),)),) if system else ()
        return cls((*before, Message("user", parts)))

    def __add__(self, message: Message) -> Conversation:
        return Conversation((*self.messages, message))

    def mapped(self, change: Callable[[Part], Part]) -> Conversation:
        """The same turns with every part changed."""
        turns = (replace(m, parts=tuple(map(change, m.parts))) for m in self.messages)
        return Conversation(tuple(turns))

    @property
    def media(self) -> tuple[ImagePart | VideoPart | FeaturesPart, ...]:
        """Every part that is not words, in order."""
        parts = (part for message in self.messages for part in message.parts)
        return tuple(part for part in parts if not isinstance(part, TextPart))


_RANGES: Ranges = {
    **dict.fromkeys(
        ("temperature", "top_k", "min_new_tokens", "logprobs"), (lambda n: n >= 0, "0 or more")
    ),
    "top_p": (lambda share: 0 < share <= 1, "above 0 and at most 1"),
    "repetition_penalty": (lambda factor: factor > 0, "> 0"),
    "max_new_tokens": (lambda count: count >= 1, "1 or more"),
    "stop": (all, "strings that are not empty"),
}


@dataclass(frozen=True, kw_only=True)
class SamplingParams(Plain):
    """How the model picks its words.

    Raises:
        UsageError: a value outside the stated range.
    """

    temperature: float = 0.0
    """Randomness; 0 always takes the likeliest token (greedy)."""
    top_p: float = 1.0
    """Keep the likeliest tokens up to this probability, above 0 and at most 1."""
    top_k: int = 0
    """Keep this many likeliest tokens; 0 keeps all."""
    repetition_penalty: float = 1.0
    """Above 1 discourages tokens already said."""
    max_new_tokens: int = 256
    """Stop after this many tokens."""
    min_new_tokens: int = 0
    """Do not stop before this many tokens."""
    stop: tuple[str, ...] = ()
    """Stop before any of these strings."""
    seed: int | None = None
    """Makes a random answer repeatable."""
    logprobs: int | None = None
    """Report the log-probability of each token and of this many alternatives."""
    json_schema: str | None = None
    """JSON Schema that the answer must follow (hf, vllm, openai), as
    :func:`kinema.structured.read_schema` gives it."""

    def __post_init__(self) -> None:
        require_ranges(self, _RANGES)
        require_value(
            self.min_new_tokens <= self.max_new_tokens,
            "min_new_tokens",
            self.min_new_tokens,
            f"0 to max_new_tokens ({self.max_new_tokens})",
        )

    def cut_at_stop(self, text: str) -> tuple[str, bool]:
        """The text before the first stop string, and whether there was one."""
        found = [at for at in map(text.find, self.stop) if at >= 0]
        return (text[: min(found)], True) if found else (text, False)

    def num_held_back(self, text: str) -> int:
        """Characters at the end of a growing text that may become a stop string."""
        begun = (n for stop in self.stop for n in range(1, len(stop)) if text.endswith(stop[:n]))
        return max(begun, default=0)


@dataclass(frozen=True, eq=False)
class Media:
    """One decoded medium of a request, in prompt order."""

    kind: Literal["video", "image"]
    frames: Frames


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt: one placeholder a medium, one guard a literal.

    Text of the user that would read as a placeholder or control token is cut out of ``text``,
    a guard character stands in its place, and ``literals`` holds it, in order.
    """

    text: str
    literals: tuple[str, ...] = ()

    GUARD: ClassVar[str] = "\uf8ff"

    @property
    def written(self) -> str:
        """The prompt as a person would read it, literals in their places."""
        literals = iter(self.literals)
        return re.sub(self.GUARD, lambda _: next(literals), self.text)


@dataclass(frozen=True, eq=False)
class Request:
    """All that an engine needs: nothing to open, no time to choose, no template to know."""

    id: str
    prompt: Prompt
    media: tuple[Media, ...] = ()
    params: SamplingParams = SamplingParams()
    conversation: Conversation = Conversation()
    """The same request unrendered, for servers that write their own prompt."""
    features: tuple[Features, ...] = ()
    """Instead of media: rows of an encoder, in prompt order."""


@dataclass(frozen=True)
class Usage(Plain):
    """What a completion cost, in tokens."""

    prompt_tokens: int = 0
    completion_tokens: int = 0
    visual_tokens: int = 0


@dataclass(frozen=True)
class TokenLogprob(Plain):
    """One generated token, how likely it was, and the likeliest alternatives."""

    token: str
    logprob: float
    alternatives: tuple[tuple[str, float], ...] = ()


@dataclass(frozen=True)
class Completion(Plain):
    """What an engine answered to one request."""

    request_id: str
    text: str
    """The answer alone."""
    finish_reason: FinishReason = "stop"
    usage: Usage = Usage()
    token_ids: tuple[int, ...] = ()
    logprobs: tuple[TokenLogprob, ...] | None = None
    seconds: float = 0.0
    """Time the engine spent on this request."""
    first_token_seconds: float | None = None
    """Time until the first token, where it was watched."""
    reasoning: str = ""
    """What a reasoning model thought before it answered."""
    note: str = ""
    """What is not as it was asked for; empty where all is."""


@dataclass(frozen=True, kw_only=True)
class Ask:
    """One question, with sources that may not be decoded yet: it holds no pixels and pickles."""

    key: str
    """The same key always means the same answer; answers are kept under it."""
    conversation: Conversation
    params: SamplingParams = SamplingParams()
    fit: bool = False
    """Take frames away when they do not fit the context, instead of refusing."""
    add_bos: bool = False
    """Begin the prompt with the tokenizer's begin mark, where the template does not."""


@dataclass(frozen=True, kw_only=True)
class Reply(Plain):
    """What was said, what was shown, and the prompt as it was sent."""

    completion: Completion
    shown: tuple[Shown, ...] = ()
    """What the model saw, one entry a medium, in prompt order."""
    prompt: str = ""
    note: str = ""
    """What was taken away to make the request fit; empty when nothing was."""
