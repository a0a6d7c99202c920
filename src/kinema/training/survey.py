"""All samples once before the first step: how long they are, and whether each can be learned."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from kinema.errors import KinemaError, UsageError
from kinema.messages import Conversation
from kinema.training.examples import ExampleMaker
from kinema.training.settings import TooLong

_SHOWN = 5


@dataclass(frozen=True)
class Survey:
    """What was found."""

    kept: tuple[int, ...]
    """Indices of the samples that are learned from."""
    lengths: tuple[int, ...]
    """Tokens of each of them, after a cut."""
    notes: tuple[str, ...] = ()

    @property
    def tokens(self) -> int:
        """Tokens of one pass over the samples."""
        return sum(self.lengths)


def survey(
    conversations: Sequence[Conversation],
    names: Sequence[str],
    maker: ExampleMaker,
    *,
    too_long: TooLong,
) -> Survey:
    """Measure every sample without decoding a frame.

    Raises:
        UsageError: a sample cannot be learned from or is too long; the first ones are named.
    """
    lengths = list(_lengths(conversations, names, maker))
    longer = [i for i, length in enumerate(lengths) if length > maker.max_length]
    if longer and too_long == "refuse":
        _refuse([names[i] for i in longer], max(lengths), maker.max_length)
    dropped = set(longer)
    if too_long == "cut":
        dropped = {i for i in longer if not maker.can_cut(conversations[i])}
    kept = tuple(i for i in range(len(lengths)) if i not in dropped)
    if not kept:
        raise UsageError("No sample is left to learn from.", hint="See kinema data check.")
    notes = _notes(len(longer) - len(dropped), len(dropped), maker.max_length)
    return Survey(kept, tuple(min(lengths[i], maker.max_length) for i in kept), notes)


def _lengths(
    conversations: Sequence[Conversation], names: Sequence[str], maker: ExampleMaker
) -> Iterator[int]:
    for conversation, name in zip(conversations, names, strict=True):
        try:
            yield maker.length(conversation)
        except KinemaError as error:
            error.args = (f"{name}: {error}",)
            raise


def _refuse(names: Sequence[str], longest: int, limit: int) -> None:
    shown = ", ".join(names[:_SHOWN])
    raise UsageError(
        f"{len(names)} samples are longer than {limit} tokens, the longest {longest}: {shown}.",
        hint="Raise --model-max-length, lower --num-frames, or use --too-long skip or cut.",
    )


def _notes(cut: int, skipped: int, limit: int) -> tuple[str, ...]:
    counts = {"cut to": cut, "skipped, being longer than": skipped}
    return tuple(f"{n} samples are {what} {limit} tokens" for what, n in counts.items() if n)
