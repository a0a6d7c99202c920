"""Whole frames and timecode, as editing programs count them (SMPTE ST 12-1)."""

from __future__ import annotations

import re
from dataclasses import dataclass
from fractions import Fraction

from kinema.captioning.records import VideoRecord

_RATES = (
    *(Fraction(24000, 1001), Fraction(24), Fraction(25), Fraction(30000, 1001), Fraction(30)),
    *(Fraction(48000, 1001), Fraction(48), Fraction(50), Fraction(60000, 1001), Fraction(60)),
    *(Fraction(100), Fraction(120000, 1001), Fraction(120)),
)
"""Rates that cameras record at; an average that was measured lies beside one of them."""
_NEAR = Fraction(5, 1000)
_ANY_RATE = Fraction(25)
_WRITTEN = re.compile(r"(\d{1,2})[:;](\d{2})[:;](\d{2})([:;.,])(\d{2,3})")


@dataclass(frozen=True, kw_only=True)
class FrameClock:
    """How an editing program counts the frames of one video."""

    rate: Fraction
    """Frames a second."""
    first: int = 0
    """Number of the first frame: the start timecode, counted in frames."""
    drops: bool = False
    """Numbers are left out so that timecode keeps up with time: two a minute at 29.97, four at
    59.94, none in every tenth minute."""

    @classmethod
    def of(cls, record: VideoRecord) -> FrameClock:
        """The clock of a described video, by its measured rate and its start timecode."""
        info = record.info or {}
        rate = usual_rate(float(info.get("fps") or _ANY_RATE))
        plain = cls(rate=rate)
        start = _WRITTEN.fullmatch(str(info.get("start_timecode") or "").strip())
        if start is None or int(start[5]) >= plain.nominal:
            return plain
        drops = start[4] != ":" and rate.denominator == 1001 and plain.nominal % 30 == 0
        clock = cls(rate=rate, drops=drops)
        hours, minutes, seconds, frames = (int(start[place]) for place in (1, 2, 3, 5))
        return cls(rate=rate, drops=drops, first=clock._number(hours, minutes, seconds, frames))

    @property
    def nominal(self) -> int:
        """Frames that a second of timecode has: 30 for 29.97."""
        return max(1, round(self.rate))

    @property
    def _dropped(self) -> int:
        """Numbers that are left out in a minute."""
        return self.nominal // 15 if self.drops else 0

    def frame(self, seconds: float) -> int:
        """The frame that begins nearest to a presentation time, counted from the video's first."""
        return round(Fraction(seconds) * self.rate)

    def timecode(self, frame: int) -> str:
        """``HH:MM:SS:FF`` of a frame, counted from 00:00:00:00; ``HH:MM:SS;FF`` with drop-frame."""
        minute = self.nominal * 60 - self._dropped
        ten_minutes = minute * 10 + self._dropped
        tens, rest = divmod(frame, ten_minutes)
        # The first minute of ten is whole.
        number = frame + 9 * self._dropped * tens
        if rest >= self.nominal * 60:
            number += self._dropped * (1 + (rest - self.nominal * 60) // minute)
        seconds, left = divmod(number, self.nominal)
        mark = ";" if self.drops else ":"
        hours = seconds // 3600 % 24
        return f"{hours:02d}:{seconds // 60 % 60:02d}:{seconds % 60:02d}{mark}{left:02d}"

    def _number(self, hours: int, minutes: int, seconds: int, frames: int) -> int:
        all_minutes = hours * 60 + minutes
        dropped = self._dropped * (all_minutes - all_minutes // 10)
        return (all_minutes * 60 + seconds) * self.nominal + frames - dropped


def usual_rate(fps: float) -> Fraction:
    """The rate that a measured average means: 30000/1001 for 29.97003, 24 for 17.3.

    A whole number that no camera records at, as of screen recordings, stays what it is.
    """
    measured = Fraction(fps)
    nearest = min(_RATES, key=lambda rate: abs(rate - measured))
    whole = Fraction(max(1, round(measured)))
    is_whole = abs(whole - measured) <= _NEAR * whole
    return whole if is_whole and abs(nearest - measured) > _NEAR * nearest else nearest
