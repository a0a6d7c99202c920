"""How many frames a packet shows, read from its first bytes where a codec leaves that open.

Most packets show one frame. VP8 and VP9 have pictures that are never shown, H.264 may code the two
fields of a frame one by one, and MPEG-4 has packets that say "as before" or that hold two pictures.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from kinema.video.bits import Bits

Shown = Literal["frame", "nothing", "unknown"]
Look = Callable[[bytes], Shown]
"""Takes a packet and says what comes of it."""

_SLICE, _IDR_SLICE, _SPS = 1, 5, 7
_HEADER_BYTES = 48
_CODED_HEADER = b"\0\0\1\xb6"
"""Begins a picture of MPEG-4 (ISO/IEC 14496-2, table 6-3)."""
_EMPTY_MPEG4_BYTES = 8
"""A picture that repeats the one before is no longer; see vop_coded in ISO/IEC 14496-2, 6.2.5."""


def look_of(codec: str, config: bytes) -> Look | None:
    """A look at each packet of this codec, None where every packet shows one frame.

    Args:
        codec: FFmpeg's name.
        config: the decoder configuration that the container holds; empty where it holds none.
    """
    if codec == "vp8":
        return _look_at_vp8
    if codec == "vp9":
        return _look_at_vp9
    if codec == "mpeg4":
        return _look_at_mpeg4
    if codec == "h264":
        sequence = read_h264_sequence(config)
        if sequence is None or sequence.may_have_fields:
            return lambda packet: _look_at_h264(packet, sequence, _length_bytes(config))
    return None


def _look_at_vp8(packet: bytes) -> Shown:
    """RFC 6386, section 9.1: the fifth bit from below is show_frame."""
    return "frame" if packet[0] >> 4 & 1 else "nothing"


def _look_at_vp9(packet: bytes) -> Shown:
    """VP9 bitstream, section 6.2; a superframe ends with its index and shows one frame."""
    if packet[-1] >> 5 == 0b110:
        return "frame"
    bits = Bits(packet)
    bits.read(2)
    profile = bits.read() | bits.read() << 1
    if profile == 3:
        bits.read()
    if bits.read():  # shows an earlier picture
        return "frame"
    bits.read()
    return "frame" if bits.read() else "nothing"


def _look_at_mpeg4(packet: bytes) -> Shown:
    if packet.count(_CODED_HEADER) != 1 or len(packet) <= _EMPTY_MPEG4_BYTES:
        return "unknown"
    return "frame"


# --- H.264 ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class H264Sequence:
    """The parts of a sequence parameter set that decide where a slice says "field"."""

    may_have_fields: bool
    frame_number_bits: int
    has_colour_planes: bool


def read_h264_sequence(config: bytes) -> H264Sequence | None:
    """The first sequence parameter set of a configuration, None where there is none.

    Args:
        config: an AVCDecoderConfigurationRecord (ISO/IEC 14496-15, 5.3.3) or NAL units after
            start codes (H.264, annex B).
    """
    try:
        for unit in _units(config, 0):
            if unit[0] & 31 == _SPS:
                return _parse_sequence(Bits(_unescaped(unit[1:])))
    except IndexError:
        return None
    return None


def _parse_sequence(bits: Bits) -> H264Sequence:
    """H.264, section 7.3.2.1.1, as far as frame_mbs_only_flag."""
    profile = bits.read(8)
    bits.read(16)
    bits.read_ue()
    has_colour_planes = False
    if profile in (100, 110, 122, 244, 44, 83, 86, 118, 128, 138, 139, 134, 135):
        chroma = bits.read_ue()
        has_colour_planes = chroma == 3 and bool(bits.read())
        bits.read_ue()
        bits.read_ue()
        bits.read()
        if bits.read():
            for number in range(12 if chroma == 3 else 8):
                if bits.read():
                    _skip_scaling_list(bits, 16 if number < 6 else 64)
    frame_number_bits = bits.read_ue() + 4
    order_type = bits.read_ue()
    if order_type == 0:
        bits.read_ue()
    elif order_type == 1:
        bits.read()
        bits.read_se()
        bits.read_se()
        for _ in range(bits.read_ue()):
            bits.read_se()
    bits.read_ue()
    bits.read()
    bits.read_ue()
    bits.read_ue()
    return H264Sequence(not bits.read(), frame_number_bits, has_colour_planes)


def _skip_scaling_list(bits: Bits, size: int) -> None:
    last = following = 8
    for _ in range(size):
        if following:
            following = (last + bits.read_se()) % 256
        last = following or last


def _look_at_h264(packet: bytes, sequence: H264Sequence | None, length_bytes: int) -> Shown:
    """Whether the first slice is one of a frame; H.264, section 7.3.3."""
    try:
        for unit in _units(packet, length_bytes):
            kind = unit[0] & 31
            if kind == _SPS:
                sequence = _parse_sequence(Bits(_unescaped(unit[1:])))
            if kind not in (_SLICE, _IDR_SLICE):
                continue
            if sequence is None:
                return "unknown"
            if not sequence.may_have_fields:
                return "frame"
            bits = Bits(_unescaped(unit[1:_HEADER_BYTES]))
            for _ in range(3):
                bits.read_ue()
            bits.read(2 * sequence.has_colour_planes + sequence.frame_number_bits)
            return "unknown" if bits.read() else "frame"
    except IndexError:
        pass
    return "unknown"


def _length_bytes(config: bytes) -> int:
    """Bytes of the length before each NAL unit, 0 where start codes divide them."""
    return (config[4] & 3) + 1 if len(config) > 4 and config[0] == 1 else 0


def _units(data: bytes, length_bytes: int) -> list[bytes]:
    """The first NAL units of a packet or configuration."""
    if not length_bytes and data[:1] == b"\1":
        size = int.from_bytes(data[6:8], "big") if data[5] & 31 else 0
        return [data[8 : 8 + size]] if size else []
    if not length_bytes:
        return [unit for unit in data.split(b"\0\0\1")[1:] if unit]
    units, at = [], 0
    while at + length_bytes < len(data):
        size = int.from_bytes(data[at : at + length_bytes], "big")
        units.append(data[at + length_bytes : at + length_bytes + size])
        at += length_bytes + max(1, size)
    return [unit for unit in units if unit]


def _unescaped(payload: bytes) -> bytes:
    """A NAL unit's payload without its emulation prevention bytes (H.264, section 7.4.1)."""
    return payload.replace(b"\0\0\3", b"\0\0")
