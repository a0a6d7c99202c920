"""From captions to chapters, a summary and titles, at any length of video.

Captions are numbered notes. As many as fit the model's context are summarised in one call; where
they do not fit, summaries of groups are summarised again. Every sentence keeps the captions that
it stands on.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from kinema.captioning.chapters import group
from kinema.captioning.prompts import Prompts
from kinema.captioning.quality import unusable
from kinema.captioning.records import Caption, Chapter, Sentence
from kinema.captioning.text import Overlap, cited_sentences, short_clock, split_sentences, words
from kinema.captioning.titles import ENDS, title_of
from kinema.errors import KinemaError, RequestFailed, UsageError
from kinema.messages import Completion

SummaryBy = Literal["auto", "model", "extract"]
Kind = Literal["summarise", "entitle"]

_MOST_SOURCES = 5
_NEAR_BEST = 0.6
_EXTRACTED = 5
_LINE_TOKENS = 24
"""Number, times and line end of one note, at most."""


Count = Callable[[str], Awaitable[int]]
"""Tokens of a text."""


@dataclass(frozen=True)
class Budget:
    """Tokens that notes may take in one call.

    Args:
        room: for all notes of a call; None where the model has no limit.
        count: tokens of a text.
    """

    room: int | None
    count: Count

    @classmethod
    async def of(
        cls, context: int | None, count: Count, prompts: Prompts, *, max_new_tokens: int
    ) -> Budget:
        """What is left of the context beside the question and its answer.

        Raises:
            UsageError: two notes of full length would not fit, so a long video could not be
                summarised; said before any caption is made.
        """
        if context is None:
            return cls(None, count)
        question = await count(prompts.summarise("", what="the whole"))
        title = await count(prompts.entitle("", what="the whole"))
        room = context - max_new_tokens - max(question, title)
        least = 2 * (max_new_tokens + _LINE_TOKENS)
        if room < least:
            fitting = max(1, (context - max(question, title) - 2 * _LINE_TOKENS) // 3)
            raise UsageError(
                f"Two captions of {max_new_tokens} tokens and their summary do not fit the "
                f"model's {context} tokens.",
                hint=f"Use --max-new-tokens {fitting} or less, or --summary-by extract.",
            )
        return cls(room, count)

    async def pack(self, notes: Sequence[Note]) -> list[list[Note]]:
        """Neighbouring notes in as few calls as fit, at least two to a call."""
        if self.room is None:
            return [list(notes)]
        counts = await asyncio.gather(*(self.count(note.text) for note in notes))
        groups: list[list[Note]] = []
        taken = 0
        for note, count in zip(notes, counts, strict=True):
            cost = count + _LINE_TOKENS
            if not groups or (taken + cost > self.room and len(groups[-1]) > 1):
                groups.append([])
                taken = 0
            groups[-1].append(note)
            taken += cost
        return groups


@dataclass(frozen=True)
class Note:
    """A caption, or the summary of some, on its way into a summary."""

    text: str
    start_seconds: float
    end_seconds: float
    captions: tuple[int, ...]


@dataclass(frozen=True)
class Outline:
    """Title, summary and chapters of a video."""

    title: str
    summary: tuple[Sentence, ...]
    chapters: tuple[Chapter, ...]


@dataclass(frozen=True)
class Summariser:
    """Makes outlines of captions.

    Args:
        ask: puts a question of words alone to the model.
        budget: room for notes; None where the model is not asked, and the most telling sentences
            of the captions are taken.
        chapter_seconds: about how long a chapter is.
    """

    prompts: Prompts
    ask: Callable[[Kind, str], Awaitable[Completion]]
    budget: Budget | None = None
    chapter_seconds: float = 120.0
    flaws: Callable[[str, str], frozenset[str]] = unusable
    """Why a text with its finish reason cannot be used; see :mod:`kinema.captioning.quality`. Such
    captions are left out, and such a summary or title is made without the model."""

    async def outline(self, captions: Sequence[Caption]) -> Outline:
        """Chapters first, all at one time; then the video from its chapters.

        Raises:
            RequestFailed: the model has no answer to a question.
        """
        spoken = [c for c in captions if not self.flaws(c.text, c.finish_reason)]
        if not spoken:
            return Outline("", (), ())
        groups = group(spoken, chapter_seconds=self.chapter_seconds)
        overlap = Overlap({caption.index: caption.text for caption in spoken})
        what = "the whole" if len(groups) == 1 else "one chapter"
        chapters = await asyncio.gather(
            *(self._chapter(i, part, what, overlap) for i, part in enumerate(groups))
        )
        if len(groups) == 1:
            return Outline(chapters[0].title, chapters[0].summary, tuple(chapters))
        notes = [_note([c], c.summary) for c in chapters]
        summary = await self._fold(notes, "the whole", overlap)
        return Outline(await self._title(summary, "the whole"), summary, tuple(chapters))

    async def _chapter(
        self, index: int, captions: Sequence[Caption], what: str, overlap: Overlap
    ) -> Chapter:
        notes = [Note(c.text, c.start_seconds, c.end_seconds, (c.index,)) for c in captions]
        summary = await self._fold(notes, what, overlap)
        return Chapter(
            index=index,
            start_seconds=notes[0].start_seconds,
            end_seconds=notes[-1].end_seconds,
            title=await self._title(summary, what),
            summary=summary,
            captions=tuple(c.index for c in captions),
        )

    async def _fold(
        self, notes: Sequence[Note], what: str, overlap: Overlap
    ) -> tuple[Sentence, ...]:
        """Summaries of summaries, until one call holds all that is left."""
        if self.budget is None:
            return extract(notes, overlap)
        while True:
            groups = await self.budget.pack(notes)
            said = await asyncio.gather(
                *(self._said("summarise", self._question(part, what)) for part in groups)
            )
            found = [
                self._attributed(one, part, overlap) for one, part in zip(said, groups, strict=True)
            ]
            if len(found) == 1:
                return found[0]
            notes = [_note(part, one) for part, one in zip(groups, found, strict=True)]

    def _attributed(
        self, said: Completion, notes: Sequence[Note], overlap: Overlap
    ) -> tuple[Sentence, ...]:
        """The sentences of a summary; where the model wrote none, the most telling of the notes."""
        flaws = self.flaws(said.text, said.finish_reason)
        found = () if flaws - {"truncated"} else attributed(said.text, notes, overlap)
        if "truncated" in flaws and len(found) > 1 and not found[-1].text.endswith(ENDS):
            found = found[:-1]
        return found or extract(notes, overlap)

    async def _title(self, summary: Sequence[Sentence], what: str) -> str:
        sentences = [sentence.text for sentence in summary]
        if self.budget is None:
            return title_of(sentences)
        said = await self._said("entitle", self.prompts.entitle(" ".join(sentences), what=what))
        first, *more = said.text.strip().splitlines() or [""]
        finish_reason = "stop" if more and said.finish_reason == "length" else said.finish_reason
        title = first.strip().strip('"“”*# ')
        return title_of(sentences) if self.flaws(title, finish_reason) else title

    async def _said(self, kind: Kind, text: str) -> Completion:
        try:
            return await self.ask(kind, text)
        except KinemaError as problem:
            if problem.blame != "request":
                raise
            raise RequestFailed(f"The summary failed: {problem}", hint=problem.hint) from problem

    def _question(self, notes: Sequence[Note], what: str) -> str:
        lines = (
            f"[{number}] {short_clock(n.start_seconds)}–{short_clock(n.end_seconds)} {n.text}"
            for number, n in enumerate(notes, start=1)
        )
        return self.prompts.summarise("\n".join(lines), what=what)


def attributed(text: str, notes: Sequence[Note], overlap: Overlap) -> tuple[Sentence, ...]:
    """Sentences of a summary with the captions they stand on.

    Cited notes are believed, and where a note stands for several captions, or none is cited, those
    that share the most telling words are taken.
    """
    found = []
    for sentence, numbers in cited_sentences(text):
        cited = [notes[n - 1] for n in numbers if 1 <= n <= len(notes)]
        candidates = sorted({i for note in cited or notes for i in note.captions})
        exact = bool(cited) and all(len(note.captions) == 1 for note in cited)
        sources = candidates if exact else _nearest(sentence, candidates, overlap)
        support = overlap.share(sentence, [overlap.texts[i] for i in sources])
        found.append(Sentence(text=sentence, sources=tuple(sources), support=round(support, 4)))
    return tuple(found)


def _nearest(sentence: str, candidates: Sequence[int], overlap: Overlap) -> list[int]:
    """Captions that share about as much as the best one; all where none shares anything."""
    shares = {i: overlap.share(sentence, [overlap.texts[i]]) for i in candidates}
    best = max(shares.values(), default=0.0)
    if best == 0:
        return list(candidates)
    near = [i for i in candidates if shares[i] >= _NEAR_BEST * best]
    return sorted(sorted(near, key=lambda i: -shares[i])[:_MOST_SOURCES])


def extract(notes: Sequence[Note], overlap: Overlap) -> tuple[Sentence, ...]:
    """Sentences of captions that say the most, in their order, with all captions that hold them."""
    sources: dict[str, list[int]] = {}
    for note in notes:
        for sentence in split_sentences(note.text):
            if words(sentence):
                held = [i for i in note.captions if sentence in overlap.texts[i]]
                sources.setdefault(sentence, []).extend(held)
    said = list(sources)
    weights = {s: overlap.share(" ".join(said), [s]) for s in said}
    kept = sorted(said, key=lambda s: -weights[s])[:_EXTRACTED]
    return tuple(
        Sentence(text=s, sources=tuple(dict.fromkeys(sources[s])), support=1.0)
        for s in said
        if s in kept
    )


def _note(parts: Sequence[Note | Chapter], summary: Sequence[Sentence]) -> Note:
    """The summary of neighbours as one note."""
    captions = tuple(i for part in parts for i in part.captions)
    text = " ".join(sentence.text for sentence in summary)
    return Note(text, parts[0].start_seconds, parts[-1].end_seconds, captions)
