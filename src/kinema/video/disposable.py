"""Whether a decoder may be told to skip frames that nothing refers to."""

from __future__ import annotations

from typing import Any

_MARKED_BY_PICTURE = frozenset({"h264", "mpeg4", "mpeg2video", "mpeg1video", "vc1", "wmv3"})


def may_skip(context: Any) -> bool:
    """True when skipping leaves every other frame as it is.

    H.264 and the MPEGs mark such frames in each picture. HEVC marks them within their temporal
    layer only, so there it is safe when the stream has one layer. Others ignore the request.
    """
    name = context.codec.canonical_name
    if name == "hevc":
        return _num_temporal_layers(context.extradata or b"") == 1
    return name in _MARKED_BY_PICTURE


def _num_temporal_layers(extradata: bytes) -> int:
    """Temporal layers of an HEVC stream, 0 when unknown (ISO/IEC 14496-15 8.3.3, H.265 7.3.2.1)."""
    if len(extradata) > 21 and extradata[0] == 1:
        return extradata[21] >> 3 & 7
    start = extradata.find(b"\0\0\1\x40\x01")
    if 0 <= start < len(extradata) - 6:
        return (extradata[start + 6] >> 1 & 7) + 1
    return 0
