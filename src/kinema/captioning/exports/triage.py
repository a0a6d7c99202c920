"""What went into a run, and what could not be used: a row a video."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from kinema.captioning.records import VideoRecord
from kinema.textfiles import write_json_lines, write_table

_FACTS = (
    "container",
    "codec",
    "duration_seconds",
    "num_frames",
    "fps",
    "fps_mode",
    "width",
    "height",
    "rotation_degrees",
    "hdr",
    "interlaced",
    "has_audio",
    "audio_codec",
    "size_bytes",
)
_DAMAGE = ("damaged_segments", "damaged_packets", "damaged_frames")
_COLUMNS = ("source", "status", *_FACTS, *_DAMAGE, "warnings", "error")


def write_triage(records: Iterable[VideoRecord], path: Path) -> None:
    """Facts about each file: codec, length, rotation, HDR, sound, damage."""
    write_table(path, _COLUMNS, map(_row, records))


def write_failed(records: Iterable[VideoRecord], path: Path) -> None:
    """Every video that has no caption for some of it, and why."""
    failed = (record for record in records if record.status != "ok")
    write_json_lines(path, map(_why, failed))


def _row(record: VideoRecord) -> dict[str, Any]:
    info = record.info or {}
    return (
        {name: info.get(name) for name in _FACTS}
        | record.damage
        | {
            "source": record.source,
            "status": record.status,
            "warnings": " ".join(record.warnings),
            "error": record.error,
        }
    )


def _why(record: VideoRecord) -> dict[str, Any]:
    segments = {c.index: c.error for c in record.captions if c.error is not None}
    return {
        "source": record.source,
        "status": record.status,
        "error": record.error,
        "segments": segments,
    }
