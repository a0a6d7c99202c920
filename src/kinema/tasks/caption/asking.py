"""From a call to the engine's request, and from its completion to the answer."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from kinema import prompt as prompts
from kinema.captioning.exports import Load
from kinema.video.similar import distinct
from kinema.captioning.steps import Answer, Call
from kinema.engines import Generates
from kinema.errors import KinemaError, ModelError
from kinema.messages import (
    Completion,
    Conversation,
    Message,
    Part,
    Request,
    SamplingParams,
    TextPart,
    VideoPart,
)
from kinema.structured import follow_schema
from kinema.tasks.models import Model
from kinema.types import Frames, FrameSampling

_AGAIN_TEMPERATURE = 0.7
_SLACK_CHARACTERS = 16


@dataclass(frozen=True)
class Seen:
    """The frames of a call, decoded, and the times of those left out."""

    frames: Frames
    skipped_seconds: tuple[float, ...]


@dataclass
class Asker:
    """Makes requests for one model and one engine.

    Args:
        skip_similar: see :func:`kinema.video.similar.distinct`.
        frame_size: pixels of the shorter side; None keeps the video's own.
    """

    model: Model
    params: SamplingParams
    load: Load
    skip_similar: float | None = None
    frame_size: int | None = None
    _fitting: dict[tuple[int, ...], int] = field(default_factory=dict)
    """Shapes of frames that were seen to fit the context, with the longest text beside them."""

    def look(self, source: str, call: Call) -> Seen:
        """Decode the frames of a call.

        Raises:
            MediaError: they cannot be read.
        """
        assert call.segment is not None
        at = call.segment.frame_seconds
        frames = self.load(source, sampling=FrameSampling(at=at), size=self.frame_size)
        return self.seen(frames)

    def seen(self, frames: Frames) -> Seen:
        """The frames without those that look like the one before."""
        kept = distinct(frames, self.skip_similar)
        if len(kept) == len(frames):
            return Seen(frames, ())
        left_out = sorted({*frames.seconds.tolist()} - {*frames.seconds[kept].tolist()})
        return Seen(frames[kept], tuple(left_out))

    def request(self, call: Call, seen: Seen | None, engine: Generates) -> tuple[Request, str]:
        """The request of a call and a note where frames were taken away to make it fit.

        Raises:
            ModelError: it cannot be made to fit.
        """
        parts: list[Part] = [] if seen is None else [VideoPart(seen.frames)]
        said = Conversation((Message("user", (*parts, TextPart(call.text))),))
        request = self._prepare(prompts.decode(said, self.model.family), call)
        shape = () if seen is None else seen.frames.pixels.shape
        if self._fitting.get(shape, -1) >= len(call.text):
            return request, ""
        fitting, note = prompts.fit(
            request,
            count=engine.count_tokens,
            context_length=engine.context_length,
            reprepare=lambda conversation: self._prepare(conversation, call),
            reduce=True,
        )
        if not note:
            self._fitting[shape] = len(call.text)
        return fitting, note

    def count(self, text: str, engine: Generates) -> int:
        """Tokens of a question of these words alone."""
        call = Call(id="count", kind="summarise", text=text)
        said = Conversation((Message("user", (TextPart(text),)),))
        return engine.count_tokens(self._prepare(said, call))

    def _prepare(self, conversation: Conversation, call: Call) -> Request:
        params = self.params
        if call.kind != "describe":
            params = replace(params, json_schema=None)
        if call.attempt > 1:
            params = replace(
                params, temperature=params.temperature or _AGAIN_TEMPERATURE, seed=call.attempt
            )
        return prompts.prepare(
            conversation,
            family=self.model.family,
            checkpoint=self.model.checkpoint,
            params=params,
            request_id=call.id,
        )


def answer_of(
    completion: Completion, request: Request, *, seen: Seen | None, note: str = ""
) -> Answer:
    """What a completion says, and the frames it stands on."""
    failed = completion.finish_reason == "error"
    error = completion.error if failed else _misfit(completion, request)
    shown = [medium.frames for medium in request.media]
    warnings = [w for frames in shown for w in frames.warnings]
    return Answer(
        text="" if error else completion.text,
        finish_reason=completion.finish_reason,
        usage=vars(completion.usage).copy(),
        frame_indices=tuple(i for f in shown for i in f.indices.tolist()),
        frame_seconds=tuple(round(s, 6) for f in shown for s in f.seconds.tolist()),
        skipped_frame_seconds=tuple(round(s, 6) for s in seen.skipped_seconds) if seen else (),
        warnings=tuple(dict.fromkeys([*warnings, *([note] if note else [])])),
        seconds=round(completion.seconds, 6),
        error=error,
    )


def _misfit(completion: Completion, request: Request) -> str | None:
    """Why an answer is not the JSON that was asked for; None where it is, or any will do."""
    if request.params.json_schema is None:
        return None
    try:
        follow_schema(completion.text, request.params.json_schema)
    except ModelError as problem:
        return " ".join(filter(None, (str(problem), problem.hint)))
    return None


def failed_answer(problem: KinemaError) -> Answer:
    """The answer of a call that could not be asked."""
    said = " ".join(filter(None, (str(problem), problem.hint)))
    return Answer(text="", finish_reason="error", error=said)
