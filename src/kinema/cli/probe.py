"""``kinema probe``: what is in a file, and what a model would see of it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from kinema.cli.flags import SamplingFlags
from kinema.cli.output import put, put_record, put_table, say, source_of
from kinema.tasks.probe import examine, write_contact_sheet
from kinema.types import FrameSampling
from kinema.video import Shot, VideoInfo
from kinema.video.cues import SubtitleTrack
from kinema.video.info import SamplingPlan
from kinema.video.shots import DetectorName
from kinema.video.tracks import VideoTrack


def probe(
    source: str,
    /,
    *,
    sampling: SamplingFlags = FrameSampling(),
    contact_sheet: Path | None = None,
    shots: bool = False,
    detector: DetectorName = "scenedetect",
    json: bool = False,
) -> None:
    """Show what is in a media file, and which frames a sampling takes.

    Counts, times and rates come from the packets of the file, not from its header.

    Examples:
      kinema probe clip.mp4 --fps 1 --end 1:00
      kinema probe clip.mp4 --num-frames 12 --contact-sheet seen.png
      kinema probe clip.mp4 --shots

    Args:
        source: A video or image: path or URL; - reads a video from stdin.
        contact_sheet: Write exactly those frames as one picture.
        shots: Also find cuts and fades, with their times.
        detector: Which library finds them.
        json: Print one JSON record.
    """
    medium = source_of(source)
    report = examine(medium, sampling, detector=detector if shots else None)
    if json:
        put_record(report.to_dict())
    else:
        facts = _facts(report.info) | _taken(report.plan)
        put_table([[name, value] for name, value in facts.items()])
        if report.shots is not None:
            put("")
            rows = [_shot_row(number, shot) for number, shot in enumerate(report.shots, start=1)]
            put_table([_SHOT_COLUMNS, *rows])
        for warning in (*report.info.warnings, *report.plan.warnings):
            say(f"note: {warning}")
    if contact_sheet is not None:
        write_contact_sheet(medium, contact_sheet, sampling)
        say(f"wrote {contact_sheet}")


_SHOT_COLUMNS = ("shot", "begins", "ends", "frames", "opens with")


def _shot_row(number: int, shot: Shot) -> tuple[str, ...]:
    return (
        f"{number}",
        f"{shot.start_seconds:.3f} s",
        f"{shot.end_seconds:.3f} s",
        f"#{shot.start_index}–{shot.end_index - 1}",
        shot.opens_with,
    )


def _facts(info: VideoInfo) -> dict[str, str]:
    return {
        "source": info.source,
        "container": f"{info.container}, {info.size_bytes:,} bytes",
        "video": f"{info.codec}, {info.pixel_format}, {info.bit_depth} bit",
        **_tracks(info),
        "size": _size(info),
        "rate": "one picture"
        if info.num_frames == 1
        else f"{info.fps:.3f} frames a second on average, {info.fps_mode}",
        "duration": f"{info.duration_seconds:.3f} s",
        **({"timecode": info.start_timecode} if info.start_timecode else {}),
        "frames": f"{info.num_frames}, of which {info.num_keyframes} key frames",
        "colour": f"{info.color_matrix}, {info.color_transfer}, {info.color_range} range",
        "HDR": "no" if info.hdr == "none" else info.hdr.upper(),
        "audio": info.audio_codec or "none",
        **{f"subtitles {track.index}": ", ".join(_words(track)) for track in info.subtitles},
    }


def _tracks(info: VideoInfo) -> dict[str, str]:
    """A row a video track, where there are several; the one that is read is marked."""
    if len(info.tracks) < 2:
        return {}
    return {
        f"track {track.index}{' *' if track.index == info.track else ''}": ", ".join(_notes(track))
        for track in info.tracks
    }


def _notes(track: VideoTrack) -> Iterator[str]:
    yield f"{track.codec}, {track.width}×{track.height}"
    if track.num_pictures == 1:
        yield "one picture"
    elif track.duration_seconds is not None:
        yield f"{track.duration_seconds:.3f} s"
    if track.language is not None:
        yield track.language
    if track.title is not None:
        yield track.title
    if track.default:
        yield "default"
    if track.cover:
        yield "cover"


def _words(track: SubtitleTrack) -> Iterator[str]:
    if track.file is not None:
        yield track.file
    yield track.codec if track.kind == "text" else f"{track.codec} ({track.kind}, not text)"
    if track.language is not None:
        yield track.language
    if track.title is not None:
        yield track.title
    if track.default:
        yield "default"
    if track.forced:
        yield "forced"


def _size(info: VideoInfo) -> str:
    notes = [f"{info.width}×{info.height}"]
    if (info.coded_width, info.coded_height) != (info.width, info.height):
        notes.append(f"stored as {info.coded_width}×{info.coded_height}")
    if info.rotation_degrees:
        notes.append(f"turned by {info.rotation_degrees}°")
    if info.mirrored:
        notes.append("mirrored")
    if info.sample_aspect_ratio not in ("1:1", "0:1"):
        notes.append(f"pixel aspect {info.sample_aspect_ratio}")
    if info.interlaced:
        notes.append("interlaced")
    return ", ".join(notes)


def _taken(plan: SamplingPlan) -> dict[str, str]:
    pairs = zip(plan.indices, plan.seconds, strict=True)
    frames = [f"#{index} {seconds:.2f}s" for index, seconds in pairs]
    shown = frames if len(frames) <= 16 else [*frames[:8], "…", *frames[-7:]]
    return {
        "would take": f"{len(frames)} of {plan.total_frames} frames",
        "": "  ".join(shown),
    }
