"""``kinema features``: what a frozen tower sees, written to files once."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kinema.cli.flags import JobFlags, JobRun, SamplingFlags
from kinema.cli.output import JobStatus, put_record, say
from kinema.errors import KinemaError, PartialFailure
from kinema.ranges import require_value
from kinema.tasks.features.inputs import find_media, without_copies
from kinema.tasks.features.job import INDEX, FeaturesJob
from kinema.tasks.features.options import FeatureOptions
from kinema.types import FeatureKind, FrameSampling


@dataclass(frozen=True, kw_only=True)
class FeaturesRun:
    """What is read and written, and how towers are fed."""

    output: Annotated[Path, Parameter(alias="-o")] = Path("features")
    """Folder of the features files, laid out as the videos are."""
    pattern: str = ""
    """Which files below the folder count: {person}/{camera}/{video}.avi"""
    devices: tuple[str, ...] = ("auto",)
    """Where towers run, with commas between them: cuda:0,cuda:1 puts one on each."""
    batch_size: Annotated[int, Parameter(alias="--infer-batch")] = 32
    """Frames that go through a tower together."""
    video_dir_path: Path | None = None
    """Video-ChatGPT's name for VIDEOS: a folder."""
    clip_feat_path: Path | None = None
    """Video-ChatGPT's --output: its pickles are written beside the features files."""
    pickle_name: str = "{video}"
    """With --clip-feat-path, names of pickles: {video}_{camera}_all for the Breakfast fork."""


def features(
    *videos: str,
    run: Annotated[FeaturesRun, Parameter(name="*")] = FeaturesRun(),
    work: JobFlags = JobRun(),
    options: Annotated[FeatureOptions, Parameter(name="*")] = FeatureOptions(),
    sampling: SamplingFlags = FrameSampling(),
) -> int:
    """Extract what a vision tower sees in videos, one safetensors file each.

    A run that was stopped goes on where it ended; a video that changed is done again.

    Examples:
      kinema features videos/ -o features
      kinema features Breakfast/ -o features --kind layers --exact-frames 1000 --augment all
      kinema features data/ -o features --pattern {person}/{camera}/{video}.avi --num-frames 50

    Args:
        videos: Files, folders, globs, or lists: .txt, .csv, .jsonl.
    """
    require_value(run.batch_size >= 1, "batch_size", run.batch_size, "1 or more")
    devices = (name.strip() for text in run.devices for name in text.split(","))
    if run.video_dir_path is not None:
        videos = (*videos, str(run.video_dir_path))
    if run.clip_feat_path is not None:
        run = replace(run, output=run.clip_feat_path)
    media = find_media(videos, pattern=run.pattern)
    if options.variants:
        media, copies = without_copies(media)
        for name, original in copies.items():
            say(f"note: {name} is a copy of {original.name} and is left out.")
    job = FeaturesJob(
        media=media,
        limit=work.limit,
        output=run.output,
        options=options,
        sampling=sampling,
        devices=tuple(filter(None, devices)) or ("auto",),
        batch_size=run.batch_size,
        **work.settings,
    )
    with JobStatus("videos", quiet=work.quiet, show_bar=True) as status:
        failed = job.run(status)
    if run.clip_feat_path is not None:
        from kinema.tasks.features.pickles import pickle_beside  # noqa: PLC0415  imports torch

        pickle_beside(run.clip_feat_path, name=run.pickle_name)
    return _end(failed, job, run, work)


def convert(
    source: Path,
    target: Path,
    /,
    *,
    kind: FeatureKind | None = None,
    tower: str = "clip_vision_model 1024 16x16",
    name: str = "{folder}/{video}",
) -> int:
    """Exchange features with the pickles of Video-ChatGPT and its Breakfast fork.

    The folder says the direction: pickles become features files, features files pickles. Pickles
    are read without running anything that is in them.

    Examples:
      kinema features convert clip_features/ features/
      kinema features convert features/ clip_features/ --name {video}_{camera}

    Args:
        source: A folder of .pkl files or of features files.
        target: The folder to write.
        kind: What the pickles hold; their shape says it otherwise.
        tower: Which tower made the pickles, as the headers of features files name it.
        name: What a pickle is called: fields of --pattern, {folder} and {video}.
    """
    from kinema.tasks.features.pickles import convert_folder  # noqa: PLC0415  imports torch

    written = convert_folder(source, target, kind=kind, tower=tower, name=name)
    say(f"{written} files written to {target}.")
    return 0


def _end(failed: int, job: FeaturesJob, run: FeaturesRun, work: JobRun) -> int:
    records = job.records()[: work.limit]
    if work.json:
        for record in records:
            put_record(record)
    total, written = len(records), sum("features" in record for record in records)
    if skipped := total - written - failed:
        say(f"note: {skipped} of {total} files have no video in them and were skipped.")
    if not written:
        raise KinemaError(
            f"No video has features ({failed} failed).", hint=f"{run.output / INDEX} says why."
        )
    if failed:
        raise PartialFailure(
            f"{failed} of {total} videos have no features.",
            hint=f"{run.output / INDEX} says why; --retry-failed tries them again.",
        )
    say(f"Features of {written} video{'s' if written > 1 else ''} are in {run.output}.")
    return 0
