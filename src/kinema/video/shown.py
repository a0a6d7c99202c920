"""How many frames a packet shows, read from its first bytes where a codec leaves that open.

Most packets show one frame. VP8 and VP9 have pictures that are never shown, H.264 may code the two
fields of a frame one by one, and MPEG-4 has packets that say "as before" or that hold two pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from kinema.video.bits import Bits

Shown = Literal["frame", "nothing", "unknown"]
Look = Callable[[bytes], Shown]
"""Takes a packet and says what comes of it."""

_SLICE, _IDR_SLICE, _SPS, _LAST_KIND = 1, 5, 7, 21
_HEADER_BYTES = 48
_LOOKED_AT_BYTES = 4096
"""Of a packet: parameter sets and messages come before the first slice."""
_START_CODE = b"\0\0\1"
_EXTENDED_ASPECT = 255
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
    may_have_gaps: bool
    """References may be left out on purpose (temporal layers)."""
    frame_number_bits: int
    order_bits: int
    """Of pic_order_cnt_lsb, 0 where slices do not carry it."""
    has_colour_planes: bool
    reordering: int | None
    """Most frames that are decoded before another one and shown after it."""


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
    order_bits = 0
    if order_type == 0:
        order_bits = bits.read_ue() + 4
    elif order_type == 1:
        bits.read()
        bits.read_se()
        bits.read_se()
        for _ in range(bits.read_ue()):
            bits.read_se()
    bits.read_ue()
    may_have_gaps = bool(bits.read())
    bits.read_ue()
    bits.read_ue()
    may_have_fields = not bits.read()
    reordering = _read_reordering(bits, may_have_fields)
    return H264Sequence(
        may_have_fields, may_have_gaps, frame_number_bits, order_bits, has_colour_planes, reordering
    )


def _read_reordering(bits: Bits, may_have_fields: bool) -> int | None:
    """max_num_reorder_frames (H.264, sections 7.3.2.1.1 and E.1.1), None where it is left out."""
    bits.read(1 + may_have_fields)
    if bits.read():  # cropping
        for _ in range(4):
            bits.read_ue()
    if not bits.read():
        return None
    if bits.read() and bits.read(8) == _EXTENDED_ASPECT:
        bits.read(32)
    bits.read(bits.read())  # overscan
    if bits.read():  # colours
        bits.read(4)
        bits.read(24 * bits.read())
    for _ in range(2 * bits.read()):  # places of the chroma samples
        bits.read_ue()
    bits.read(65 * bits.read())  # rate
    has_limits = [_skip_decoder_limits(bits) for _ in range(2)]
    bits.read(1 + any(has_limits))
    if not bits.read():
        return None
    bits.read()
    for _ in range(4):
        bits.read_ue()
    return bits.read_ue()


def _skip_decoder_limits(bits: Bits) -> bool:
    """Whether there are parameters of a hypothetical decoder (H.264, section E.1.2)."""
    if not bits.read():
        return False
    count = bits.read_ue() + 1
    bits.read(8)
    for _ in range(count):
        bits.read_ue()
        bits.read_ue()
        bits.read()
    bits.read(20)
    return True


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


@dataclass(frozen=True)
class H264Slice:
    """The parts of a slice header that tell what a picture follows (H.264, section 7.3.3)."""

    frame_number: int
    order: int
    """pic_order_cnt_lsb."""
    is_reference: bool
    is_idr: bool


def read_h264_slice(packet: Any, sequence: H264Sequence, config: bytes) -> H264Slice | None:
    """A packet's first slice, None where there is none that can be read.

    Args:
        packet: an ``av.Packet``; only its first bytes are looked at, as this is done for each.
        sequence: of frames only; it decides where the numbers stand.
        config: the decoder configuration of the container.
    """
    head = bytes(memoryview(packet)[:_LOOKED_AT_BYTES])
    try:
        for at in _unit_starts(head, _length_bytes(config)):
            kind = head[at] & 31
            if kind not in (_SLICE, _IDR_SLICE):
                continue
            bits = Bits(_unescaped(head[at + 1 : at + _HEADER_BYTES]))
            for _ in range(3):
                bits.read_ue()
            bits.read(2 * sequence.has_colour_planes)
            number = bits.read(sequence.frame_number_bits)
            if kind == _IDR_SLICE:
                bits.read_ue()
            order = bits.read(sequence.order_bits)
            return H264Slice(number, order, bool(head[at] >> 5 & 3), kind == _IDR_SLICE)
    except IndexError:
        pass
    return None


def has_whole_units(packet: Any, config: bytes) -> bool:
    """Whether NAL units fill a packet to its end, and each is of a kind that has a meaning."""
    length_bytes = _length_bytes(config)
    if not length_bytes:
        return True
    view, at = memoryview(packet), 0
    while at + length_bytes < len(view):
        header = view[at + length_bytes]
        if header & 0x80 or not 1 <= header & 31 <= _LAST_KIND:
            return False
        at += length_bytes + int.from_bytes(view[at : at + length_bytes], "big")
    return at == len(view)


def _unit_starts(data: bytes, length_bytes: int) -> Iterator[int]:
    """Where the NAL units of a packet begin, one after the other."""
    at = 0
    while length_bytes and at + length_bytes < len(data):
        yield at + length_bytes
        at += length_bytes + int.from_bytes(data[at : at + length_bytes], "big")
    at = data.find(_START_CODE)
    while not length_bytes and 0 <= at < len(data) - len(_START_CODE):
        yield at + len(_START_CODE)
        at = data.find(_START_CODE, at + 1)


def _length_bytes(config: bytes) -> int:
    """Bytes of the length before each NAL unit, 0 where start codes divide them."""
    return (config[4] & 3) + 1 if len(config) > 4 and config[0] == 1 else 0


def _units(data: bytes, length_bytes: int) -> list[bytes]:
    """The beginnings of the NAL units of a packet or configuration."""
    if not length_bytes and data[:1] == b"\1":
        size = int.from_bytes(data[6:8], "big") if data[5] & 31 else 0
        return [data[8 : 8 + size]] if size else []
    starts = _unit_starts(data, length_bytes)
    return [data[at : at + _LOOKED_AT_BYTES] for at in starts]


def _unescaped(payload: bytes) -> bytes:
    """A NAL unit's payload without its emulation prevention bytes (H.264, section 7.4.1)."""
    return payload.replace(b"\0\0\3", b"\0\0")
