"""Which FFmpeg decodes."""

from __future__ import annotations

import av


def ffmpeg_version() -> str:
    """The version of the FFmpeg inside PyAV, and of its decoding library."""
    major, minor, micro = av.library_versions["libavcodec"]
    return f"{av.ffmpeg_version_info}, libavcodec {major}.{minor}.{micro}"
