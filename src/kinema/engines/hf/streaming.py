"""The answers of one call of ``generate``, row by row, while it runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from transformers import StoppingCriteria
from transformers.generation.streamers import BaseStreamer

from kinema.engines.hf.detokenizer import Detokenizer, Vocabulary
from kinema.messages import SamplingParams


class Row:
    """One answer of a batch, as far as it has come.

    Args:
        params: where it ends.
        end_ids: tokens that end it.
        vocabulary: to read it while it is generated; None for an answer that nobody reads then.
            With stop strings it is needed.
    """

    def __init__(
        self, params: SamplingParams, end_ids: Sequence[int], vocabulary: Vocabulary | None
    ) -> None:
        self.ids: list[int] = []
        self.ended = False
        self.said = ""
        """What was shown of it: no stop string, nor what may be the beginning of one."""
        self._params = params
        self._end_ids = frozenset(end_ids)
        self._detokenizer = None if vocabulary is None else Detokenizer(vocabulary)
        self._begin = 0
        """Characters of white space at the beginning, which are not shown."""
        self._searched = 0
        self._stop_at: int | None = None

    def add(self, tokens: Sequence[int]) -> str:
        """Take new tokens in; returns the text that can be shown now."""
        for token in tokens:
            if self.ended:
                break
            self.ids.append(token)
            if self._detokenizer is not None:
                self._detokenizer.add(token)
                self._stop_at = self._find_stop(self._detokenizer.text)
            is_last = token in self._end_ids or len(self.ids) >= self._params.max_new_tokens
            self.ended = is_last or self._stop_at is not None
        return "" if self._detokenizer is None else self._show(self._detokenizer.text)

    def rest(self, text: str) -> str:
        """What was not shown of the whole ``text``."""
        return text[len(self.said) :]

    def _find_stop(self, text: str) -> int | None:
        """Where the first stop string begins that the latest token has completed."""
        longest = max(map(len, self._params.stop), default=0)
        start = max(0, self._searched - longest)
        self._searched = len(text)
        places = (text.find(stop, start) for stop in self._params.stop)
        return min((place for place in places if place >= 0), default=None)

    def _show(self, text: str) -> str:
        end = self._stop_at
        if end is None:
            end = len(text) - self._params.num_held_back(text)
        while self._begin < end and not self.said and text[self._begin].isspace():
            self._begin += 1
        shown = self._begin + len(self.said)
        while end > shown and text[end - 1].isspace():
            end -= 1
        piece = text[shown:end]
        self.said += piece
        return piece


class Rows(BaseStreamer, StoppingCriteria):  # type: ignore[misc]  # transformers is untyped
    """Gathers the tokens of each step, in the thread that runs ``generate``, and ends rows.

    It is both the streamer and the stopping criterion of one call.

    Args:
        rows: one a row of the batch.
        is_cancelled: whether nobody waits for a row; it is stopped then.
        on_text: told a row's number and the next piece of its text.
        on_end: told the number of a row that has ended.
    """

    reads_tokens = False
    """As a criterion it needs no ids: it has them as a streamer."""

    def __init__(
        self,
        rows: Sequence[Row],
        *,
        is_cancelled: Callable[[int], bool] = lambda row: False,
        on_text: Callable[[int, str], None] = lambda row, text: None,
        on_end: Callable[[int], None] = lambda row: None,
    ) -> None:
        self._rows = rows
        self._is_cancelled = is_cancelled
        self._on_text = on_text
        self._on_end = on_end
        self._prompt_seen = False

    def put(self, value: torch.Tensor) -> None:
        """Tokens of one step, ``int64[B]``, or ``int64[B, K]`` of one that took several.

        The prompt comes first and is left out. A row that takes fewer than the others has -1 in
        their place.
        """
        if not self._prompt_seen:
            self._prompt_seen = True
            return
        steps = value.reshape(len(self._rows), -1).tolist()
        for number, (row, tokens) in enumerate(zip(self._rows, steps, strict=True)):
            if self._stops(number):
                continue
            if text := row.add([token for token in tokens if token >= 0]):
                self._on_text(number, text)
            if row.ended:
                self._on_end(number)

    def end(self) -> None:
        """Nothing is left: every row has ended or was cancelled."""

    def __call__(self, input_ids: Any, scores: Any, **_: Any) -> Any:
        """``bool[B]``: which rows need no further tokens."""
        return input_ids.new_tensor(list(map(self._stops, range(len(self._rows))))).bool()

    def _stops(self, row: int) -> bool:
        return self._rows[row].ended or self._is_cancelled(row)
