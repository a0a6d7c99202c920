"""The text of an answer while it is generated, at a cost that does not grow with its length.

``decode`` of all ids is what an answer says. The text of some last ids is not final: they may hold
the first bytes of a character, and tokenizers decide on a space by what stands before it. So a few
ids whose text is final are decoded again in front of those whose text is not, and what they say is
left out.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from kinema.reasoning import REASONING_MARKS

_BYTE = re.compile(r"<0x[0-9A-F]{2}>")
_LONGEST_WINDOW = 16
_TAIL = 8
"""Ids at the end of a long window that stay; a character has at most four bytes."""


class Vocabulary:
    """What has to be known of a tokenizer to decode its ids piece by piece."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        added = tokenizer.added_tokens_decoder
        special = {number: token.content for number, token in added.items() if token.special}
        self._marks = {n: text for n, text in special.items() if text in REASONING_MARKS}
        self._special = special.keys() - self._marks.keys()
        self.decodes_in_pieces = bool(tokenizer.is_fast) and not _is_cleaned(tokenizer)

    def decode(self, ids: list[int]) -> str:
        """The text of ids, special tokens left out but for the marks around reasoning.

        Some tokenizers (Magistral, Gemma 4) have those as special tokens; without them nobody could
        tell the reasoning from the answer.
        """
        if self._marks.keys().isdisjoint(ids):
            text: str = self._tokenizer.decode(ids, skip_special_tokens=True)
            return text
        runs = groupby(ids, key=self._marks.get)
        return "".join(mark or self.decode(list(run)) for mark, run in runs)

    def is_left_out(self, token: int) -> bool:
        """Whether decoding steps over a token, so that its neighbours stand side by side."""
        return token in self._special or self._tokenizer.convert_ids_to_tokens(token) is None

    def is_byte(self, token: int) -> bool:
        """Whether a token is a single byte, as vocabularies of sentencepiece have them."""
        name = self._tokenizer.convert_ids_to_tokens(token)
        return name is not None and _BYTE.fullmatch(name) is not None


@dataclass(eq=False)
class Detokenizer:
    """The text of one answer, as far as it is final."""

    vocabulary: Vocabulary
    text: str = ""
    """A beginning of what decoding all ids gives, now and after any further ids."""

    def __post_init__(self) -> None:
        self._window: list[int] = []
        """Ids whose text is final, but which say how the others are read; then the others."""
        self._num_final = 0
        self._final_text = ""

    def add(self, token: int) -> None:
        """Take one more id in."""
        vocabulary = self.vocabulary
        if vocabulary.is_left_out(token):
            return
        self._window.append(token)
        if vocabulary.is_byte(token):
            # One invalid byte turns all single bytes beside it into replacement characters.
            return
        text = vocabulary.decode(self._window)
        is_whole = not text.endswith("\ufffd")
        if not vocabulary.decodes_in_pieces:
            if is_whole:
                self.text = text.rpartition(" ")[0]  # a space may still be taken away
        elif text.startswith(self._final_text):
            if is_whole:
                self._settle(len(self._window), text)
            elif len(self._window) - self._num_final > _LONGEST_WINDOW:
                self._settle_all_but_tail(text)

    def _settle(self, count: int, text: str) -> None:
        """The text of the first ``count`` ids of the window is final."""
        said = text[len(self._final_text) :]
        if said:
            self.text += said
            self._window = self._window[self._num_final :]
            self._num_final = count - self._num_final
            self._final_text = self.vocabulary.decode(self._window[: self._num_final])

    def _settle_all_but_tail(self, text: str) -> None:
        """For a run of invalid bytes: what stands before a place between two characters is final.

        Characters of UTF-8 begin anew after any byte: where both parts say what the whole says,
        no character goes from one into the other.
        """
        head = self._window[:-_TAIL]
        before = self.vocabulary.decode(head)
        if before + self.vocabulary.decode(self._window[-_TAIL:]) == text:
            self._settle(len(head), before)


def _is_cleaned(tokenizer: Any) -> bool:
    """Whether decoding takes spaces away again, before punctuation."""
    if not tokenizer.clean_up_tokenization_spaces:
        return False
    forced = getattr(
        tokenizer, "clean_up_tokenization_spaces_for_bpe_even_though_it_will_corrupt_output", False
    )
    backend = getattr(tokenizer, "backend_tokenizer", None)
    return forced or type(getattr(backend, "model", None)).__name__ != "BPE"
