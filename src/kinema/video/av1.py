"""As much of AV1's headers as tells whether a frame is a reference (AV1 bitstream, section 5)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from kinema.video.bits import Bits

_SEQUENCE_HEADER, _FRAME_HEADER, _FRAME, _REDUNDANT_HEADER = 1, 3, 6, 7
_SELECT = 2
_HEADER_BYTES = 32
"""As much of a frame as is looked at."""
_KEY, _INTRA_ONLY, _SWITCH = 0, 2, 3


@dataclass(frozen=True)
class Sequence:
    """The parts of a sequence header that decide how a frame header is laid out."""

    force_screen_content_tools: int
    force_integer_mv: int
    order_hint_bits: int


def _units(data: bytes) -> Iterator[tuple[int, bytes]]:
    """(type, payload) of the open bitstream units in a packet."""
    at = 0
    while at < len(data):
        header = data[at]
        at += 2 if header & 4 else 1
        size = len(data) - at
        if header & 2:
            size, at = _leb128(data, at)
        yield header >> 3 & 15, data[at : at + size]
        at += size


def _leb128(data: bytes, at: int) -> tuple[int, int]:
    value = 0
    for i in range(8):
        byte = data[at + i]
        value |= (byte & 0x7F) << 7 * i
        if not byte & 0x80:
            return value, at + i + 1
    raise IndexError


def read_sequence(units: bytes) -> Sequence | None:
    """The sequence header among units; None if absent or of a kind not worth handling."""
    try:
        for kind, payload in _units(units):
            if kind == _SEQUENCE_HEADER:
                return _parse_sequence(Bits(payload))
    except IndexError:
        return None
    return None


def _parse_sequence(bits: Bits) -> Sequence | None:
    bits.read(3)  # profile
    bits.read()  # still picture
    is_reduced = bits.read()
    has_timing = 0 if is_reduced else bits.read()
    if is_reduced or has_timing:
        return None
    _skip_operating_points(bits)
    width_bits, height_bits = bits.read(4) + 1, bits.read(4) + 1
    bits.read(width_bits + height_bits)
    if bits.read():  # frame ids
        return None
    bits.read(3 + 4)  # superblock size, two intra tools; four inter tools
    order_hint_bits = 0
    has_order_hint = bits.read()
    if has_order_hint:
        bits.read(2)
    screen_tools = _SELECT if bits.read() else bits.read()
    integer_mv = _SELECT
    if screen_tools:
        integer_mv = _SELECT if bits.read() else bits.read()
    if has_order_hint:
        order_hint_bits = bits.read(3) + 1
    return Sequence(screen_tools, integer_mv, order_hint_bits)


def _skip_operating_points(bits: Bits) -> None:
    has_initial_delay = bits.read()
    for _ in range(bits.read(5) + 1):
        bits.read(12)
        if bits.read(5) > 7:
            bits.read()
        if has_initial_delay and bits.read():
            bits.read(4)


def is_disposable(packet: bytes, sequence: Sequence) -> bool:
    """True when the packet holds one shown frame that refreshes no reference slot."""
    try:
        frames = [unit for unit in _units(packet) if unit[0] in (_FRAME, _FRAME_HEADER)]
        others = {kind for kind, _ in _units(packet)} & {_SEQUENCE_HEADER, _REDUNDANT_HEADER}
        return (
            len(frames) == 1
            and not others
            and _refreshes_nothing(frames[0][1][:_HEADER_BYTES], sequence)
        )
    except IndexError:
        return False


def _refreshes_nothing(header: bytes, sequence: Sequence) -> bool:
    bits = Bits(header)
    shows_existing = bits.read()
    frame_type, is_shown = bits.read(2), bits.read()
    if shows_existing or not is_shown or frame_type in (_KEY, _INTRA_ONLY, _SWITCH):
        return False
    is_resilient = bits.read()
    bits.read()  # disable_cdf_update
    tools = sequence.force_screen_content_tools
    uses_tools = bits.read() if tools == _SELECT else tools
    if uses_tools and sequence.force_integer_mv == _SELECT:
        bits.read()
    bits.read(1 + sequence.order_hint_bits)  # frame_size_override_flag, order_hint
    if not is_resilient:
        bits.read(3)  # primary_ref_frame
    return bits.read(8) == 0
