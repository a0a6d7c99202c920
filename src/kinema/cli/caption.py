"""``kinema caption``: videos described, timed, summarised, exported."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kinema.captioning.exports import check_folder, check_formats
from kinema.captioning.quality import language_check, parse_worst
from kinema.captioning.result import DEMO_BACKENDS, DEMO_MODELS
from kinema.captioning.segments import SegmentOptions
from kinema.cli.flags import (
    CaptionEngineFlags,
    JobFlags,
    JobRun,
    ModelName,
    PartFlags,
    SamplingFlags,
    WordFlags,
)
from kinema.cli.output import JobStatus, put, put_record, say
from kinema.engines import EngineSettings, rank
from kinema.errors import KinemaError, PartialFailure, UsageError
from kinema.files import refuse_foreign
from kinema.jobs.inputs import VideoInput, find_inputs, parse_shard
from kinema.jobs.progress import Progress
from kinema.messages import SamplingParams
from kinema.tasks.caption.job import CaptionJob
from kinema.tasks.caption.outputs import Outputs, files_of
from kinema.tasks.caption.settings import CaptionOptions, CaptionSettings
from kinema.tasks.caption.story import Described
from kinema.tasks.caption.threads import with_threads
from kinema.tasks.chosen import default_model
from kinema.tasks.imports import CheckpointParts
from kinema.tasks.models import find_model
from kinema.types import FrameSampling
from kinema.video import Workers

_RESULT = Path("result.json")


@dataclass(frozen=True, kw_only=True)
class CaptionRun:
    """Which model works, and what is written."""

    model: Annotated[str | None, ModelName] = None
    """spotter, a checkpoint folder, family:FOLDER, a hub name, or the demo's Qwen2_VL …"""
    backend: Annotated[str | None, Parameter(alias="--engine")] = None
    """hf, vllm, openai …, instead of the family's first: see `kinema models`."""
    result_path: Path | None = None
    """File for one video's result; result.json where there is no --output."""
    output: Annotated[Path | None, Parameter(alias="-o")] = None
    """Folder for exports, captions.jsonl, triage.csv and failed.jsonl."""
    export: tuple[str, ...] = ()
    """Files to write into --output, with commas between them: srt,vtt,chapters …"""
    multithreading: bool = False
    """Have --max-threads requests on their way at once, instead of the engine's own number."""
    max_threads: int | None = None
    """Requests at once, with --multithreading."""
    pass_through: bool = False
    """Not used: no stage of a graph stands behind this command; kinema.bmf_caption has one."""
    shard: str | None = None
    """Take one part of the videos: 0/8 to 7/8 are the parts of eight."""
    answers: Path | None = None
    """Keep the model's answers in this file, which runs may share."""
    recaption: str | None = None
    """Ask again where captions are flagged: worst:5% of all of them."""

    @property
    def unused(self) -> list[str]:
        """Options of the demo that were given and change nothing."""
        threads = ["--max-threads"] if self.max_threads and not self.multithreading else []
        return [*threads, *(["--pass-through"] if self.pass_through else [])]


def caption(
    *videos: str,
    run: Annotated[CaptionRun, Parameter(name="*")] = CaptionRun(),
    work: JobFlags = JobRun(),
    options: Annotated[CaptionOptions, Parameter(name="*")] = CaptionOptions(),
    segments: Annotated[SegmentOptions, Parameter(name="*")] = SegmentOptions(),
    sampling: SamplingFlags = FrameSampling(),
    params: WordFlags = SamplingParams(),
    settings: CaptionEngineFlags = EngineSettings(),
    parts: PartFlags = CheckpointParts(),
) -> int:
    """Describe videos: captions with times, chapters, a summary and a title.

    A run that was stopped goes on where it ended.

    Examples:
      kinema caption clip.mp4 --fps 1 --batch-size 4 --result-path result.json
      kinema caption videos/ -o out --export srt,vtt,markdown --segment-by shots
      kinema caption list.csv -o out --shard 0/8 --limit 1000

    Args:
        videos: Files, folders, globs, .tar archives, or lists: .txt, .csv, .jsonl.
    """
    formats = _formats(run)
    inputs = _inputs(videos, run, work.limit)
    state = _state(run, inputs, formats, force=work.force)
    name = run.model or default_model()
    model = find_model(
        DEMO_MODELS.get(name, name),
        engine=DEMO_BACKENDS.get(run.backend or "", run.backend),
        parts=parts,
    )
    threads = run.max_threads if run.multithreading else None
    settings = with_threads(settings, model.engine, threads)
    if rank() > 0:
        return model.follow(settings)
    for name in run.unused:
        say(f"note: {name} is read and not used here, see --help")
    job = CaptionJob(
        inputs=inputs,
        state=state,
        say=CaptionSettings(
            model=model,
            engine=settings,
            params=params,
            options=options,
            segments=segments,
            sampling=sampling,
            decided=work.decided,
        ),
        answers=run.answers,
        limit=work.limit,
        tag=f"-{run.shard.replace('/', '-of-')}" if run.shard else "",
        recaption=None if run.recaption is None else parse_worst(run.recaption),
        **work.settings,
    )
    wanted, language = language_check(options.language)
    with Workers(1) as reader:
        outputs = Outputs(job, run.output, reader.load_frames, formats, wanted, language)
        _work(job, outputs, quiet=work.quiet)
        statuses = outputs.write_all()
        _show(job, outputs, run, work)
    return _end(statuses, run)


def _formats(run: CaptionRun) -> list[str]:
    names = [name.strip() for text in run.export for name in text.split(",") if name.strip()]
    check_formats(names)
    if names and run.output is None:
        raise UsageError("--export goes with --output.", hint="Give a folder: --output out.")
    return names


def _inputs(videos: tuple[str, ...], run: CaptionRun, limit: int | None) -> list[VideoInput]:
    shard = None if run.shard is None else parse_shard(run.shard)
    found = find_inputs(videos, shard=shard)
    asked = len(found[:limit])
    if asked != 1 and (run.result_path is not None or run.output is None):
        raise UsageError(
            f"{asked} videos were found, and --result-path holds one.",
            hint="Give a folder for many: --output out.",
        )
    return found


def _state(
    run: CaptionRun, inputs: Sequence[VideoInput], formats: Sequence[str], *, force: bool
) -> Path:
    """Where the ledger is: in the output folder, or beside the result.

    Raises:
        UsageError: a file that would be written cannot be, or is none of kinema's.
    """
    result = run.result_path or _RESULT
    if run.output is not None:
        check_folder(run.output)
    if run.output is None or run.result_path is not None:
        check_folder(result.parent)
    if result.is_dir():
        raise UsageError(f"{result} is a folder.", hint="Give a file to --result-path.")
    kept = result.with_name(f".{result.name}.kinema")
    state = run.output / ".kinema" if run.output else kept
    if not state.exists():
        names = (one.name for one in inputs)
        written = files_of(run.output, formats, names) if run.output else ()
        shown = (result,) if run.output is None or run.result_path is not None else ()
        refuse_foreign((*written, *shown), force=force)
    return state


def _work(job: CaptionJob, outputs: Outputs, *, quiet: bool) -> None:
    """Run the job and write the files of each video as it ends.

    Raises:
        Unfinished: videos are still to do; lists of all of them are not written yet.
    """
    inputs = {one.source: one for one in job.inputs}
    with JobStatus("videos", quiet=quiet) as status:

        def tell(progress: Progress) -> None:
            if progress.unit is not None and progress.result is not None:
                described = Described.from_dict(progress.result)
                outputs.write_one(inputs[progress.unit.payload["source"]], described)
            status(progress)

        job.run(tell)


def _show(job: CaptionJob, outputs: Outputs, run: CaptionRun, work: JobRun) -> None:
    """The result of one video, for people; records, where they were asked for."""
    if run.output is None or run.result_path is not None:
        described = next(job.results())
        if described.record.captions:
            outputs.write_result(run.result_path or _RESULT)
    if work.json:
        for described in job.results():
            put_record(described.record.to_dict())
    elif len(job.asked) == 1 and not work.quiet:
        record = next(job.results()).record
        put("\n".join(filter(None, (record.title, record.summary_text))))
        for note in record.warnings:
            say(f"note: {note}")


def _end(statuses: Counter[str], run: CaptionRun) -> int:
    total, good, skipped = sum(statuses.values()), statuses["ok"], statuses["skipped"]
    where = f" in {run.output}{os.sep}" if run.output else ""
    if good and skipped:
        say(f"note: {skipped} of {total} files have no video in them and were skipped.")
    if good and good + skipped == total:
        return 0
    counts = ", ".join(f"{count} {status}" for status, count in sorted(statuses.items()))
    if good == 0 and statuses["partial"] == 0:
        raise KinemaError(
            f"No video was described ({counts}).", hint="What is said above says why."
        )
    raise PartialFailure(
        f"Some videos are not whole ({counts}).",
        hint=f"failed.jsonl{where} says why; --retry-failed tries them again.",
    )
