"""How busy an evaluation keeps its engine, and how long scoring takes.

The engine of the first part does no work of its own on the processor: it takes a fixed time a
question, as a GPU does, while the videos of the next ones are decoded. Busy is the share of the run
in which it neither waits for a question nor for its answer to be written.

    uv run python benchmarks/eval.py [next-qa msvd-qa msrvtt-caption breakfast-chat]
"""

from __future__ import annotations

import shutil
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from common import machine, write_result
from kinema.engines import EngineSettings, Inbox
from kinema.engines.scheduler import Scheduler
from kinema.evaluation.benchmarks import BENCHMARKS
from kinema.evaluation.records import Item, Prediction, Record
from kinema.evaluation.scoring import score_records
from kinema.families import FAMILIES, Checkpoint
from kinema.messages import Completion, Request
from kinema.tasks.evaluate import runs
from kinema.tasks.evaluate.runs import EvalSettings, run_benchmark
from kinema.tasks.imports import CheckpointParts
from kinema.types import FrameSampling

EXAMPLE = Path(__file__).parents[1] / "examples" / "four_things.mp4"
QUESTIONS, SECONDS_A_QUESTION, NUM_FRAMES = 100, 0.25, 16
ITEMS, VIDEOS, FRAMES_A_VIDEO = 100_000, 500, 2_000
LISTING = "the a man dog red ball runs walks eats over under hill park slowly two cups"
WORDS = LISTING.split()


class TimedEngine:
    """Takes a fixed time a question and knows how long it was left without work."""

    engine = "timed"
    name = "timed"
    family = FAMILIES["echo"]
    checkpoint = Checkpoint("timed", None, {})
    parts = CheckpointParts()
    context_length = None
    batch_size = 1

    def __init__(self) -> None:
        self.idle_seconds = self.total_seconds = 0.0
        self._began: float | None = None

    def scheduler(self, settings: EngineSettings, **options: Any) -> Scheduler:
        return Scheduler(lambda: self, family=self.family, checkpoint=self.checkpoint, **options)

    def count_tokens(self, request: Request) -> int:
        return 100

    def pick(self, waiting: Sequence[Request], running: Sequence[Request]) -> list[Request]:
        return list(waiting[:1])

    def serve(self, inbox: Inbox) -> None:
        """Answers until nothing waits; the time between two calls is idle as well."""
        while taken := inbox.take():
            self._worked_until_now(idle=True)
            for request in taken:
                time.sleep(SECONDS_A_QUESTION)
                self._worked_until_now(idle=False)
                inbox.complete(Completion(request.id, "A"))

    def _worked_until_now(self, *, idle: bool) -> None:
        now = time.perf_counter()
        spent = 0.0 if self._began is None else now - self._began
        self._began = now
        self.total_seconds += spent
        self.idle_seconds += spent if idle else 0.0

    def release(self) -> None:
        pass

    def close(self) -> None:
        pass


def engine_busy() -> dict[str, Any]:
    engine = TimedEngine()
    runs.find_model = lambda *_, **__: engine  # type: ignore[assignment]
    with tempfile.TemporaryDirectory() as scratch:
        data = Path(scratch) / "data"
        data.mkdir()
        lines = []
        for i in range(QUESTIONS):
            shutil.copy(EXAMPLE, data / f"{i}.mp4")
            lines.append(f'{{"video": "{i}.mp4", "question": "what?", "answer": "A"}}\n')
        (data / "q.jsonl").write_text("".join(lines))
        sampling = FrameSampling(num_frames=NUM_FRAMES)
        settings = EvalSettings(benchmark="jsonl", data=data, sampling=sampling)
        run_benchmark(settings, "timed", output=Path(scratch) / "out")
    return {
        "questions": QUESTIONS,
        "videos": QUESTIONS,
        "frames_a_question": NUM_FRAMES,
        "engine_seconds_a_question": SECONDS_A_QUESTION,
        "busy_percent": round(100 * (1 - engine.idle_seconds / engine.total_seconds), 1),
    }


def sentence(noise: np.random.Generator, length: int) -> str:
    return " ".join(noise.choice(WORDS, length))


def choice_records(noise: np.random.Generator) -> list[Record]:
    options = ("walking the dog", "cooking dinner", "playing the guitar", "reading a book")
    replies = ("B", "The answer is (C).", "A man is reading a book.", "b) cooking", "no idea")
    return [
        Record(
            Item(
                id=str(i),
                task="choice",
                question="what?",
                video_id=str(i // 10),
                options=options,
                answer=i % 4,
            ),
            Prediction(reply=str(noise.choice(replies))),
        )
        for i in range(ITEMS)
    ]


def text_records(noise: np.random.Generator) -> list[Record]:
    return [
        Record(
            Item(
                id=str(i),
                task="text",
                question="what is it?",
                video_id=str(i // 10),
                references=(sentence(noise, 2),),
            ),
            Prediction(reply=sentence(noise, 3)),
        )
        for i in range(ITEMS)
    ]


def caption_records(noise: np.random.Generator) -> list[Record]:
    return [
        Record(
            Item(
                id=str(i),
                task="caption",
                question="Describe.",
                video_id=str(i),
                references=tuple(sentence(noise, 9) for _ in range(3)),
            ),
            Prediction(reply=sentence(noise, 9)),
        )
        for i in range(ITEMS)
    ]


def segment_records(noise: np.random.Generator) -> list[Record]:
    def lines() -> list[str]:
        starts = np.linspace(1, FRAMES_A_VIDEO, 9).astype(int)
        labels = noise.choice(["SIL", "take cup", "pour milk", "stir milk"], 8)
        return [f"{a}-{b} {x}" for a, b, x in zip(starts, starts[1:], labels, strict=False)]

    facts = {
        **{"num_frames": FRAMES_A_VIDEO, "fps": 15.0, "background": "SIL", "idle": ["SIL"]},
        **{"vocabulary": ["SIL", "take_cup", "pour_milk", "stir_milk"], "ends": "exclusive"},
    }
    return [
        Record(
            Item(
                id=str(i),
                task="segments",
                question="List.",
                video_id=str(i),
                references=tuple(lines()),
                facts=facts,
                groups={"activity": "milk"},
            ),
            Prediction(reply="\n".join(lines())),
        )
        for i in range(VIDEOS)
    ]


MAKERS = {
    "next-qa": choice_records,
    "msvd-qa": text_records,
    "msrvtt-caption": caption_records,
    "breakfast-chat": segment_records,
}


def scoring_seconds(names: Iterable[str]) -> dict[str, Any]:
    noise = np.random.default_rng(0)
    made = {name: MAKERS[name] for name in names}
    result = {}
    for name, make in made.items():
        records = make(noise)
        benchmark = BENCHMARKS[name]
        began = time.process_time()
        scores = score_records(records, benchmark)
        seconds = time.process_time() - began
        metrics = sorted(scores.metrics)
        result[name] = {
            "items": len(records),
            "cpu_seconds": round(seconds, 1),
            "metrics": metrics,
        }
        print(name, result[name], flush=True)
    return result


if __name__ == "__main__":
    chosen = sys.argv[1:] or list(MAKERS)
    result = {"scoring": scoring_seconds(chosen), "engine": engine_busy()}
    write_result("eval", result | {"machine": machine()})
