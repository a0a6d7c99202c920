"""What the engine openai is asked of a server, and what the weights behind it are asked alone."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from kinema.engines import Engine
from kinema.families import Checkpoint, Family
from kinema.messages import (
    Conversation,
    ImagePart,
    Message,
    Part,
    Request,
    SamplingParams,
    TextPart,
    VideoPart,
)
from kinema.prompt import decode, prepare
from support.by_hand import NEW_TOKENS, clip, through_jpeg
from support.capabilities import Shown
from support.driver import ListInbox, answer, stream

PARAMS = SamplingParams(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)
_SEEN = TextPart("what do you see?")
_WHY = Message("user", (TextPart("why?"),))
_CASES = {
    "video": (VideoPart(clip(1, 3)), _SEEN),
    "image": (ImagePart(clip(2, 1)), _SEEN),
    "mixed": (ImagePart(clip(2, 1)), VideoPart(clip(1, 3)), TextPart("why?")),
}


def as_sent(part: Part) -> Part:
    """The part as a server gets it."""
    if isinstance(part, TextPart):
        return part
    return replace(part, source=through_jpeg(part.source))


def requests(
    family: Family, checkpoint: Checkpoint, change: Callable[[Part], Part] = lambda part: part
) -> Iterator[Request]:
    """A video, an image and both: as a first turn, and as an earlier one.

    Args:
        change: what becomes of each part, such as :func:`as_sent`.
    """
    for name, parts in _CASES.items():
        first = Message("user", tuple(map(change, parts)))
        answered = Message("assistant", (TextPart("a rabbit"),))
        for turns, request_id in (((first,), name), ((first, answered, _WHY), f"{name}, then")):
            yield prepare(
                decode(Conversation(turns), family),
                family=family,
                checkpoint=checkpoint,
                params=PARAMS,
                request_id=request_id,
            )


def answers(engine: Engine, asked: Iterable[Request]) -> dict[str, str]:
    """What the engine says to each, or why it does not."""
    inbox = ListInbox(engine, asked)
    engine.serve(inbox)
    said = {completion.request_id: completion.text for completion in inbox.completions}
    return said | {name: str(problem) for name, problem in inbox.problems.items()}


def show_answers(shown: Shown, name: str) -> None:
    """Note what equal answers to all of :func:`requests` show."""
    shown(name, "openai", "video", "as timed images")
    shown(name, "openai", "image")
    shown(name, "openai", "mixed", "as timed images")
    shown(name, "openai", "batched")
    shown(name, "openai", "follow-up")


def assert_stream_says_the_same(engine: Engine, request: Request) -> None:
    """The pieces of a stream are the words of the whole answer."""
    whole = answer(engine, request)
    *pieces, last = stream(engine, request)
    assert "".join(map(str, pieces)).strip() == last.text == whole.text
    assert last.usage == whole.usage
