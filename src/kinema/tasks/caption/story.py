"""How one video is described: looked at, asked about segment by segment, summarised, titled."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

from kinema.captioning.quality import badness, flagged, language_check, unusable
from kinema.captioning.records import Caption, Segment, VideoRecord, Word
from kinema.captioning.result import Timings
from kinema.captioning.summary import Budget, Kind, Outline, Summariser
from kinema.config import fingerprint
from kinema.errors import KinemaError
from kinema.jobs.answer_cache import AnswerCache
from kinema.jobs.site import Site
from kinema.messages import Ask, Reply
from kinema.plain import Plain
from kinema.tasks.caption.plan import VideoPlan, content_of, look_at
from kinema.tasks.caption.settings import CaptionSettings
from kinema.video.cues import Cue, as_lines, cues_between, stamp_of_subtitles

_SERVER_CONTEXT = 8192
"""Tokens that a server is trusted to have where nothing says how many."""
_BYTES_PER_TOKEN = 3
"""To guess tokens where only a server could count them."""

Made = tuple[Caption, float, KinemaError | None]
"""A caption, the seconds that the engine took for it, and why it has no text, where it has none."""
OnCaption = Callable[[Segment, int], None]
"""Told a segment that has its caption, and how many segments the video has."""


@dataclass(frozen=True)
class Described(Plain):
    """A record and what was measured on the way."""

    record: VideoRecord
    timings: Timings


class Storyteller:
    """Describes videos at a site.

    Args:
        site: where videos are looked at and questions answered.
        say: everything that decides the records.
        known: plans and token counts that were found before.
        room: questions about segments that are under way at one time, of all videos together.
    """

    def __init__(self, site: Site, say: CaptionSettings, known: AnswerCache, *, room: int) -> None:
        self._site = site
        self._say = say
        self._known = known
        self._room = asyncio.Semaphore(room)
        self._budget: asyncio.Task[Budget | None] | None = None

    async def describe(
        self,
        source: str,
        *,
        again: frozenset[int] = frozenset(),
        told: OnCaption = lambda segment, of: None,
        may_try_again: bool = False,
    ) -> Described:
        """The record of one video.

        Args:
            source: path, or ``archive.tar::member``.
            again: segments to ask about twice; the answer with fewer flags is kept.
            told: hears of each caption.
            may_try_again: raise an error of a segment that may pass, instead of leaving a hole.

        Raises:
            MediaError: the video cannot be used.
            KinemaError: not one segment got an answer, or the summary failed.
        """
        began = time.perf_counter()
        plan = await self.plan(source)
        await self.budget()  # a context that is too short is told before the first caption
        made = await _together(
            self._caption(plan, segment, again=segment.index in again, told=told)
            for segment in plan.segments
        )
        return await self.summarised(plan, made, began=began, may_try_again=may_try_again)

    async def summarised(
        self,
        plan: VideoPlan,
        made: Sequence[Made],
        *,
        began: float,
        may_try_again: bool = False,
    ) -> Described:
        """The record of a video whose captions are known; see :meth:`describe`."""
        problems = [problem for _, _, problem in made if problem is not None]
        for problem in problems:
            # A hole is for what stays as it is, and a video without any caption has failed.
            if len(problems) == len(made) or (may_try_again and problem.may_pass):
                raise problem
        captions = [caption for caption, _, _ in made]
        say = self._say
        budget, chapter_seconds = await self.budget(), say.options.chapter_seconds
        wanted, language = language_check(say.options.language)
        flaws = partial(unusable, wanted=wanted, language=language)
        summariser = Summariser(say.prompts, self._ask_words, budget, chapter_seconds, flaws)
        outline = await summariser.outline(captions)
        timings = Timings(
            caption_seconds=tuple(seconds for _, seconds, _ in made),
            turnaround_seconds=round(time.perf_counter() - began, 6),
        )
        return Described(self._record(plan, captions, outline), timings)

    async def plan(self, source: str) -> VideoPlan:
        """What is in a video and where it is cut; looked at once for the same bytes."""
        content = await self._site.look(partial(content_of, source))
        key = f"plan-{content}-{self._say.plan_fingerprint}"
        if beside := stamp_of_subtitles(Path(source), self._say.options.subtitles):
            key = f"{key}-{fingerprint({'subtitles': beside})}"
        if (known := self._known.get(key)) is not None:
            return VideoPlan.from_dict({**known, "source": source})
        looking = partial(
            look_at,
            source,
            content,
            self._say.segments,
            self._say.frames,
            self._say.options.transcribe,
            self._say.options.subtitles,
        )
        made: VideoPlan = await self._site.look(looking)
        self._known.put(key, made.to_dict())
        return made

    async def budget(self) -> Budget | None:
        """Room for notes in a question; None where the model writes no summaries.

        Raises:
            UsageError: the context is too short for a summary of captions of full length; said
                before the first caption is made.
        """
        if self._budget is None:
            self._budget = asyncio.create_task(self._find_budget())
        return await asyncio.shield(self._budget)

    async def _find_budget(self) -> Budget | None:
        say = self._say
        if not say.summarises_by_model:
            return None
        context = await self._kept(f"context-{say.answer_fingerprint}", self._context)
        return await Budget.of(
            context or None, self._count, say.prompts, max_new_tokens=say.params.max_new_tokens
        )

    async def _caption(
        self, plan: VideoPlan, segment: Segment, *, again: bool, told: OnCaption
    ) -> Made:
        async with self._room:
            made = await self._attempt(plan, segment, 1)
            if again:
                made = _better(made, await self._attempt(plan, segment, 2))
        told(segment, len(plan.segments))
        return made

    async def _attempt(self, plan: VideoPlan, segment: Segment, attempt: int) -> Made:
        speech = speech_in(plan.words, segment)
        subtitles = subtitles_in(plan.subtitles, segment)
        ask = self._say.question(
            plan, segment, attempt=attempt, speech=speech or "", subtitles=subtitles or ""
        )
        try:
            said: Reply | KinemaError = await self._site.answer(ask)
        except KinemaError as problem:
            if problem.blame in ("engine", "run"):
                raise
            said = problem
        return caption_of(segment, said, ask, attempt=attempt, speech=speech, subtitles=subtitles)

    async def _ask_words(self, kind: Kind, text: str) -> Any:
        reply = await self._site.answer(self._say.words(kind, text))
        return reply.completion

    async def _count(self, text: str) -> int:
        key = f"tokens-{self._say.answer_fingerprint}-{fingerprint({'text': text})}"

        async def count() -> int:
            counted = await self._site.count(text)
            return counted or math.ceil(len(text.encode()) / _BYTES_PER_TOKEN)

        return await self._kept(key, count)

    async def _context(self) -> int:
        """Tokens for prompt and answer; 0 without a limit."""
        own = await self._site.context_length()
        limit = self._say.engine.max_context
        if own is None and self._say.model.engine == "openai":
            return limit or _SERVER_CONTEXT
        return min(filter(None, (own, limit)), default=0)

    async def _kept(self, key: str, find: Callable[[], Awaitable[int]]) -> int:
        """A number that is found once, so that a run without new questions loads no engine."""
        known = self._known.get(key)
        if known is None:
            known = await find()
            self._known.put(key, known)
        return int(known)

    def _decided(self, plan: VideoPlan) -> dict[str, Any]:
        """All that decides a record: the settings, and the words of the video's subtitles."""
        if plan.subtitles is None:
            return self._say.record
        return self._say.record | {"subtitles": [cue.to_dict() for cue in plan.subtitles]}

    def _record(
        self, plan: VideoPlan, captions: Sequence[Caption], outline: Outline
    ) -> VideoRecord:
        broken = sum(caption.error is not None for caption in captions)
        said = f"{broken} of {len(captions)} segments have no caption." if broken else None
        record = VideoRecord(
            source=plan.source,
            status="partial" if broken else "ok",
            content=plan.content,
            duration_seconds=plan.duration_seconds,
            title=outline.title,
            summary=outline.summary,
            chapters=outline.chapters,
            captions=tuple(captions),
            words=plan.words,
            subtitles=plan.subtitles,
            info=plan.info,
            fingerprint=fingerprint(self._decided(plan)),
            warnings=plan.warnings,
            error=said,
        )
        harm = record.damage
        if not harm["damaged_packets"] and not harm["damaged_frames"]:
            return record
        note = (
            f"The file is damaged: {harm['damaged_packets']} packets and {harm['damaged_frames']} "
            f"frames in what {len(captions)} segments show."
        )
        return replace(record, warnings=(*plan.warnings, note))


async def _together(work: Any) -> list[Any]:
    """Results in order; when one fails, the others are cancelled before its error is raised."""
    tasks = [asyncio.ensure_future(one) for one in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def speech_in(words: Sequence[Word] | None, segment: Segment) -> str | None:
    """What is said in a segment; a word belongs to the segment that its middle lies in."""
    if words is None:
        return None
    middles = ((w, (w.start_seconds + w.end_seconds) / 2) for w in words)
    inside = (w for w, at in middles if segment.start_seconds <= at < segment.end_seconds)
    return " ".join(word.text.strip() for word in inside)


def subtitles_in(cues: Sequence[Cue] | None, segment: Segment) -> str | None:
    """The subtitles that are shown in a segment, a line a cue with its times."""
    if cues is None:
        return None
    return as_lines(cues_between(cues, segment.start_seconds, segment.end_seconds))


def caption_of(
    segment: Segment,
    said: Reply | KinemaError,
    ask: Ask,
    *,
    attempt: int = 1,
    speech: str | None = None,
    subtitles: str | None = None,
) -> Made:
    """What came of the question about a segment."""
    about: dict[str, Any] = {
        "index": segment.index,
        "start_seconds": segment.start_seconds,
        "end_seconds": segment.end_seconds,
        "attempt": attempt,
        "speech": speech,
        "subtitles": subtitles,
    }
    if isinstance(said, KinemaError):
        return (
            Caption(
                **about,
                text="",
                frame_indices=(),
                frame_seconds=(),
                finish_reason="error",
                error=said.sentence,
            ),
            0.0,
            said,
        )
    shown, completion = said.shown, said.completion
    is_json = ask.params.json_schema is not None and completion.finish_reason != "refusal"
    warnings = [*(w for one in shown for w in one.warnings), *([said.note] if said.note else [])]
    caption = Caption(
        **about,
        text=completion.text,
        frame_indices=tuple(i for one in shown for i in one.indices),
        frame_seconds=tuple(s for one in shown for s in one.seconds),
        skipped_frame_seconds=tuple(s for one in shown for s in one.left_out_seconds),
        finish_reason=completion.finish_reason,
        usage=vars(completion.usage).copy(),
        fields=json.loads(completion.text) if is_json else None,
        warnings=tuple(dict.fromkeys(warnings)),
        damaged_packets=sum(one.damage["damaged_packets"] for one in shown),
        damaged_frames=sum(one.damage["damaged_frames"] for one in shown),
    )
    return caption, round(completion.seconds, 6), None


def _better(first: Made, second: Made) -> Made:
    """The second caption where its flags weigh less, else the first; the first one's seconds."""
    if second[0].error is not None:
        return first

    def weight(caption: Caption) -> int:
        alone = VideoRecord(source="", status="ok", captions=(caption,))
        return badness(flagged(alone).captions[0])

    return (second[0], first[1], None) if weight(second[0]) < weight(first[0]) else first
