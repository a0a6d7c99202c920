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
        shown = ", ".join(names[i] for i in longer[:_SHOWN])
        raise UsageError(
            f"{len(longer)} samples are longer than {maker.max_length} tokens, the longest "
            f"{max(lengths)}: {shown}.",
            hint="Raise --model-max-length, lower --num-frames, or use --too-long skip or cut.",
        )
    dropped = set(longer)
    if too_long == "cut":
        dropped = {i for i in longer if not maker.can_cut(conversations[i])}
    kept = tuple(i for i in range(len(lengths)) if i not in dropped)
    if not kept:
        raise UsageError("No sample is left to learn from.", hint="See kinema data check.")
    limit, skipped = maker.max_length, len(dropped)
    counts = {"cut to": len(longer) - skipped, "skipped, being longer than": skipped}
    notes = tuple(f"{n} samples are {what} {limit} tokens" for what, n in counts.items() if n)
    return Survey(kept, tuple(min(lengths[i], limit) for i in kept), notes)


def _lengths(
    conversations: Sequence[Conversation], names: Sequence[str], maker: ExampleMaker
) -> Iterator[int]:
    for conversation, name in zip(conversations, names, strict=True):
        try:
            yield maker.length(conversation)
        except KinemaError as error:
            error.args = (f"{name}: {error}",)
            raise
