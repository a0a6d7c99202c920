"""A running ``generate`` turned into an iterator of what its rows say."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from transformers import StoppingCriteria, StoppingCriteriaList
from transformers.generation.streamers import BaseStreamer

from kinema.engines.hf.generation import cut_at_stop
from kinema.messages import Completion, Delta, SamplingParams


class Row:
    """One answer of a batch, as far as it has come."""

    def __init__(self, tokenizer: Any, params: SamplingParams, end_ids: Sequence[int]) -> None:
        self.ids: list[int] = []
        self.said = ""
        """What was shown of it: no stop string, nor what may be the beginning of one."""
        self.ended = False
        self._tokenizer = tokenizer
        self._params = params
        self._end_ids = end_ids

    def add(self, tokens: list[int]) -> str:
        """Take new tokens in; returns the text that can be shown now."""
        for token in tokens:
            if not self.ended:
                self.ids.append(token)
                self.ended = token in self._end_ids or len(self.ids) >= self._params.max_new_tokens
        text = self._tokenizer.decode(self.ids, skip_special_tokens=True).lstrip()
        text, stopped = cut_at_stop(text, self._params.stop)
        self.ended = self.ended or stopped
        shown = text if stopped else text[: len(text) - self._held_back(text)]
        return self._show(shown.rstrip())

    def last(self, completion: Completion) -> Delta:
        """The rest of the row's text, and what became of it."""
        return Delta(completion.request_id, completion.text[len(self.said) :], completion)

    def _held_back(self, text: str) -> int:
        """Characters at the end that a later token may still change or turn into a stop string."""
        if text.endswith("\ufffd"):  # the first bytes of a character
            return len(text)
        longest = max(map(len, self._params.stop), default=1) - 1
        tails = (n for n in range(min(longest, len(text)), 0, -1))
        return next(
            (n for n in tails if any(s.startswith(text[-n:]) for s in self._params.stop)), 0
        )

    def _show(self, text: str) -> str:
        piece = text[len(self.said) :]
        self.said += piece
        return piece


class stream_rows:
    """Iterate over ``(row, text)`` of a generation that runs in its own thread.

    Args:
        run: calls ``generate`` with the keyword arguments it is given.
        rows: where the tokens of each row are gathered; a row that ended is not heard any more.
        is_cancelled: whether nobody waits for a row; asked after every step.

    ``output`` holds what ``generate`` returned, once the iteration has ended. Closing the
    iterator early stops the model after its current token.
    """

    output: Any = None

    def __init__(
        self, run: Callable[..., Any], rows: Sequence[Row], is_cancelled: Callable[[int], bool]
    ) -> None:
        self._run = run
        self._rows = rows
        self._is_cancelled = is_cancelled
        self._steps: queue.SimpleQueue[torch.Tensor | None] = queue.SimpleQueue()
        self._closed = threading.Event()
        self._problem: BaseException | None = None

    def __iter__(self) -> Iterator[tuple[int, str]]:
        thread = threading.Thread(target=self._generate, name="kinema-generate", daemon=True)
        thread.start()
        try:
            while (tokens := self._steps.get()) is not None:
                yield from self._hear(tokens)
        finally:
            self._closed.set()
            thread.join()
        if self._problem is not None:
            raise self._problem

    def _hear(self, tokens: torch.Tensor) -> Iterator[tuple[int, str]]:
        """``int64[B]`` of one step, or ``int64[B, K]`` of one that took several tokens.

        A row that takes fewer than the others has -1 in their place.
        """
        for number, (row, new) in enumerate(
            zip(self._rows, tokens.reshape(len(self._rows), -1).tolist(), strict=True)
        ):
            if not row.ended and not self._is_cancelled(number):
                yield number, row.add([token for token in new if token >= 0])

    def _stops(self) -> list[bool]:
        closed = self._closed.is_set()
        return [closed or r.ended or self._is_cancelled(i) for i, r in enumerate(self._rows)]

    def _generate(self) -> None:
        try:
            self.output = self._run(
                streamer=_Steps(self._steps),
                stopping_criteria=StoppingCriteriaList([_Stop(self._stops)]),
            )
        except BaseException as problem:
            self._problem = problem
        finally:
            self._steps.put(None)


class _Steps(BaseStreamer):  # type: ignore[misc]  # transformers is untyped
    """Passes on the tokens of each step; the prompt, which comes first, is left out."""

    def __init__(self, steps: queue.SimpleQueue[torch.Tensor | None]) -> None:
        self._steps = steps
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        if self._prompt_seen:
            self._steps.put(value)
        self._prompt_seen = True

    def end(self) -> None:
        """The thread says when it has ended."""


class _Stop(StoppingCriteria):  # type: ignore[misc]
    reads_tokens = False
    """It hears from elsewhere who has ended."""

    def __init__(self, stops: Callable[[], list[bool]]) -> None:
        self._stops = stops

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        return input_ids.new_tensor(self._stops()).bool()
