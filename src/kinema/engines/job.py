"""One question on its way through an engine, and what comes of it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from functools import partial

from kinema import prompt as prompts
from kinema.engines.base import Engine
from kinema.families import Checkpoint, Family
from kinema.messages import Ask, Completion, Conversation, Reply, Request
from kinema.reasoning import AnswerStream, opens_reasoning, separate
from kinema.types import Features, Frames, Shown

_ALL_THOUGHT = (
    "The tokens ended before the reasoning did, so there is no answer: raise max_new_tokens."
)


@dataclass(frozen=True, eq=False)
class Answered:
    """What came of one question, the decoded frames included."""

    request: Request
    completion: Completion
    note: str = ""
    """What is not as it was asked for: what was taken away to make it fit."""

    @property
    def shown(self) -> tuple[Shown, ...]:
        """What the model saw, without pixels."""
        media: list[Frames | Features] = [medium.frames for medium in self.request.media]
        return tuple(map(Shown.of, [*media, *self.request.features]))

    def reply(self) -> Reply:
        """The same without pixels."""
        return Reply(
            completion=self.completion,
            shown=self.shown,
            prompt=self.request.prompt.written,
            note=self.note,
        )


@dataclass(eq=False)
class Job:
    """One question on its way through the engine."""

    id: str
    ask: Ask
    on_text: Callable[[str], None] | None
    future: Future[Answered] = field(default_factory=Future)
    request: Request | None = None
    """Rendered; there once the engine's thread has looked at the job."""
    note: str = ""
    has_said: bool = False
    """Pieces of an answer were handed over; it cannot begin anew."""
    tries: int = 0
    """How often the engine broke down while it ran."""
    failed_at: int | None = None
    """How many requests had been answered when the engine last broke down at this job alone."""
    _stream: AnswerStream | None = None

    @property
    def must_run_alone(self) -> bool:
        """The engine died while it ran, so nothing else is put at risk beside it."""
        return self.tries > 0

    def rendered(
        self, family: Family, checkpoint: Checkpoint, conversation: Conversation | None = None
    ) -> Request:
        """The question, or another conversation in its place, as the model reads it."""
        return prompts.prepare(
            conversation or self.ask.conversation,
            family=family,
            checkpoint=checkpoint,
            params=self.ask.params,
            request_id=self.id,
            add_bos=self.ask.add_bos,
        )

    def fitted(self, engine: Engine, family: Family, checkpoint: Checkpoint) -> Request:
        """The rendered request, made shorter where it has to be and may be."""
        assert self.request is not None
        request, self.note = prompts.fit(
            self.request,
            count=engine.count_tokens,
            context_length=engine.context_length,
            reprepare=partial(self.rendered, family, checkpoint),
            reduce=self.ask.fit,
        )
        return request

    def hear(self, text: str) -> str:
        """Take a piece of the reply in; returns what of it the caller is to read."""
        if self.on_text is None:
            return ""
        self.has_said = True
        if self._stream is None:
            self._stream = AnswerStream(**self._reasons)
        return self._stream.add(text)

    def finish(self, completion: Completion) -> tuple[Completion, str]:
        """The completion with its reasoning apart, and what the caller has not read of it yet."""
        said = separate(completion.text, **self._reasons)
        thought = "\n\n".join(filter(None, (completion.reasoning, said.reasoning)))
        rest = said.answer if self._stream is None else self._stream.rest(said.answer)
        is_all_thought = thought and not said.answer and completion.finish_reason == "length"
        notes = (completion.note, _ALL_THOUGHT if is_all_thought else "")
        note = " ".join(filter(None, notes))
        return replace(completion, text=said.answer, reasoning=thought, note=note), rest

    def tell(self, text: str) -> bool:
        """Let the caller read a piece of the answer; False when it raised, which ends the job."""
        if text and self.on_text is not None and not self.future.cancelled():
            try:
                self.on_text(text)
            except Exception as problem:  # the caller's own; the engine and the others go on
                self.fail(problem)
                return False
        return True

    @property
    def _reasons(self) -> dict[str, bool]:
        """What decides where the reasoning of its reply ends."""
        assert self.request is not None
        return {
            "opened": opens_reasoning(self.request.prompt.text),
            "is_json": self.ask.params.json_schema is not None,
        }

    def fail(self, problem: BaseException) -> None:
        """Tell the caller, unless it has left."""
        if self.future.set_running_or_notify_cancel():
            self.future.set_exception(problem)
