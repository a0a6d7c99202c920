"""Features of many videos, against a ledger: stopped at any instant, it goes on where it ended."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinema.captioning.exports import check_folder
from kinema.config import fingerprint
from kinema.datasets.samples import features_name
from kinema.errors import KinemaError
from kinema.families import FAMILIES
from kinema.files import refuse_foreign, sha256_of, unchanged
from kinema.jobs.ledger import Ledger, Outcome, Unit
from kinema.jobs.progress import Meter, OnProgress
from kinema.jobs.runner import unfinished, work_off
from kinema.jobs.site import Local, Site
from kinema.jobs.towers import Towers
from kinema.messages import VideoPart
from kinema.tasks.features.inputs import Medium
from kinema.tasks.features.options import FeatureOptions
from kinema.tasks.site import JobSettings, check_runner, ray_site
from kinema.textfiles import read_json_lines, write_json_lines
from kinema.types import FrameSampling
from kinema.video import Workers

if TYPE_CHECKING:
    from kinema.tasks.features.extraction import Extraction

_DEADLINE_SECONDS = 600.0
INDEX = "features.jsonl"
"""Lists every video of the folder: its files, its frames, or why there are none."""


@dataclass(frozen=True, kw_only=True)
class FeaturesJob(JobSettings):
    """Everything that decides the features of some videos, and where they go.

    Call :meth:`run`; calling it again after a crash goes on where it ended.
    """

    media: Sequence[Medium]
    output: Path
    """Folder of the features files, laid out as the videos are."""
    options: FeatureOptions = FeatureOptions()
    sampling: FrameSampling = FrameSampling()
    devices: Sequence[str] = ("auto",)
    """Where towers run, one on each; videos are shared out among them."""
    batch_size: int = 32
    """Frames that go through a tower together."""
    limit: int | None = None
    """Only so many of the first videos; what others were encoded before stays in the list."""

    def run(self, on_progress: OnProgress = lambda progress: None) -> int:
        """Write the features of every video, and the list of them, also when the run stops early.

        Returns:
            How many videos failed; those without a picture in them are skipped.

        Raises:
            UsageError: the folder belongs to a job with other settings, or another process has it.
            ModelError: the tower cannot be read.
            Unfinished: a tower or the run failed; videos are still to do.
        """
        check_runner(self.runner)
        from kinema.tasks.features.extraction import open_extraction  # noqa: PLC0415  it is torch

        extraction = open_extraction(self.options, self.sampling)
        check_folder(self.output)
        if not (self.output / ".kinema").exists():
            variants = ("", *self.options.variants)
            names = [features_name(Path(m.name), v) for m in self.media for v in variants]
            refuse_foreign((self.output / name for name in (Path(INDEX), *names)), force=self.force)
        (self.output / ".kinema").mkdir(parents=True, exist_ok=True)
        with Ledger(
            self.output / ".kinema" / "features.sqlite",
            settings=extraction.fingerprinted(self.options) | self.decided,
            anew=self.force,
            noun="videos",
        ) as ledger:
            wanted = self._enter(ledger)

            async def one(site: Site, unit: Unit) -> Outcome:
                medium = wanted[unit.id]
                with unchanged(medium.path, medium.stamp):
                    return await self._extract(site, extraction, medium, unit)

            problem = work_off(
                one,
                self._site(extraction),
                Meter(ledger, on_progress),
                # Some videos are decoded while others are encoded.
                window=2 * (self.workers + len(self.devices)),
            )
            failed = self._write_index(ledger, wanted, problem)
            if problem is not None:
                raise unfinished(problem, ledger) from problem
            return failed

    def records(self) -> list[dict[str, Any]]:
        """What is known about each video, in the order they were given; read after a run."""
        return [row.value for row in read_json_lines(self.output / INDEX)]

    def _enter(self, ledger: Ledger) -> dict[str, Medium]:
        """Units of what is asked for now, by id; others wait for another time."""
        known = {
            (unit.payload["name"], unit.payload["stamp"]): unit.payload["sha256"]
            for unit in ledger.units()
        }
        with ThreadPoolExecutor(self.workers, "kinema-hash") as pool:
            asked = self.media[: self.limit]
            payloads = list(pool.map(lambda medium: _payload(medium, known), asked))
        units = {
            fingerprint({"name": one["name"], "sha256": one["sha256"]}): one for one in payloads
        }
        ledger.enter(units.items(), retry_failed=self.retry_failed)
        done = [unit for unit in ledger.units("done") if unit.id in units]
        for unit in done:
            if not self._is_whole(unit):
                ledger.redo(unit.id, "its file is gone")
        return dict(zip(units, asked, strict=True))

    def _is_whole(self, unit: Unit) -> bool:
        return all((self.output / name).is_file() for name in unit.result["features"].values())

    @contextmanager
    def _site(self, extraction: Extraction) -> Iterator[Site]:
        """Where videos are encoded; towers are put on their devices when the first one is there."""
        if self.runner == "ray":
            each = replace(self, media=(), workers=1, runner="local")
            with ray_site(each.open, actors=self.workers, gpus=1) as site:
                yield site
            return
        with ExitStack() as stack:
            yield self.open(stack, extraction)

    def open(self, stack: ExitStack, extraction: Extraction | None = None) -> Local:
        """A site of this process, closed with ``stack``; actors of a cluster open it by name."""
        if extraction is None:
            from kinema.tasks.features.extraction import open_extraction  # noqa: PLC0415  torch

            extraction = open_extraction(self.options, self.sampling)
        towers = Towers(
            lambda device: extraction.encoder_on(device, self.options),
            self.devices,
            batch_size=self.batch_size,
        )
        stack.callback(towers.close)
        workers = stack.enter_context(
            Workers(self.workers, deadline_seconds=_DEADLINE_SECONDS, decoder=self.decoder)
        )
        # The echo's family takes any video as it is.
        site = Local(None, workers, family=FAMILIES["echo"], towers=towers, readers=self.workers)
        return stack.enter_context(closing(site))

    async def _extract(
        self, site: Site, extraction: Extraction, medium: Medium, unit: Unit
    ) -> Outcome:
        """The story of one video: read, encode, write."""
        part = VideoPart(medium.path, extraction.sampling, size=self.options.size)
        encoded = await site.encode(part, ("", *self.options.variants))
        written = {}
        for variant, rows in encoded.rows.items():
            name = features_name(Path(unit.payload["name"]), variant)
            await asyncio.to_thread(
                extraction.save,
                self.output / name,
                rows,
                encoded.shown,
                store=self.options.store,
                source=unit.payload["name"],
                source_sha256=unit.payload["sha256"],
                variant=variant,
            )
            written[variant] = name.as_posix()
        about = encoded.shown.about
        fields = ("num_frames", "total_frames", "duration_seconds", "warnings")
        return Outcome({"features": written} | {name: about[name] for name in fields})

    def _write_index(
        self, ledger: Ledger, wanted: Mapping[str, Medium], stopped: KinemaError | None
    ) -> int:
        units = [ledger.get(unit_id) for unit_id in wanted]
        records = [_record(unit, wanted[unit.id], stopped) for unit in units if unit is not None]
        kept = [_record(unit, medium, None) for unit, medium in self._done_before(ledger)]
        write_json_lines(self.output / INDEX, (*records, *kept))
        return sum("error" in r and r["status"] != "skipped" for r in records)

    def _done_before(self, ledger: Ledger) -> Iterator[tuple[Unit, Medium]]:
        """Units beyond the limit whose features are there."""
        done = {
            (unit.payload["name"], unit.payload["stamp"]): unit for unit in ledger.units("done")
        }
        for medium in self.media[self.limit :] if self.limit is not None else ():
            unit = done.get((medium.name.as_posix(), medium.stamp))
            if unit is not None and self._is_whole(unit):
                yield unit, medium


def _payload(medium: Medium, known: Mapping[tuple[str, str], str]) -> dict[str, str]:
    """Where a medium is and what is in it; it is read only when it has changed."""
    name, stamp = medium.name.as_posix(), medium.stamp
    sha256 = known.get((name, stamp), "")
    with suppress(OSError):  # a file that cannot be read fails by itself, later
        sha256 = sha256 or sha256_of(medium.path)
    return {"name": name, "stamp": stamp, "sha256": sha256}


def _record(unit: Unit, medium: Medium, stopped: KinemaError | None) -> dict[str, Any]:
    about = {"video": unit.payload["name"], "fields": dict(medium.fields)}
    if unit.state == "done":
        return {**about, "sha256": unit.payload["sha256"], **unit.result}
    error = unit.error or "not reached"
    if unit.state == "todo" and stopped is not None:
        error = f"Still to do; the run stopped: {stopped}"
    return {**about, "status": unit.state, "error": error}
