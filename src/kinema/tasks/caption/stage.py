"""A stage for Python loops: frames go through, and what they show is described meanwhile."""

from __future__ import annotations

import time
import uuid
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kinema import prompt as prompts
from kinema.captioning.quality import flagged
from kinema.captioning.records import Segment, VideoRecord
from kinema.captioning.result import DEMO_BACKENDS, DEMO_MODELS, demo_result
from kinema.engines import EngineSettings
from kinema.engines.job import Answered
from kinema.engines.scheduler import Scheduler
from kinema.errors import KinemaError, UsageError
from kinema.files import write_json
from kinema.jobs.answer_cache import AnswerCache
from kinema.jobs.runner import in_own_loop
from kinema.messages import Ask, Reply, SamplingParams
from kinema.structured import follow_schema
from kinema.tasks.caption.plan import VideoPlan
from kinema.tasks.caption.settings import CaptionOptions, CaptionSettings
from kinema.tasks.caption.story import Described, Made, Storyteller, caption_of
from kinema.tasks.caption.threads import with_threads
from kinema.tasks.models import DEFAULT_MODEL, find_model
from kinema.tasks.site import JobSettings, open_site
from kinema.types import Frames, FrameSampling
from kinema.video import load_frames

Frame = TypeVar("Frame")
"""(seconds, uint8[H, W, 3]), as :class:`~kinema.types.Frames` yields, or uint8[H, W, 3]."""

_WAITING = 2
"""Questions that may wait for the model; a stage that is too fast then waits for it."""


class Captioner:
    """Describes the frames that go through it.

    ``for frame in Captioner(pass_through=True)(frames)`` gets every frame it is given, at once and
    unchanged; when the frames end, ``record`` and ``result`` hold what they show.

    Args:
        model: as in ``kinema caption``, the demo's ids included.
        engine: the backend; the family's first one when None.
        batch_size: frames of one caption; the last may have fewer.
        fps: rate of frames that come without their times.
        pass_through: hand each frame on; else none.
        result_path: where the demo's result.json is written at the end.
        max_threads: requests on their way at once; the engine's own number when None.

    Raises:
        UnknownName: no such model or engine.
    """

    def __init__(  # noqa: PLR0913  one keyword per choice, as on the command line
        self,
        model: str = DEFAULT_MODEL,
        *,
        engine: str | None = None,
        batch_size: int = 4,
        fps: float = 1.0,
        pass_through: bool = False,
        result_path: str | Path | None = None,
        max_threads: int | None = None,
        options: CaptionOptions = CaptionOptions(),
        params: SamplingParams = SamplingParams(),
        settings: EngineSettings = EngineSettings(),
    ) -> None:
        if batch_size < 1 or not fps > 0:
            raise UsageError("batch_size and fps must be above 0.", hint="Try 4 and 1.0.")
        if options.subtitles is not None:
            raise UsageError(
                "Frames that go through a stage have no subtitles.",
                hint="Leave subtitles out, or caption the file itself.",
            )
        self.record: VideoRecord | None = None
        self.result: dict[str, Any] | None = None
        self._batch_size = batch_size
        self._fps = fps
        self._pass_through = pass_through
        self._result_path = None if result_path is None else Path(result_path)
        found = find_model(
            DEMO_MODELS.get(model, model), engine=DEMO_BACKENDS.get(engine or "", engine)
        )
        settings = with_threads(settings, found.engine, max_threads)
        self._say = CaptionSettings(model=found, engine=settings, params=params, options=options)
        self._waiting = max(_WAITING, max_threads or 0)
        self._scheduler: Scheduler = found.scheduler(settings)
        self._stream: _Stream | None = None
        self._began = 0.0

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Take frames, hand them on where that was asked, and describe them.

        Raises:
            KinemaError: the model cannot be loaded, or the summary failed.
        """
        self.drop()
        try:
            for number, frame in enumerate(frames):
                given: Any = frame
                is_plain = isinstance(given, np.ndarray)
                seconds, pixels = (number / self._fps, given) if is_plain else given
                self.add(float(seconds), pixels)
                if self._pass_through:
                    yield frame
            self.finish()
        finally:
            self.drop()

    def add(self, seconds: float, pixels: NDArray[np.uint8]) -> None:
        """One more frame, from callers that push: what is called with ``frames`` pulls.

        Args:
            seconds: its presentation time.
            pixels: uint8[H, W, 3].

        Raises:
            KinemaError: the model cannot be loaded.
        """
        if self._stream is None:
            self._began = time.perf_counter()
            self._stream = _Stream(self._say, self._scheduler, self._batch_size, self._waiting)
        self._stream.add(seconds, pixels)

    def drop(self) -> None:
        """Forget the frames since the last end; questions that have no answer are cancelled."""
        if self._stream is not None:
            self._stream.stop()
        self._stream = None

    def finish(self) -> None:
        """The frames have ended: wait for the captions, sum them up, write the result.

        Raises:
            KinemaError: the model cannot be loaded, or the summary failed.
        """
        stream, began = self._stream, self._began
        stream = stream or _Stream(self._say, self._scheduler, self._batch_size, self._waiting)
        plan = stream.finish()
        self._stream = None
        if not plan.segments:
            self.record = VideoRecord(source=plan.source, status="failed", error="No frame came.")
            return
        described = in_own_loop(lambda: self._summarised(plan, stream.made, began))
        self.record = flagged(described.record)
        self.result = demo_result(self.record, described.timings, batch_size=self._batch_size)
        if self._result_path is not None:
            write_json(self._result_path, self.result)

    def close(self) -> None:
        """Give the engine's memory back."""
        self._scheduler.close()

    async def _summarised(self, plan: VideoPlan, made: list[Made], began: float) -> Described:
        """Summary, title and chapters; every caption is known by now."""
        one = JobSettings(workers=1)
        with (
            AnswerCache(Path(":memory:")) as known,
            open_site(self._say.model, self._say.engine, one, scheduler=self._scheduler) as site,
        ):
            teller = Storyteller(site, self._say, known, room=1)
            return await teller.summarised(plan, made, began=began)


@dataclass(eq=False)
class _Stream:
    """Frames on their way to the engine."""

    say: CaptionSettings
    scheduler: Scheduler
    batch_size: int
    room: int
    """Questions that may wait for the model."""
    made: list[Made] = field(default_factory=list)
    """The caption of each segment, and the seconds that the engine took for it."""
    _content: str = field(default_factory=lambda: uuid.uuid4().hex)
    _buffer: list[tuple[float, NDArray[np.uint8]]] = field(default_factory=list)
    _segments: list[Segment] = field(default_factory=list)
    _waiting: deque[tuple[Segment, Ask, Future[Answered]]] = field(default_factory=deque)

    def add(self, seconds: float, pixels: NDArray[np.uint8]) -> None:
        """One more frame; a full batch goes to the engine."""
        self._buffer.append((seconds, pixels.copy()))  # the next stage may draw into its own
        if len(self._buffer) == self.batch_size:
            self._ask()

    def finish(self) -> VideoPlan:
        """Ask for the last short batch and wait for every answer.

        Raises:
            KinemaError: the engine failed.
        """
        if self._buffer:
            self._ask()
        while self._waiting:
            self._take_answer()
        return self._plan(tuple(self._segments))

    def stop(self) -> None:
        """Cancel what has no answer."""
        for *_, future in self._waiting:
            future.cancel()

    def _ask(self) -> None:
        group, self._buffer = self._buffer, []
        segment = self._segment(group)
        self._segments.append(segment)
        ask = self.say.question(self._plan((segment,)), segment)
        frames = Frames(
            pixels=np.stack([pixels for _, pixels in group]),
            seconds=np.array(segment.frame_seconds, dtype=np.float64),
            indices=np.array(segment.frame_indices, dtype=np.int64),
            source="frames",
        )
        asked: Future[Answered] = Future()
        try:
            decoded = prompts.decode(ask.conversation, self.say.model.family, load=_given(frames))
            asked = self.scheduler.submit(replace(ask, conversation=decoded))
        except KinemaError as problem:
            asked.set_exception(problem)
        self._waiting.append((segment, ask, asked))
        while len(self._waiting) > self.room:
            self._take_answer()

    def _take_answer(self) -> None:
        segment, ask, asked = self._waiting.popleft()
        try:
            reply = asked.result().reply()
            if ask.params.json_schema is not None:
                follow_schema(reply.completion.text, ask.params.json_schema)
            said: Reply | KinemaError = reply
        except KinemaError as problem:
            if problem.blame in ("engine", "run"):
                raise
            said = problem
        self.made.append(caption_of(segment, said, ask))

    def _segment(self, group: list[tuple[float, NDArray[np.uint8]]]) -> Segment:
        seconds = [at for at, _ in group]
        first = self._segments[-1].frame_indices[-1] + 1 if self._segments else 0
        step = (seconds[-1] - seconds[0]) / max(1, len(seconds) - 1)
        return Segment(
            index=len(self._segments),
            start_seconds=seconds[0],
            end_seconds=seconds[-1] + step,
            frame_indices=tuple(range(first, first + len(group))),
            frame_seconds=tuple(seconds),
        )

    def _plan(self, segments: tuple[Segment, ...]) -> VideoPlan:
        return VideoPlan(
            source="frames",
            content=self._content,
            duration_seconds=segments[-1].end_seconds if segments else 0.0,
            segments=segments,
            info={},
        )


def _given(frames: Frames) -> prompts.LoadFrames:
    """Reads the frames that are there already, scaled where that is asked."""

    def load(source: Any, *, sampling: FrameSampling, **choice: Any) -> Frames:
        return load_frames(frames, **choice) if choice else frames

    return load
