"""What the controls of the page do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import Any

import gradio as gr

from kinema.errors import KinemaError, UsageError
from kinema.messages import Conversation, SamplingParams, VideoPart
from kinema.server.captions import Job, Wanted
from kinema.server.page import views
from kinema.server.page.talk import Look, Talk, Turn, answer
from kinema.server.service import Service
from kinema.tasks.caption.settings import CaptionSettings
from kinema.types import Frames

PURPOSE = "page"
"""Marks uploads that go when their visitor goes."""
_LOOK_SECONDS = 0.4
_SAME = gr.skip()

Shown = tuple[Any, ...]


class Handlers:
    """Handlers over one service; what belongs to one visitor comes in and goes out."""

    def __init__(self, service: Service) -> None:
        self._service = service

    async def open_file(self, signal: str, before: str) -> Shown:
        """Show an uploaded file, the example, or none; the talk begins anew.

        Args:
            signal: what to open and, behind a space, a number.
            before: the file that was open.
        """
        wanted = signal.partition(" ")[0]
        try:
            file_id = await self._service.example() if wanted == "example" else wanted
            return await self._opened(file_id, before)
        except KinemaError as problem:
            return _not_opened(problem)

    async def open_link(self, address: str, before: str) -> Shown:
        """Fetch what a link leads to, and show it."""
        try:
            stored = await self._service.fetch(address.strip(), purpose=PURPOSE)
            return await self._opened(stored.id, before)
        except KinemaError as problem:
            return _not_opened(problem)

    async def ask(self, question: str, talk: Talk, *given: Any) -> AsyncGenerator[Shown, None]:
        """Answer a new question."""
        async for shown in self._answered(talk, question, given):
            yield shown

    async def suggest(
        self, chosen: gr.SelectData, talk: Talk, *given: Any
    ) -> AsyncGenerator[Shown, None]:
        """Answer a question that was offered."""
        async for shown in self._answered(talk, chosen.value["text"], given):
            yield shown

    async def retry(
        self, chosen: gr.RetryData, talk: Talk, *given: Any
    ) -> AsyncGenerator[Shown, None]:
        """Answer a question once more; what was said after it is forgotten."""
        index = _turn_of(chosen.index)
        async for shown in self._answered(talk.before(index), talk.turns[index].question, given):
            yield shown

    async def edit(
        self, chosen: gr.EditData, talk: Talk, *given: Any
    ) -> AsyncGenerator[Shown, None]:
        """Answer a question in other words; what was said after it is forgotten."""
        index = _turn_of(chosen.index)
        async for shown in self._answered(talk.before(index), str(chosen.value), given):
            yield shown

    def stop(self, talk: Talk) -> Shown:
        """Keep what was said until now."""
        return _shown(talk, running=False)

    def forget(self) -> Shown:
        """Begin anew, with the same video."""
        return _shown(Talk(), running=False)

    async def describe(self, file_id: str, model: str) -> AsyncGenerator[Shown, None]:
        """Captions and chapters of the whole video; ending this early ends the job."""
        try:
            if not file_id:
                raise UsageError("There is no video yet.", hint="Open one first.")
            backend, file = self._service.find(model), self._service.files.get(file_id)
            say = CaptionSettings(model=backend.model)
            job = self._service.captions.start(Wanted(backend=backend, file=file, say=say))
        except KinemaError as problem:
            yield views.error_card(problem), "", *_describing(running=False)
            return
        try:
            while not job.has_ended:
                said = f"Watching the whole video … {job.num_answers} passages written"
                said = "Waiting for its turn …" if job.status == "queued" else said
                yield views.progress_card(said), "", *_describing(running=True)
                await asyncio.sleep(_LOOK_SECONDS)
        finally:
            job.cancel()
        yield *_described(job), *_describing(running=False)

    def stop_describing(self) -> Shown:
        """The job was cancelled; nothing is shown of it."""
        return "", "", *_describing(running=False)

    def release(self, file_id: str) -> None:
        """A visitor has gone, or has opened another video."""
        if self._service.files.has(file_id):
            stored = self._service.files.get(file_id)
            if stored.purpose == PURPOSE:
                self._service.files.delete(file_id)

    async def _opened(self, file_id: str, before: str) -> Shown:
        name, frames = "", None
        if file_id:
            name = self._service.files.get(file_id).name
            frames = await self._look_at(file_id)
        if before != file_id:
            self.release(before)
        playing = {"id": file_id, "name": name}
        return file_id, Talk(), [], views.film_strip(frames), "", "", "", "", playing

    async def _look_at(self, file_id: str) -> Frames:
        """The frames that the model would be shown of it."""
        backend = next(iter(self._service.backends.values()))
        with self._service.admission.enter():
            part = VideoPart(self._service.files.get(file_id).path)
            said = Conversation.asked(part)
            return (await self._service.read(said, SamplingParams(), backend=backend)).frames[0]

    async def _answered(
        self, talk: Talk, question: str, given: tuple[Any, ...]
    ) -> AsyncGenerator[Shown, None]:
        file_id, start, end, *picked, num_frames = given
        before = talk
        try:
            if not question.strip():
                raise UsageError("There is no question.", hint="Type one, then press Enter.")
            look = Look(file_id, start.strip(), end.strip()) if file_id else None
            talk = Talk((*talk.turns, Turn(question, look, int(num_frames) or None)))
            yield _shown(talk, running=True)
            async with aclosing(answer(self._service, talk, _fields(picked))) as pieces:
                async for so_far, frames in pieces:
                    is_first, talk = not talk.turns[-1].seen, so_far
                    yield _shown(talk, running=True, frames=frames if is_first else ())
            yield _shown(talk, running=False)
        except KinemaError as problem:
            yield _shown(before, running=False, problem=problem, question=question)


def _fields(picked: list[Any]) -> dict[str, Any]:
    """What the visitor chose, as fields of a request."""
    model, temperature, top_p, max_tokens, seed = picked
    return {
        "model": model,
        "temperature": temperature,
        "top_p": top_p,
        "max_tokens": int(max_tokens),
        "seed": int(seed or 0) or None,
    }


def _turn_of(message_index: Any) -> int:
    """A message's place among turns: each is a question and an answer."""
    return int(message_index if isinstance(message_index, int) else message_index[0]) // 2


def _describing(*, running: bool) -> Shown:
    """Values of the buttons that start and end it."""
    return gr.Button(interactive=not running), gr.Button(visible=running)


def _described(job: Job) -> Shown:
    """Values of outline and files."""
    if job.record is None:
        problem = job.problem or KinemaError("It was cancelled.")
        return views.error_card(problem), ""
    address = f"v1/videos/captions/{job.id}/content?format="
    stem = Path(job.wanted.file.name).stem
    names = (("SRT", "srt"), ("WebVTT", "vtt"), ("JSON", "json"))
    files = views.links((label, f"{stem}.{name}", address + name) for label, name in names)
    return views.outline(job.record), files


def _not_opened(problem: KinemaError) -> Shown:
    card = views.error_card(problem)
    return _SAME, _SAME, _SAME, _SAME, _SAME, _SAME, card, _SAME, _SAME


def _shown(
    talk: Talk,
    *,
    running: bool,
    frames: Sequence[Frames] = (),
    problem: KinemaError | None = None,
    question: str = "",
) -> Shown:
    """Values of talk, chat, strip, question, note and transcript."""
    strip = views.film_strip(frames[-1]) if frames else _SAME
    box = gr.Textbox(value=question, submit_btn=not running and "Ask", stop_btn=running and "Stop")
    note = views.error_card(problem) if problem else ""
    transcript = ""
    if talk.turns and not running:
        address = views.text_address(talk.transcript(), "text/markdown")
        transcript = views.links([("Transcript", "transcript.md", address)])
    return talk, _messages(talk), strip, box, note, transcript


def _messages(talk: Talk) -> list[dict[str, str]]:
    messages = []
    for turn in talk.turns:
        messages.append({"role": "user", "content": turn.question})
        said = turn.answer or "…"
        seen = f"\n\n*{turn.seen}*" if turn.seen else ""
        messages.append({"role": "assistant", "content": said + seen})
    return messages
