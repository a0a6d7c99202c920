"""Features of many videos, against a ledger: stopped at any instant, it goes on where it ended."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinema.config import fingerprint
from kinema.errors import DecodeDeadline, DecoderCrashed, KinemaError, MediaError
from kinema.files import sha256_of, write_lines
from kinema.ledger import Ledger, Unit
from kinema.tasks.features.inputs import Medium
from kinema.tasks.features.options import FeatureOptions
from kinema.types import FrameSampling

if TYPE_CHECKING:
    from kinema.tasks.features.extraction import Extraction
    from kinema.tasks.features.pipeline import Pipeline

INDEX = "features.jsonl"
"""Lists every video of the folder: its files, its frames, or why there are none."""
_MAX_ATTEMPTS = 25
"""A run may be killed this often while it works on one video before the video is given up."""
_TRIES = 2


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    ended: int
    """Videos, in this run and before."""
    of: int
    failed: int
    eta_seconds: float
    source: str
    problem: KinemaError | None = None


@dataclass(kw_only=True)
class FeaturesJob:
    """Everything that decides the features of some videos, and where they go.

    Call :meth:`run`; calling it again after a crash goes on where it ended.
    """

    media: Sequence[Medium]
    output: Path
    """Folder of the features files, laid out as the videos are."""
    options: FeatureOptions = field(default_factory=FeatureOptions)
    sampling: FrameSampling = field(default_factory=FrameSampling)
    devices: Sequence[str] = ("auto",)
    """Where towers run, one on each; videos are shared out among them."""
    batch_size: int = 32
    """Frames that go through a tower together."""
    workers: int = 2
    """Processes that decode."""
    force: bool = False
    """Start over where a run with other settings left features."""
    retry_failed: bool = False
    """Try videos again that failed in an earlier run."""

    def run(self, on_progress: Callable[[Progress], None] = lambda progress: None) -> int:
        """Write the features of every video, and the list of them.

        Returns:
            How many videos failed.

        Raises:
            UsageError: the folder belongs to a job with other settings, or another process has it.
            ModelError: the tower cannot be opened or does not fit the device.
        """
        from kinema.tasks.features.extraction import open_extraction  # noqa: PLC0415  imports torch

        extraction = open_extraction(self.options, self.sampling)
        (self.output / ".kinema").mkdir(parents=True, exist_ok=True)
        with Ledger(
            self.output / ".kinema" / "features.sqlite",
            settings=extraction.fingerprinted(self.options),
            max_attempts=_MAX_ATTEMPTS,
            restart=self.force,
        ) as ledger:
            wanted = self._enter(ledger)
            if ledger.counts().get("todo"):
                with self._pipeline(extraction) as pipeline:
                    self._work(ledger, pipeline, wanted, on_progress)
            return self._write_index(ledger, wanted)

    def records(self) -> list[dict[str, Any]]:
        """What is known about each video, in the order they were given; read after a run."""
        lines = (self.output / INDEX).read_text(encoding="utf-8").splitlines()
        return [json.loads(line) for line in lines]

    def _enter(self, ledger: Ledger) -> dict[str, Medium]:
        """Units of what is asked for now, by id; others wait for another time."""
        known = {
            (unit.payload["name"], unit.payload["stamp"]): unit.payload["sha256"]
            for unit in ledger.units()
        }
        with ThreadPoolExecutor(self.workers, "kinema-hash") as pool:
            payloads = list(pool.map(lambda medium: _payload(medium, known), self.media))
        units = {_unit_id(payload): payload for payload in payloads}
        ledger.add(units.items())
        ledger.reopen("skipped")
        if self.retry_failed:
            ledger.reopen("failed")
            ledger.reopen("quarantined")
        for unit in list(ledger.units()):
            if unit.state == "todo" and unit.id not in units:
                ledger.skip(unit.id, "not asked for in this run")
            elif unit.state == "done" and not self._is_whole(unit):
                ledger.fail(unit.id, "its file is gone", retry=True)
        return dict(zip(units, self.media, strict=True))

    def _is_whole(self, unit: Unit) -> bool:
        return all((self.output / name).is_file() for name in unit.result["features"].values())

    def _pipeline(self, extraction: Extraction) -> Pipeline:
        from kinema.tasks.features.pipeline import Pipeline  # noqa: PLC0415  imports torch

        pipeline = Pipeline(
            extraction,
            self.options,
            output=self.output,
            devices=self.devices,
            batch_size=self.batch_size,
            workers=self.workers,
        )
        return pipeline

    def _work(
        self,
        ledger: Ledger,
        pipeline: Pipeline,
        wanted: Mapping[str, Medium],
        on_progress: Callable[[Progress], None],
    ) -> None:
        meter = _Meter(ledger, wanted)
        while ledger.counts().get("todo"):
            for unit, outcome in pipeline.outcomes(_claimed(ledger, wanted)):
                _settle(ledger, unit, outcome)
                on_progress(meter.tick(ledger, unit, outcome))

    def _write_index(self, ledger: Ledger, wanted: Mapping[str, Medium]) -> int:
        units = [ledger.get(unit_id) for unit_id in wanted]
        records = [_record(unit, wanted[unit.id]) for unit in units if unit is not None]
        write_lines(self.output / INDEX, (json.dumps(r, ensure_ascii=False) for r in records))
        return sum("error" in record for record in records)


def _claimed(ledger: Ledger, wanted: Mapping[str, Medium]) -> Iterator[Unit]:
    """What is to do, with the place where each video is today."""
    while units := ledger.claim():
        path = str(wanted[units[0].id].path)
        yield replace(units[0], payload=units[0].payload | {"path": path})


def _settle(ledger: Ledger, unit: Unit, outcome: dict[str, Any] | KinemaError) -> None:
    """Write down how a video ended; result and state become true together."""
    if isinstance(outcome, dict):
        ledger.finish(unit.id, outcome)
        return
    sentence = " ".join(filter(None, (str(outcome), outcome.hint)))
    if isinstance(outcome, DecoderCrashed) and unit.attempts >= _TRIES:
        ledger.quarantine(unit.id, sentence)
        return
    passing = isinstance(outcome, DecoderCrashed | DecodeDeadline)
    stays = isinstance(outcome, MediaError) and not passing
    ledger.fail(unit.id, sentence, retry=unit.attempts < _TRIES and not stays)


def _payload(medium: Medium, known: Mapping[tuple[str, str], str]) -> dict[str, str]:
    """Where a medium is and what is in it; it is read only when it has changed."""
    name, stamp = medium.name.as_posix(), medium.stamp
    sha256 = known.get((name, stamp)) or _sha256(medium.path)
    return {"name": name, "stamp": stamp, "sha256": sha256}


def _sha256(path: Path) -> str:
    try:
        return sha256_of(path)
    except OSError:
        return ""


def _unit_id(payload: Mapping[str, str]) -> str:
    return fingerprint({"name": payload["name"], "sha256": payload["sha256"]})


def _record(unit: Unit, medium: Medium) -> dict[str, Any]:
    about = {"video": unit.payload["name"], "fields": dict(medium.fields)}
    if unit.state == "done":
        return {**about, "sha256": unit.payload["sha256"], **unit.result}
    return about | {"error": unit.error or "not reached"}


class _Meter:
    """Counts what ended, and from that guesses what is left."""

    def __init__(self, ledger: Ledger, wanted: Mapping[str, Medium]) -> None:
        states = [unit.state for unit in ledger.units() if unit.id in wanted]
        self._of = len(states)
        self._before = sum(state not in ("todo", "running") for state in states)
        self._failed = sum(state in ("failed", "quarantined") for state in states)
        self._here = 0
        self._began = time.perf_counter()

    def tick(self, ledger: Ledger, unit: Unit, outcome: dict[str, Any] | KinemaError) -> Progress:
        """One more video was settled; it ended unless it is to be tried again."""
        ended = (found := ledger.get(unit.id)) is not None and found.state != "todo"
        self._here += ended
        failed = ended and not isinstance(outcome, dict)
        self._failed += failed
        elapsed = time.perf_counter() - self._began
        ended_now = self._before + self._here
        return Progress(
            ended=ended_now,
            of=self._of,
            failed=self._failed,
            eta_seconds=elapsed / max(1, self._here) * (self._of - ended_now),
            source=unit.payload["name"],
            problem=outcome if failed and isinstance(outcome, KinemaError) else None,
        )
