"""What a run leaves in its folder: files of each video, files of all, and what went wrong."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kinema.captioning.exports import RUN_EXPORTS, VIDEO_EXPORTS, Load, write_run, write_video
from kinema.captioning.quality import Language, common_sentences, flagged
from kinema.captioning.records import VideoRecord
from kinema.captioning.result import demo_result
from kinema.files import write_json
from kinema.jobs.inputs import VideoInput
from kinema.tasks.caption.job import CaptionJob
from kinema.tasks.caption.story import Described

ALWAYS = ("jsonl", "failed", "triage")
"""Formats that every run with a folder writes."""


def files_of(folder: Path, formats: Sequence[str], names: Iterable[str]) -> Iterator[Path]:
    """Every file that a run may write into its folder.

    Args:
        folder: of the run.
        formats: names of exports beside those that are always written.
        names: of the videos.
    """
    wanted = (*ALWAYS, *formats)
    yield from (folder / RUN_EXPORTS[n].file for n in wanted if n in RUN_EXPORTS)
    suffixes = [VIDEO_EXPORTS[n].file for n in wanted if n in VIDEO_EXPORTS]
    yield from (folder / f"{name}{suffix}" for name in names for suffix in suffixes)


@dataclass(frozen=True)
class Outputs:
    """Writes what a job found.

    Args:
        folder: None writes no exports.
        load: reads the frames that some exports show.
        formats: names of exports beside those that are always written.
        wanted: ISO 639-1 code of the language that was asked for.
        language: tells a text's language.
    """

    job: CaptionJob
    folder: Path | None
    load: Load | None = None
    formats: Sequence[str] = ()
    wanted: str | None = None
    language: Language | None = None

    def write_one(self, one: VideoInput, described: Described) -> None:
        """The files of one video, as soon as it ended."""
        if self.folder is not None:
            record = self._flagged(described)
            write_video(record, self.formats, self.folder, one.name, load=self.load)

    def write_all(self) -> Counter[str]:
        """Everything that is not there yet, or says more now; returns how many of each status."""
        common = common_sentences(described.record for described in self.job.results())
        statuses: Counter[str] = Counter()
        known = zip(self.job.known(), self.job.results(), strict=True)
        for place, (one, described) in enumerate(known):
            record = self._flagged(described, common)
            if place < len(self.job.asked):
                statuses[record.status] += 1
            if self._is_stale(one, record, common):
                assert self.folder is not None
                write_video(record, self.formats, self.folder, one.name, load=self.load)
        if self.folder is not None:
            formats = dict.fromkeys((*ALWAYS, *self.formats))
            write_run(
                lambda: (self._flagged(described, common) for described in self.job.results()),
                formats,
                self.folder,
                tag=self.job.tag,
                load=self.load,
            )
        return statuses

    def write_result(self, path: Path) -> dict[str, Any]:
        """The captioning demo's file, of the only video."""
        described = next(self.job.results())
        record = self._flagged(described)
        result = demo_result(record, described.timings, batch_size=self.job.say.segments.batch_size)
        path.parent.mkdir(parents=True, exist_ok=True)
        write_json(path, result)
        return result

    def _flagged(self, described: Described, common: frozenset[str] = frozenset()) -> VideoRecord:
        return flagged(described.record, common=common, wanted=self.wanted, language=self.language)

    def _is_stale(self, one: VideoInput, record: VideoRecord, common: frozenset[str]) -> bool:
        if self.folder is None or not record.captions:
            return False
        boiled = any("boilerplate" in caption.flags for caption in record.captions)
        again = any(caption.attempt > 1 for caption in record.captions)
        suffixes = (VIDEO_EXPORTS[n].file for n in self.formats if n in VIDEO_EXPORTS)
        missing = any(not (self.folder / f"{one.name}{suffix}").exists() for suffix in suffixes)
        return missing or boiled or again
