"""Which packets may be left out because no other picture refers to theirs.

For H.264, HEVC and the MPEGs the decoder is asked, by ``skip_frame``. AV1's decides when it is
opened, so its headers are read here and the packets never sent. VP9 streams hardly have any.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from kinema.video.av1 import Sequence, is_disposable, read_sequence

_MARKED_BY_PICTURE = frozenset({"h264", "mpeg4", "mpeg2video", "mpeg1video", "vc1", "wmv3"})

_AV1C_MARKER, _AV1C_BYTES = b"\x81", 4
"""The configuration record before the sequence header (AV1 in ISOBMFF, section 2.3.3)."""


def decoder_may_skip(context: Any) -> bool:
    """True when the decoder can skip and leaves every other frame as it is.

    HEVC marks such pictures within their temporal layer only, so there it is safe when the stream
    has one layer.
    """
    name = context.codec.canonical_name
    if name == "hevc":
        return _num_temporal_layers(context.extradata or b"") == 1
    return name in _MARKED_BY_PICTURE


def packet_filter(context: Any) -> Callable[[bytes], bool] | None:
    """A test for packets that may be dropped, None where the codec has none."""
    if context.codec.canonical_name != "av1":
        return None
    extradata: bytes = context.extradata or b""
    if extradata[:1] != _AV1C_MARKER:
        return None
    sequence: Sequence | None = read_sequence(extradata[_AV1C_BYTES:])
    return None if sequence is None else lambda packet: is_disposable(packet, sequence)


def _num_temporal_layers(extradata: bytes) -> int:
    """Temporal layers of an HEVC stream, 0 when unknown (ISO/IEC 14496-15 8.3.3, H.265 7.3.2.1)."""
    if len(extradata) > 21 and extradata[0] == 1:
        return extradata[21] >> 3 & 7
    start = extradata.find(b"\0\0\1\x40\x01")
    if 0 <= start < len(extradata) - 6:
        return (extradata[start + 6] >> 1 & 7) + 1
    return 0
