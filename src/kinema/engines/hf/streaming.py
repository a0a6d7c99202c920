"""A running ``generate`` turned into an iterator of text."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import Any

from transformers import StoppingCriteria, StoppingCriteriaList, TextIteratorStreamer


class stream_generation:
    """Iterate over the words of a generation that runs in its own thread.

    Args:
        run: calls ``generate`` with the keyword arguments it is given.
        tokenizer: turns tokens into text.
        stop: strings to hold back; the iteration ends before the first of them.

    ``output`` holds what ``generate`` returned, once the iteration has ended. Closing the
    iterator early stops the model after its current token.
    """

    output: Any = None

    def __init__(self, run: Callable[..., Any], tokenizer: Any, *, stop: tuple[str, ...]) -> None:
        self._run = run
        self._stop = stop
        self._streamer = TextIteratorStreamer(tokenizer, skip_prompt=True, skip_special_tokens=True)
        self._cancelled = threading.Event()
        self._problem: BaseException | None = None

    def __iter__(self) -> Iterator[str]:
        thread = threading.Thread(target=self._generate, name="kinema-generate", daemon=True)
        thread.start()
        try:
            yield from _before_stop(self._streamer, self._stop)
        finally:
            self._cancelled.set()
            thread.join()
        if self._problem is not None:
            raise self._problem

    def _generate(self) -> None:
        try:
            self.output = self._run(
                streamer=self._streamer,
                stopping_criteria=StoppingCriteriaList([_Cancel(self._cancelled)]),
            )
        except BaseException as problem:
            self._problem = problem
        finally:
            self._streamer.end()


class _Cancel(StoppingCriteria):  # type: ignore[misc]  # transformers is untyped
    def __init__(self, cancelled: threading.Event) -> None:
        self._cancelled = cancelled

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        return input_ids.new_full((len(input_ids),), self._cancelled.is_set()).bool()


def _before_stop(pieces: Iterator[str], stop: tuple[str, ...]) -> Iterator[str]:
    """The pieces up to the first stop string, holding back what may be the start of one."""
    pending = ""
    longest = max(map(len, stop), default=1)
    for piece in pieces:
        pending += piece
        ends = [at for at in (pending.find(s) for s in stop) if at >= 0]
        if ends:
            yield pending[: min(ends)]
            return
        safe = len(pending) - (longest - 1)
        if safe > 0:
            yield pending[:safe]
            pending = pending[safe:]
    if pending:
        yield pending
