"""Which model answers where none was named, and the one offer of a model that answers questions."""

from __future__ import annotations

import sys

from kinema.cli.output import say
from kinema.lazy import load
from kinema.tasks.chosen import VIDEO_MODEL, can_fetch, choose_model, chosen_model
from kinema.tasks.models import DEFAULT_MODEL

_SPOTTER = (
    "spotter, the built-in model, only names what it recognises in frames. "
    f"For questions: kinema models use {VIDEO_MODEL}"
)


def model_of(given: str | None, *, quiet: bool) -> str:
    """The model that was named or chosen; else the spotter, or what the person on a terminal takes.

    Args:
        given: by a flag or by KINEMA_MODEL.
        quiet: say nothing about the spotter, and offer nothing.

    Raises:
        ModelNotFound: the offered model was taken and cannot be fetched.
    """
    if name := given or chosen_model():
        return name
    if quiet:
        return DEFAULT_MODEL
    if _is_terminal() and can_fetch() and (size := _size_on_hub()):
        return _offer(size)
    say(_SPOTTER)
    return DEFAULT_MODEL


def _is_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty() and sys.stderr.isatty()


def _size_on_hub() -> int:
    size: int = load("kinema.families.hub:size_of")(VIDEO_MODEL)
    return size


def _offer(size: int) -> str:
    """Ask once; what is answered is remembered, and an input that ends is no answer."""
    say("No model is chosen. spotter, the built-in one, only names what it recognises in frames.")
    sys.stderr.write(
        f"Fetch {VIDEO_MODEL}, a small model that answers questions ({size / 1e6:,.0f} MB)? [y/N] "
    )
    sys.stderr.flush()
    answer = sys.stdin.readline()
    if not answer:
        return DEFAULT_MODEL
    if answer.strip().lower() not in ("y", "yes"):
        say(f"spotter answers from now on; kinema models use {VIDEO_MODEL} changes that.")
        return choose_model(DEFAULT_MODEL)
    load("kinema.families.hub:download")(VIDEO_MODEL)
    return choose_model(VIDEO_MODEL)
