"""Chapters in FFmpeg's metadata format: ``ffmpeg -i in.mp4 -i this -map_metadata 1 out.mp4``."""

from __future__ import annotations

import re
from pathlib import Path

from kinema.captioning.exports.subtitles import chapter_cues, one_line
from kinema.captioning.records import VideoRecord
from kinema.files import write_atomically


def write_ffmetadata(record: VideoRecord, path: Path) -> None:
    """Title, summary and chapters in milliseconds (ffmpeg-formats, section Metadata)."""
    lines = [
        ";FFMETADATA1",
        f"title={_escaped(record.title)}",
        f"description={_escaped(record.summary_text)}",
    ]
    for start, end, title in chapter_cues(record):
        times = [f"START={round(start * 1000)}", f"END={round(end * 1000)}"]
        lines += ["", "[CHAPTER]", "TIMEBASE=1/1000", *times, f"title={_escaped(title)}"]
    write_atomically(path, "\n".join(lines) + "\n")


def _escaped(text: str) -> str:
    return re.sub(r"([=;#\\])", r"\\\1", one_line(text))
