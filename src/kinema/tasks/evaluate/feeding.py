"""Questions on their way to an engine: videos read ahead, requests kept track of."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from kinema.errors import KinemaError
from kinema.evaluation.benchmarks import Benchmark
from kinema.evaluation.presets import Preset, choose_sampling, put_question
from kinema.evaluation.records import Item
from kinema.files import PICTURE_SUFFIXES
from kinema.messages import Completion, Conversation, Request
from kinema.types import Frames, FrameSampling
from kinema.video import load_frames, load_image

_READ_AHEAD = 4


@dataclass(frozen=True)
class Question:
    """One item, ready to be asked."""

    item: Item
    prompt: str
    system: str
    """System prompt of the preset; empty for the model family's own."""
    source: Path | None
    """The video; None for a blind baseline."""
    sampling: FrameSampling
    missing: bool = False
    """There is no file of this video."""

    @staticmethod
    def of(
        item: Item,
        benchmark: Benchmark,
        preset: Preset,
        sampling: FrameSampling,
        root: Path,
        *,
        blind: bool,
    ) -> Question:
        """The item as a preset asks it."""
        base = root if root.is_dir() else root.parent
        return Question(
            item,
            put_question(item, benchmark, preset),
            preset.style(item, benchmark).system,
            None if blind else base / item.video,
            choose_sampling(item, benchmark, preset, sampling),
            missing=not blind and not item.video,
        )


@dataclass(frozen=True)
class Ready:
    """A question whose video is read, or why it could not be."""

    question: Question
    sampling: FrameSampling
    conversation: Conversation = Conversation()
    error: KinemaError | None = None


class Feed:
    """Hands requests to an engine and remembers which questions they came from.

    Args:
        ready: questions in order.
        on_begin: called for each of them, before anything else is done with it.
        make: turns one into a request.
    """

    def __init__(
        self,
        ready: Iterator[Ready],
        on_begin: Callable[[], object],
        make: Callable[[Ready], Request],
    ) -> None:
        self._ready = ready
        self._on_begin = on_begin
        self._make = make
        self._in_flight: dict[str, Ready] = {}
        self._failures: list[tuple[Ready, KinemaError]] = []

    def next_request(self) -> Request | None:
        """The next question that can be asked; those that cannot become failures."""
        for ready in self._ready:
            self._on_begin()
            try:
                if ready.error is not None:
                    raise ready.error
                request = self._make(ready)
            except KinemaError as problem:
                self._failures.append((ready, problem))
                continue
            self._in_flight[request.id] = ready
            return request
        return None

    def requests(self, first: Request) -> Iterator[Request]:
        """``first`` and all that follow."""
        request: Request | None = first
        while request is not None:
            yield request
            request = self.next_request()

    def take(self, completion: Completion) -> Ready:
        """The question that a completion answers."""
        return self._in_flight.pop(completion.request_id)

    def abandon(self, problem: KinemaError) -> None:
        """Every question that the engine was given and did not answer failed."""
        self._failures += [(ready, problem) for ready in self._in_flight.values()]
        self._in_flight.clear()

    def take_failures(self) -> list[tuple[Ready, KinemaError]]:
        """Failures since the last call."""
        taken, self._failures = self._failures, []
        return taken


def read_ahead(
    pool: ThreadPoolExecutor, read: Callable[[Question], Ready], questions: Iterable[Question]
) -> Iterator[Ready]:
    """Read the videos of the next few questions in threads; results stay in order."""
    waiting: deque[Future[Ready]] = deque()
    for question in questions:
        waiting.append(pool.submit(read, question))
        if len(waiting) > _READ_AHEAD:
            yield waiting.popleft().result()
    while waiting:
        yield waiting.popleft().result()


def load_clip(
    path: Path,
    sampling: FrameSampling,
    fps: float | None,
    *,
    load: Callable[..., Frames] = load_frames,
) -> Frames:
    """Frames of a video, or of a folder of pictures taken at ``fps``.

    Args:
        load: who reads videos: this process, or workers of it.
    """
    if path.is_dir():
        return load_frames(_pictures(path, fps or 1.0), sampling=sampling)
    return load(path, sampling=sampling)


def _pictures(folder: Path, fps: float) -> Frames:
    """Every picture of a folder, in the order of the numbers in their names."""
    names = (p for p in folder.iterdir() if p.suffix.lower() in PICTURE_SUFFIXES)
    paths = sorted(names, key=lambda p: (len(p.stem), p.stem))
    count = len(paths)
    return Frames(
        pixels=np.concatenate([load_image(path).pixels for path in paths]),
        seconds=np.arange(count, dtype=np.float64) / fps,
        indices=np.arange(count, dtype=np.int64),
        source=str(folder),
        total_frames=count,
        duration_seconds=count / fps,
        source_fps=fps,
    )
