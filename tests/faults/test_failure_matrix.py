"""Every error, wherever it can strike, in every verb: the ledger, the output, the exit status.

Six videos are worked on, and the third one is struck. What the engine or the network did never
becomes an answer or a score: the run stops, and the same command ends it with the output of a run
that nothing happened to.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from kinema.cli.app import run
from kinema.engines import Inbox
from kinema.errors import (
    Busy,
    ContextTooLong,
    EngineDied,
    EngineUnreachable,
    KinemaError,
    NoVideoStream,
    OutOfMemory,
    UnknownName,
)
from kinema.jobs.runner import REFUSALS
from kinema.messages import Request
from kinema.tasks.features.extraction import Extraction
from kinema.video import Workers
from support.clips import make_clip
from support.faulty import FaultyEngine, faulty_model
from support.towers import make_clip as make_tower

UNITS = 6
STRUCK = 2
"""Number of the video that is struck; its fewer frames are what towers know it by."""
FRAMES = {True: 7, False: 8}
VERBS = ("caption", "answer", "eval", "features")
PLACES = ("open", "prepare", "batch", "alone", "stream")
"""open: nothing can be loaded. prepare: the video is read, or its prompt counted. batch: the engine
fails with others beside, and answers alone. alone: it fails alone as well. stream: the same in the
midst of an answer, in an engine that takes requests while others run."""


def kinds(base: type[Exception] = KinemaError) -> Iterator[type[Exception]]:
    yield base
    for narrower in base.__subclasses__():
        if narrower.__module__ == "kinema.errors":
            yield from kinds(narrower)


ERRORS = [*kinds(), LookupError]
"""All of kinema's, and one that has no name in it."""


def made(kind: type[Exception]) -> Exception:
    if kind is ContextTooLong:
        return ContextTooLong(needed=900, available=800, largest_num_frames=None)
    if kind is UnknownName:
        return UnknownName("engine", "struck", ["other"])
    return kind("It was struck.")


def blame_of(kind: type[Exception]) -> str:
    return kind.blame if issubclass(kind, KinemaError) else "run"


def impossible(verb: str, place: str, kind: type[Exception]) -> str:
    """Why an error cannot strike there; empty where it can."""
    blame, is_tower = blame_of(kind), verb == "features"
    reasons = {
        "engines and towers get decoded frames and open no file": blame == "input"
        and place in ("batch", "alone", "stream"),
        "a tower runs in this process and calls no server": is_tower
        and kind in (EngineUnreachable, Busy),
        "a tower gives the rows of a whole video at once": is_tower and place == "stream",
        "a tower counts and renders nothing": is_tower and place == "prepare" and blame != "input",
        "videos share no call to a tower, and only memory tells its frames apart": is_tower
        and place == "batch"
        and kind is not OutOfMemory,
    }
    return next((reason for reason, holds in reasons.items() if holds), "")


CASES = [(v, p, k) for v in VERBS for p in PLACES for k in ERRORS if not impossible(v, p, k)]


class Strike:
    """What happens, where, and how often it did."""

    def __init__(self, place: str = "", kind: type[Exception] = KinemaError) -> None:
        self.place, self.kind = place, kind
        self.num_opened = self.num_struck = 0

    def now(self) -> None:
        self.num_struck += 1
        raise made(self.kind)

    def at_open(self) -> None:
        self.num_opened += 1
        if self.place == "open":
            self.now()


def is_struck(request: Request) -> bool:
    return any(len(medium.frames) == FRAMES[True] for medium in request.media)


class StruckEngine(FaultyEngine):
    """The echo in batches of four, or taking requests as they come."""

    def __init__(self, strike: Strike) -> None:
        strike.at_open()
        super().__init__(self._strike_batch)
        self.strike = strike
        if strike.place == "stream":
            self.batch_size = None  # type: ignore[assignment]

    def pick(self, waiting: Sequence[Request], running: Sequence[Request]) -> list[Request]:
        return list(waiting[: 4 - len(running)])

    def count_tokens(self, request: Request) -> int:
        if self.strike.place == "prepare" and is_struck(request):
            self.strike.now()
        return super().count_tokens(request)

    def _strike_batch(self, batch: Sequence[Request]) -> None:
        least = {"batch": 2, "alone": 1}.get(self.strike.place)
        if least and len(batch) >= least and any(map(is_struck, batch)):
            self.strike.now()

    def serve(self, inbox: Inbox) -> None:
        if self.batch_size is not None:
            return super().serve(inbox)
        running: list[Request] = []
        while running := [*running, *inbox.take(running)]:
            first = running.pop(0)
            if is_struck(first):
                inbox.write(first.id, "half an answer")
                self.strike.now()
            self._answer(first, inbox)
        return None


class StruckTower:
    """Rows that tell how bright the frames are."""

    def __init__(self, strike: Strike) -> None:
        strike.at_open()
        self.strike = strike

    def encode(self, pixels: NDArray[np.uint8], variant: str, *, batch_size: int) -> torch.Tensor:
        least = {"batch": 2, "alone": 1}.get(self.strike.place)
        if least and batch_size >= least and len(pixels) == FRAMES[True]:
            self.strike.now()
        return torch.full((len(pixels), 1, 32), float(pixels.mean()))

    def release(self) -> None:
        pass


class World:
    """Six videos, questions about them, and a tower."""

    def __init__(self, folder: Path, workers: Workers) -> None:
        self.videos, self.tower = folder / "videos", make_tower(folder / "tower")
        self.videos.mkdir()
        for i in range(UNITS):
            make_clip(self.videos / f"{i}.mp4", num_frames=FRAMES[i == STRUCK], fps=4)
        rows = [{"video": f"{i}.mp4", "question": "what?", "answer": "it"} for i in range(UNITS)]
        (self.videos / "q.jsonl").write_text("\n".join(map(json.dumps, rows)))
        self.workers, self.read = workers, dict[str, Any]()
        self.whole: dict[str, Any] = {}

    def words(self, verb: str, out: Path) -> list[str]:
        videos, questions = str(self.videos), str(self.videos / "q.jsonl")
        said = {
            "caption": [videos, "--fps", "4", "--segment-by", "seconds"],
            "answer": [questions, "--media-base-path", videos, "--insert-media-token", "left"],
            "eval": ["jsonl", videos],
            "features": [videos, "--tower", str(self.tower)],
        }[verb]
        frames = [] if verb == "caption" else ["--num-frames", str(FRAMES[False])]
        model = [] if verb == "features" else ["-m", "echo"]
        return [verb, *said, *frames, *model, "--workers", "1", "-q", "-o", str(out)]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with Workers(1) as workers:
        yield World(tmp_path_factory.mktemp("world"), workers)


class Lent:
    """Processes that read videos, opened once for all cases, and what they read."""

    def __init__(self, workers: Workers, read: dict[str, Any]) -> None:
        self._workers, self._read = workers, read
        self.strike = Strike()

    def __call__(self, *_: Any, **__: Any) -> Lent:
        return self

    def __enter__(self) -> Lent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def load_frames(self, source: Any, **how: Any) -> Any:
        reads = self.strike.place == "prepare" and blame_of(self.strike.kind) == "input"
        if reads and str(source).endswith(f"{STRUCK}.mp4"):
            self.strike.now()
        return self._once("load_frames", source, **how)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._workers, name)

    def timeline(self, source: Any, **how: Any) -> Any:
        return self._once("timeline", source, **how)

    def probe(self, source: Any, **how: Any) -> Any:
        return self._once("probe", source, **how)

    def _once(self, what: str, source: Any, **how: Any) -> Any:
        key = f"{what} {source} {how}"
        if key not in self._read:
            self._read[key] = getattr(self._workers, what)(source, **how)
        return self._read[key]


class Job:
    """One verb over the six videos, run by its command."""

    def __init__(self, world: World, verb: str, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.verb, self.words, self.out = verb, world.words(verb, folder / "out"), folder / "out"
        self.lent, self.patch = Lent(world.workers, world.read), patch
        for module in ("kinema.tasks.site", "kinema.tasks.features.job"):
            patch.setattr(f"{module}.Workers", self.lent)

    def run(self, strike: Strike) -> int:
        self.lent.strike = strike
        model = faulty_model(lambda: StruckEngine(strike))
        for module in ("cli.caption", "cli.answer", "tasks.evaluate.runs"):
            self.patch.setattr(f"kinema.{module}.find_model", lambda *_, **__: model)
        self.patch.setattr(Extraction, "encoder_on", lambda *_: StruckTower(strike))
        return run(self.words)

    @property
    def ledger(self) -> list[tuple[str, int, str | None]]:
        """State, attempts and code of the error of each video."""
        path = {
            "caption": self.out / ".kinema" / "videos.sqlite",
            "answer": self.out.with_name(".out.ledger"),
            "eval": self.out / "echo" / "ledger.sqlite",
            "features": self.out / ".kinema" / "features.sqlite",
        }[self.verb]
        with closing(sqlite3.connect(path)) as database:
            return database.execute(
                "SELECT state, attempts, code FROM unit ORDER BY position"
            ).fetchall()

    @property
    def written(self) -> dict[str, tuple[Any, str | None]]:
        """What the output says of each video, and the error it names; empty without an output."""
        path = {
            "caption": self.out / "captions.jsonl",
            "answer": self.out,
            "eval": self.out / "echo" / "predictions.jsonl",
            "features": self.out / "features.jsonl",
        }[self.verb]
        lines = path.read_text().splitlines() if path.exists() else []
        return dict(self._said(json.loads(line)) for line in lines)

    def _said(self, record: dict[str, Any]) -> tuple[str, tuple[Any, str | None]]:
        if self.verb == "caption":
            texts = [caption["text"] for caption in record["captions"]]
            return Path(record["source"]).name, (texts or None, record["error"])
        if self.verb == "answer":
            return record["video"], (record["pred_answer"], record["error"])
        if self.verb == "eval":
            said = record["prediction"]
            return record["item"]["video"], (said["reply"], said["error"] or None)
        rows = [(self.out / name).read_bytes() for name in record.get("features", {}).values()]
        return record["video"], (rows or None, record.get("error"))

    @property
    def has_scores(self) -> bool:
        return (self.out / "echo" / "results.json").exists()


@pytest.fixture
def job(request: pytest.FixtureRequest, world: World, tmp_path: Path, monkeypatch: Any) -> Job:
    verb = request.getfixturevalue("verb")
    if verb not in world.whole:
        whole = Job(world, verb, tmp_path / "whole", monkeypatch)
        whole.out.parent.mkdir()
        assert whole.run(Strike()) == 0
        world.whole[verb] = whole.written
    return Job(world, verb, tmp_path, monkeypatch)


def outcome(verb: str, place: str, kind: type[Exception]) -> tuple[str, int, int]:
    """State and attempts of the video that was struck, and the exit status: the failure table.

    "todo" is a run that stopped.
    """
    blame = blame_of(kind)
    if place == "open" or blame == "run":
        return "todo", 0, 4
    if blame == "input":
        is_skipped = kind is NoVideoStream
        # A question about a video without pictures has no answer; a video has only none to give.
        status = 0 if is_skipped and verb in ("caption", "features") else 3
        return kind.settles, 2 if kind.may_pass else 1, status
    if place == "batch":
        return "done", 0, 0
    if kind in (EngineUnreachable, Busy):
        return "todo", 0, 4
    return "failed", 1, 3


@pytest.mark.parametrize(
    ("verb", "place", "kind"), CASES, ids=[f"{v}-{p}-{k.__name__}" for v, p, k in CASES]
)
def test_every_error_everywhere(
    world: World, job: Job, verb: str, place: str, kind: type[Exception], capsys: Any
) -> None:
    state, attempts, status = outcome(verb, place, kind)
    strike = Strike(place, kind)
    ended = job.run(strike)
    assert strike.num_struck > 0
    states = [found for found, _, _ in job.ledger]
    refused = blame_of(kind) == "run" and issubclass(kind, REFUSALS)
    if refused and "done" not in states:
        status = kind.exit_code  # type: ignore[attr-defined]
    assert ended == status, capsys.readouterr().err
    assert (strike.num_opened > 1) == (place != "open" and kind is EngineDied)

    whole, written = world.whole[verb], job.written
    struck = f"{STRUCK}.mp4"
    for name, (said, error) in written.items():
        if name != struck and (state != "todo" or said is not None):
            assert (said, error) == whole[name]
    if state == "done":
        assert written[struck] == whole[struck]
    elif struck in written:
        said, error = written[struck]
        assert said is None
        assert str(made(kind)).rstrip(".") in str(error)
    if state == "todo":
        assert states[STRUCK] == "todo"
        assert set(states) <= {"todo", "done"} if place != "open" else {"todo"}
        assert not job.has_scores
        assert job.run(Strike()) == 0
        assert job.written == whole
    else:
        blamed = "request_failed" if blame_of(kind) == "engine" else getattr(kind, "code", None)
        assert job.ledger[STRUCK] == (state, attempts, None if state == "done" else blamed)
        assert states.count("done") == UNITS - (state != "done")
        assert written.keys() == whole.keys()
        assert job.has_scores == (verb == "eval")
