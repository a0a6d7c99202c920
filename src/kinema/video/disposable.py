"""Which packets may be left out because no other picture refers to theirs.

For H.264, HEVC and the MPEGs the decoder is asked, by ``skip_frame``. AV1's decides when it is
opened, so its headers are read here and the packets never sent. VP9 streams hardly have any.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal

from kinema.video.av1 import Sequence, is_disposable, read_sequence
from kinema.video.shown import (
    H264Sequence,
    H264Slice,
    has_whole_units,
    read_h264_sequence,
    read_h264_slice,
)

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


Finding = Literal["fine", "suspect", "lost"]
"""Of a packet: it follows the one before, should be looked at closely, or lacks its reference."""


class Continuity:
    """Notices where packets of H.264 do not continue what came before them.

    A reference that was lost, or whose damage makes it look as if nothing referred to it, leaves a
    gap in frame_num (H.264, section 7.4.3); a damaged time contradicts pic_order_cnt_lsb (8.2.1).
    Decoders report neither.
    """

    def __init__(self, sequence: H264Sequence, config: bytes) -> None:
        self._sequence, self._config = sequence, config
        self.begin()

    def begin(self) -> None:
        """Decoding begins at a key."""
        self._last: H264Slice | None = None
        self._last_reference: int | None = None
        self._last_pts: int | None = None

    def look(self, packet: Any) -> Finding:
        """Whether this packet follows the one before."""
        found = read_h264_slice(packet, self._sequence, self._config)
        if found is None or not has_whole_units(packet, self._config):
            return "suspect"
        finding = "fine" if found.is_idr else self._compare(found, packet.pts)
        self._last, self._last_pts = found, packet.pts
        if found.is_reference or self._last_reference is None:
            self._last_reference = found.frame_number
        return finding

    def _compare(self, found: H264Slice, pts: int | None) -> Finding:
        if self._last is None or self._last_reference is None:
            return "fine"
        size = 1 << self._sequence.frame_number_bits
        # The numbers may also begin anew: memory_management_control_operation 5.
        if (found.frame_number - self._last_reference) % size > 1 and found.frame_number > 1:
            return "lost"
        if not self._sequence.order_bits or pts is None or self._last_pts is None:
            return "fine"
        half = 1 << (self._sequence.order_bits - 1)
        later = (found.order - self._last.order + half) % (2 * half) - half
        return "fine" if (later > 0) == (pts > self._last_pts) else "suspect"


def continuity_of(context: Any) -> Continuity | None:
    """What watches the packets of this stream, None where the codec's decoder does so itself."""
    if context.codec.canonical_name != "h264":
        return None
    config = context.extradata or b""
    sequence = read_h264_sequence(config)
    if sequence is None or sequence.may_have_fields or sequence.may_have_gaps:
        return None
    return Continuity(sequence, config)


def _num_temporal_layers(extradata: bytes) -> int:
    """Temporal layers of an HEVC stream, 0 when unknown (ISO/IEC 14496-15 8.3.3, H.265 7.3.2.1)."""
    if len(extradata) > 21 and extradata[0] == 1:
        return extradata[21] >> 3 & 7
    start = extradata.find(b"\0\0\1\x40\x01")
    if 0 <= start < len(extradata) - 6:
        return (extradata[start + 6] >> 1 & 7) + 1
    return 0
