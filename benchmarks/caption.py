"""Captions of several videos: kinema's job against the demo's loop, same model and frames.

The demo's loop describes one video after the other, asks one prompt at a time and writes one token
at a time; between prompts it decodes. ``busy`` is the share of our wall time, after the first
batch, that the engine works. The model is shapes.SMALL unless another one is named. The committed
result is of one of 135 million parameters; ``drafted`` is that loop, its forced words read in one
pass.

    PYTHONPATH=tests python benchmarks/caption.py [--model NAME] [--videos 8] [--requests 8]
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch

from common import machine, median, timed, write_result
from kinema import prompt as prompts
from kinema.captioning.prompts import Prompts
from kinema.captioning.segments import SegmentOptions
from kinema.engines import Engine, EngineSettings, Inbox
from kinema.jobs.inputs import find_inputs
from kinema.messages import (
    Completion,
    Conversation,
    Message,
    Request,
    SamplingParams,
    TextPart,
    VideoPart,
)
from kinema.tasks.caption.job import CaptionJob
from kinema.tasks.caption.settings import CaptionOptions, CaptionSettings
from kinema.tasks.models import Model, find_model
from kinema.types import FrameSampling
from kinema.video import load_frames
from shapes import SMALL, small_shape
from support.driver import generate

EXAMPLE = Path(__file__).parents[1] / "examples" / "four_things.mp4"
BATCH = 4
PARAMS = SamplingParams(max_new_tokens=48)
SAMPLING = FrameSampling(fps=1.0)


class Meter:
    """An engine that stays loaded and is watched at work."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.name = engine.name
        self.context_length = engine.context_length
        self.batch_size = engine.batch_size
        self.count_tokens = engine.count_tokens
        self.pick = engine.pick
        self.release = engine.release
        self.forget()

    def forget(self) -> None:
        self.waiting = 0.0
        self.first: float | None = None
        self.last = 0.0

    def serve(self, inbox: Inbox) -> None:
        self.engine.serve(_Watched(inbox, self))

    def close(self) -> None:
        """It stays for the next run."""

    @property
    def busy(self) -> float:
        total = self.last - (self.first or 0.0)
        return 1 - self.waiting / total if total else 1.0


class _Watched:
    """An inbox; measures how long the engine waits in it, and when answers come."""

    def __init__(self, inbox: Inbox, meter: Meter) -> None:
        self._inbox = inbox
        self._meter = meter
        self.is_cancelled = inbox.is_cancelled
        self.is_streamed = inbox.is_streamed
        self.write = inbox.write
        self.fail = inbox.fail

    def take(self, running: Sequence[Request] = ()) -> list[Request]:
        began = time.perf_counter()
        taken = self._inbox.take(running)
        if self._meter.first is not None and taken:
            self._meter.waiting += time.perf_counter() - began
        return taken

    def complete(self, completion: Completion) -> None:
        self._meter.last = time.perf_counter()
        self._meter.first = self._meter.first or self._meter.last
        self._inbox.complete(completion)


@dataclass(frozen=True)
class Loaded(Model):
    """A model whose engine is loaded once for both sides."""

    meter: Any = None

    @staticmethod
    def of(model: Model, meter: Meter) -> Loaded:
        return Loaded(**{f.name: getattr(model, f.name) for f in fields(Model)}, meter=meter)

    def open(self, settings: EngineSettings) -> Meter:
        return self.meter


def demo_loop(model: Any, videos: list[Path]) -> list[str]:
    """One video after the other, one prompt at a time."""
    said = []
    question = Prompts.chosen(plain=not model.family.writes_freely)
    for video in videos:
        frames = load_frames(video, sampling=SAMPLING)
        for at in range(0, len(frames), BATCH):
            part = frames[slice(at, at + BATCH)]
            end = min(at + BATCH, frames.duration_seconds)
            text = question.describe(start=f"{at:.1f} s", end=f"{end:.1f} s")
            message = Message("user", (VideoPart(part), TextPart(text)))
            request = prompts.prepare(
                prompts.decode(Conversation((message,)), model.family),
                family=model.family,
                checkpoint=model.checkpoint,
                params=PARAMS,
            )
            said += [completion.text for completion in generate(model.meter.engine, [request])]
    return said


def ours(model: Any, videos: list[Path], **runner: Any) -> tuple[float, list[str]]:
    """Seconds of kinema's job on a state of its own, and the captions."""
    with tempfile.TemporaryDirectory() as state:
        job = CaptionJob(
            inputs=find_inputs(videos),
            state=Path(state),
            say=CaptionSettings(
                model=model,
                params=PARAMS,
                segments=SegmentOptions(batch_size=BATCH),
                sampling=SAMPLING,
                options=CaptionOptions(summary_by="extract"),
            ),
            **runner,
        )
        began = time.perf_counter()
        job.run()
        seconds = time.perf_counter() - began
        return seconds, [c.text for one in job.results() for c in one.record.captions]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model")
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--requests", type=int, default=8)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = find_model(given.model or str(small_shape(Path(folder) / "model")))
        meter = Meter(found.open(EngineSettings(batch_size=given.requests, keep_conversations=0)))
        model = Loaded.of(found, meter)
        videos = different(Path(folder), given.videos)
        same = ours(model, videos)[1] == demo_loop(model, videos)
        busy = []

        def run_ours() -> None:
            meter.forget()
            ours(model, videos)
            busy.append(meter.busy)

        work = {"kinema": run_ours, "demo": lambda: demo_loop(model, videos)}
        seconds = {name: median(runs) for name, runs in timed(work, runs=given.runs).items()}
    write_result(
        "caption",
        {
            "machine": machine(),
            "model": given.model or SMALL,
            "videos": given.videos,
            "requests_together": given.requests,
            "torch_threads": torch.get_num_threads(),
            "runs": given.runs,
            "same_captions": same,
            "kinema_seconds": round(seconds["kinema"], 2),
            "demo_loop_seconds": round(seconds["demo"], 2),
            "ratio": round(seconds["demo"] / seconds["kinema"], 2),
            "engine_busy": round(median(busy), 3),
        },
    )


def different(folder: Path, count: int) -> list[Path]:
    """The example clip, its pictures shifted by more pixels each time: no frame comes twice."""
    frames = load_frames(EXAMPLE, sampling=FrameSampling(fps=24.0))
    height, width = frames.pixels.shape[1:3]
    paths = [folder / f"{i:02d}.mp4" for i in range(count)]
    for i, path in enumerate(paths):
        with av.open(str(path), "w") as output:
            stream = output.add_stream("libx264", rate=24)
            stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
            for picture in np.roll(frames.pixels, 2 * i, axis=2):
                output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            output.mux(stream.encode(None))
    return paths


if __name__ == "__main__":
    main()
