"""How one video is described: looked at, asked about segment by segment, summarised, titled."""

from __future__ import annotations

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from kinema.captioning.quality import badness, flagged
from kinema.captioning.records import Caption, Segment, VideoRecord, Word
from kinema.captioning.result import Timings
from kinema.captioning.summary import Budget, Kind, Outline, Summariser
from kinema.config import fingerprint
from kinema.errors import KinemaError, RequestFailed
from kinema.jobs.answer_cache import AnswerCache
from kinema.jobs.site import Site
from kinema.messages import Reply
from kinema.tasks.caption.plan import VideoPlan, content_of, look_at
from kinema.tasks.caption.settings import CaptionSettings
from kinema.types import DAMAGE

_SERVER_CONTEXT = 8192
"""Tokens that a server is trusted to have where nothing says how many."""
_BYTES_PER_TOKEN = 3
"""To guess tokens where only a server could count them."""

OnCaption = Callable[[Segment, int], None]
"""Told a segment that has its caption, and how many segments the video has."""


@dataclass(frozen=True)
class Described:
    """A record and what was measured on the way."""

    record: VideoRecord
    timings: Timings

    def to_dict(self) -> dict[str, Any]:
        """Both, ready for JSON."""
        return {"record": self.record.to_dict(), "timings": vars(self.timings).copy()}

    @staticmethod
    def from_dict(values: dict[str, Any]) -> Described:
        """The value that :meth:`to_dict` wrote."""
        measured = values["timings"]
        timings = Timings(
            caption_seconds=tuple(measured["caption_seconds"]),
            turnaround_seconds=measured["turnaround_seconds"],
        )
        return Described(VideoRecord.from_dict(values["record"]), timings)


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
    ) -> Described:
        """The record of one video.

        Args:
            source: path, or ``archive.tar::member``.
            again: segments to ask about twice; the answer with fewer flags is kept.
            told: hears of each caption.

        Raises:
            MediaError: the video cannot be used.
            RequestFailed: not one segment got an answer, or the summary failed.
        """
        began = time.perf_counter()
        plan = await self.plan(source)
        return await self.tell(plan, began=began, again=again, told=told)

    async def tell(
        self,
        plan: VideoPlan,
        *,
        began: float,
        again: frozenset[int] = frozenset(),
        told: OnCaption = lambda segment, of: None,
    ) -> Described:
        """The record of a video that was looked at; see :meth:`describe`."""
        budget = await self.budget()
        made = await _together(
            self._caption(plan, segment, again=segment.index in again, told=told)
            for segment in plan.segments
        )
        captions = [caption for caption, _ in made]
        _require_some(captions)
        summariser = Summariser(
            self._say.prompts, self._ask_words, budget, self._say.options.chapter_seconds
        )
        outline = await summariser.outline(captions)
        timings = Timings(
            caption_seconds=tuple(seconds for _, seconds in made),
            turnaround_seconds=round(time.perf_counter() - began, 6),
        )
        return Described(self._record(plan, captions, outline), timings)

    async def plan(self, source: str) -> VideoPlan:
        """What is in a video and where it is cut; looked at once for the same bytes."""
        content = await self._site.look(partial(content_of, source))
        key = f"plan-{content}-{self._say.plan_fingerprint}"
        if (known := self._known.get(key)) is not None:
            return VideoPlan.from_dict(source, known)
        looking = partial(
            look_at,
            source,
            content,
            self._say.segments,
            self._say.sampling,
            self._say.options.transcribe,
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
    ) -> tuple[Caption, float]:
        """The caption of a segment, and the seconds that the engine took for it."""
        async with self._room:
            caption, seconds = await self._attempt(plan, segment, 1)
            if again:
                second, _ = await self._attempt(plan, segment, 2)
                caption = _better(caption, second)
        told(segment, len(plan.segments))
        return caption, seconds

    async def _attempt(
        self, plan: VideoPlan, segment: Segment, attempt: int
    ) -> tuple[Caption, float]:
        speech = speech_in(plan.words, segment)
        ask = self._say.question(plan, segment, attempt=attempt, speech=speech or "")
        about: dict[str, Any] = {
            "index": segment.index,
            "start_seconds": segment.start_seconds,
            "end_seconds": segment.end_seconds,
            "attempt": attempt,
            "speech": speech,
        }
        try:
            reply = await self._site.answer(ask)
        except KinemaError as problem:
            if problem.blame in ("engine", "run"):
                raise
            return _without_text(about, problem), 0.0
        return self._from_reply(about, reply), round(reply.completion.seconds, 6)

    def _from_reply(self, about: dict[str, Any], reply: Reply) -> Caption:
        shown, text = reply.shown, reply.completion.text
        warnings = [w for one in shown for w in one.warnings]
        damage: dict[str, Any] = {name: sum(one.damage[name] for one in shown) for name in DAMAGE}
        return Caption(
            **about,
            text=text,
            frame_indices=tuple(i for one in shown for i in one.indices),
            frame_seconds=tuple(s for one in shown for s in one.seconds),
            skipped_frame_seconds=tuple(s for one in shown for s in one.left_out_seconds),
            finish_reason=reply.completion.finish_reason,
            usage=vars(reply.completion.usage).copy(),
            fields=json.loads(text) if self._say.params.json_schema is not None else None,
            warnings=tuple(dict.fromkeys([*warnings, *([reply.note] if reply.note else [])])),
            **damage,
        )

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
            info=plan.info,
            fingerprint=self._say.record_fingerprint,
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


def _without_text(about: dict[str, Any], problem: KinemaError) -> Caption:
    return Caption(
        **about,
        text="",
        frame_indices=(),
        frame_seconds=(),
        finish_reason="error",
        error=problem.sentence,
    )


def _require_some(captions: Sequence[Caption]) -> None:
    if captions and all(caption.error is not None for caption in captions):
        raise RequestFailed(f"No segment could be described: {captions[0].error}")


def _better(first: Caption, second: Caption) -> Caption:
    """The second where its flags weigh less, else the first."""
    if second.error is not None:
        return first

    def weight(caption: Caption) -> int:
        alone = VideoRecord(source="", status="ok", captions=(caption,))
        return badness(flagged(alone).captions[0])

    return second if weight(second) < weight(first) else first
