"""A stage for Python loops: frames go through, and what they show is described meanwhile."""

from __future__ import annotations

import json
import queue
import threading
import uuid
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from kinema.captioning.quality import flagged
from kinema.captioning.records import Segment, VideoRecord
from kinema.captioning.result import DEMO_BACKENDS, DEMO_MODELS, demo_result
from kinema.captioning.steps import Call
from kinema.engines import EngineSettings
from kinema.errors import KinemaError, UsageError
from kinema.files import write_atomically
from kinema.messages import Request, SamplingParams
from kinema.tasks.caption.asking import Seen, answer_of, failed_answer
from kinema.tasks.caption.feed import Feed, Video
from kinema.tasks.caption.memo import Memo
from kinema.tasks.caption.options import CaptionOptions
from kinema.tasks.caption.plan import VideoPlan
from kinema.tasks.caption.session import Session
from kinema.tasks.models import DEFAULT_MODEL, find_model
from kinema.types import Frames
from kinema.video import load_frames

Frame = TypeVar("Frame")
"""(seconds, uint8[H, W, 3]), as :class:`~kinema.types.Frames` yields, or uint8[H, W, 3]."""

_WAITING = 2
"""Prompts that may wait for the model; a stage that is too fast then waits for it."""


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
        options: CaptionOptions = CaptionOptions(),
        params: SamplingParams = SamplingParams(),
        settings: EngineSettings = EngineSettings(),
    ) -> None:
        if batch_size < 1 or not fps > 0:
            raise UsageError("batch_size and fps must be above 0.", hint="Try 4 and 1.0.")
        self.record: VideoRecord | None = None
        self.result: dict[str, Any] | None = None
        self._batch_size = batch_size
        self._fps = fps
        self._pass_through = pass_through
        self._result_path = None if result_path is None else Path(result_path)
        self._session = Session(
            model=find_model(
                DEMO_MODELS.get(model, model), engine=DEMO_BACKENDS.get(engine or "", engine)
            ),
            engine_settings=settings,
            params=params,
            options=options,
            memo=Memo(Path(":memory:")),
            plan="stage",
            load=load_frames,
        )

    def __call__(self, frames: Iterable[Frame]) -> Iterator[Frame]:
        """Take frames, hand them on where that was asked, and describe them.

        Raises:
            KinemaError: the model cannot be loaded, or the summary failed.
        """
        stream = _Stream(self._session, self._batch_size)
        try:
            for number, frame in enumerate(frames):
                stream.add(*_clocked(frame, number / self._fps))
                if self._pass_through:
                    yield frame
            plan = stream.finish()
        finally:
            stream.stop()
        self._conclude(plan)

    def close(self) -> None:
        """Give the engine's memory back."""
        self._session.close()
        self._session.memo.close()

    def _conclude(self, plan: VideoPlan) -> None:
        """Summary, title and chapters; every caption is known by now."""
        if not plan.segments:
            self.record = VideoRecord(source=plan.source, status="failed", error="No frame came.")
            return
        with ThreadPoolExecutor(1) as pool:
            video = Video(plan.content, plan.source, self._session.describer.steps(plan))
            feed = Feed(
                iter([video]),
                asker=self._session.asker,
                memo=self._session.memo,
                engine=self._session.engine,
                pool=pool,
                ahead=1,
            )
            ((_, outcome),) = self._session.drain(feed)
        if isinstance(outcome, KinemaError):
            raise outcome
        self.record = flagged(outcome.record)
        self.result = demo_result(self.record, outcome.timings, batch_size=self._batch_size)
        if self._result_path is not None:
            text = json.dumps(self.result, ensure_ascii=False, indent=2)
            write_atomically(self._result_path, text + "\n")


class _Stream:
    """Frames on their way to the engine, which runs in a thread of its own."""

    def __init__(self, session: Session, batch_size: int) -> None:
        self._session = session
        self._batch_size = batch_size
        self._content = uuid.uuid4().hex
        self._buffer: list[tuple[float, NDArray[np.uint8]]] = []
        self._segments: list[Segment] = []
        self._asked: dict[str, tuple[Request, Seen]] = {}
        self._problem: KinemaError | None = None
        self._queue: queue.Queue[tuple[Call, Seen] | None] = queue.Queue(_WAITING)
        self._thread: threading.Thread | None = None

    def add(self, seconds: float, pixels: NDArray[np.uint8]) -> None:
        """One more frame; a full batch goes to the engine."""
        self._buffer.append((seconds, pixels.copy()))  # the next stage may draw into its own
        if len(self._buffer) == self._batch_size:
            self._ask()

    def finish(self) -> VideoPlan:
        """Ask for the last short batch and wait for every answer.

        Raises:
            KinemaError: the engine failed.
        """
        if self._buffer:
            self._ask()
        self.stop()
        if self._problem is not None:
            raise self._problem
        return self._plan()

    def stop(self) -> None:
        """End the thread; it answers what it has been given."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
            self._thread = None

    def _ask(self) -> None:
        group, self._buffer = self._buffer, []
        segment = self._segment(group)
        self._segments.append(segment)
        (call,) = self._session.describer.calls(self._plan(segment))
        seen = self._seen(group, segment)
        if self._thread is None:
            self._session.engine()
            self._thread = threading.Thread(target=self._answer, name="kinema-captioner")
            self._thread.start()
        self._queue.put((call, seen))

    def _answer(self) -> None:
        """In the thread, the only one that uses the engine: completions as they come."""
        coming = iter(self._queue.get, None)
        try:
            for completion in self._session.engine().generate(self._requests(coming)):
                request, seen = self._asked.pop(completion.request_id)
                answer = answer_of(completion, request, seen=seen)
                self._session.memo.put(completion.request_id, answer.to_dict())
        except KinemaError as problem:
            self._problem = problem
            for _ in coming:  # whoever puts more must not wait for ever
                pass

    def _requests(self, coming: Iterator[tuple[Call, Seen]]) -> Iterator[Request]:
        for call, seen in coming:
            try:
                request, _ = self._session.asker.request(call, seen, self._session.engine())
            except KinemaError as problem:
                self._session.memo.put(call.id, failed_answer(problem).to_dict())
                continue
            self._asked[call.id] = (request, seen)
            yield request

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

    def _seen(self, group: list[tuple[float, NDArray[np.uint8]]], segment: Segment) -> Seen:
        frames = Frames(
            pixels=np.stack([pixels for _, pixels in group]),
            seconds=np.array(segment.frame_seconds, dtype=np.float64),
            indices=np.array(segment.frame_indices, dtype=np.int64),
            source="frames",
        )
        return self._session.asker.seen(frames)

    def _plan(self, *segments: Segment) -> VideoPlan:
        chosen = segments or tuple(self._segments)
        return VideoPlan(
            source="frames",
            content=self._content,
            duration_seconds=chosen[-1].end_seconds if chosen else 0.0,
            segments=chosen,
            info={},
        )


def _clocked(frame: Any, otherwise: float) -> tuple[float, NDArray[np.uint8]]:
    """A frame's time and picture."""
    if isinstance(frame, np.ndarray):
        return otherwise, frame
    seconds, pixels = frame
    return float(seconds), pixels
