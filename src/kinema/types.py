"""Frames and which of them to take: the values that every part of kinema shares.

Each is checked once, when it is made. Pixels and their clock stay together in :class:`Frames`;
what to take is a :class:`FrameSampling`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np
from numpy.typing import NDArray

from kinema.errors import UsageError
from kinema.plain import Plain, changed
from kinema.ranges import require_value

Formula = Literal["slices", "linspace", "arange", "interior", "segments"]
Single = Literal["first", "middle", "last"]
FeatureKind = Literal["spatio_temporal", "layers", "cls", "patches"]
"""What a features file holds: see :mod:`kinema.models.videolm.kinds`."""


def parse_seconds(value: float | str) -> float:
    """Read ``12.5``, ``"12.5"``, ``"MM:SS"`` or ``"HH:MM:SS.mmm"`` as seconds.

    Raises:
        UsageError: the value is none of these, not finite, or negative.
    """
    hint = "Write seconds (12.5), MM:SS (1:20) or HH:MM:SS.mmm (0:01:20.500)."
    parts = str(value).strip().split(":")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        raise UsageError(f"{value!r} is no time.", hint=hint) from None
    if len(numbers) > 3 or any(not math.isfinite(n) or n < 0 for n in numbers):
        raise UsageError(f"{value!r} is no time.", hint=hint)
    if any(n >= 60 for n in numbers[1:]):
        raise UsageError(f"{value!r} is no time: minutes and seconds stay below 60.", hint=hint)
    return sum(n * 60.0**place for place, n in enumerate(reversed(numbers)))


@dataclass(frozen=True, kw_only=True)
class FrameSampling:
    """Which frames of a video to take: exactly one choice, inside one time range.

    With no choice at all the model family decides.

    Raises:
        UsageError: two choices at once, a count below 1, a rate that is not positive and
            finite, or ``start`` not before ``end``.
    """

    num_frames: int | None = None
    """Take this many frames, placed by the formula."""
    fps: float | None = None
    """Take this many frames a second of presentation time."""
    at: tuple[float | str, ...] | None = None
    """Take the frame shown at each of these times."""
    keyframes: bool = False
    """Take the key frames, the ones that decode without any other."""
    single: Single | None = None
    """Take one frame: first, middle or last."""
    max_frames: int | None = None
    """With a rate or key frames: at most this many, spread evenly."""
    min_frames: int | None = None
    """With a rate: at least this many, where the video has them."""
    start: float | str | None = None
    """Begin here: seconds, MM:SS or HH:MM:SS.mmm."""
    end: float | str | None = None
    """Stop before here: seconds, MM:SS or HH:MM:SS.mmm."""
    formula: Formula = "slices"
    """How a count becomes positions."""
    track: int | None = None
    """Take them from this video track, counted from 0, not from the one that players show."""

    def __post_init__(self) -> None:
        _check_choice(self)
        _check_counts(self)
        _check_range(self)

    @property
    def is_default(self) -> bool:
        """True when no choice was made and the family decides."""
        return not _choices(self)

    @property
    def start_seconds(self) -> float:
        """Where the range begins, 0.0 when it was not given."""
        return 0.0 if self.start is None else parse_seconds(self.start)

    @property
    def end_seconds(self) -> float | None:
        """Where the half-open range ends, None for the end of the video."""
        return None if self.end is None else parse_seconds(self.end)

    @property
    def at_seconds(self) -> tuple[float, ...]:
        """The asked times, in the order they were given."""
        return tuple(parse_seconds(t) for t in self.at or ())

    def or_default(self, default: FrameSampling) -> FrameSampling:
        """This sampling, or the default's choice inside this one's range and track."""
        if not self.is_default:
            return self
        return replace(default, start=self.start, end=self.end, track=self.track)

    def to_dict(self) -> dict[str, Any]:
        """Only what differs from the defaults, ready for JSON."""
        return changed(self)


def _choices(spec: FrameSampling) -> list[str]:
    named = {
        "num_frames": spec.num_frames is not None,
        "fps": spec.fps is not None,
        "at": spec.at is not None,
        "keyframes": spec.keyframes,
        "single": spec.single is not None,
    }
    return [name for name, given in named.items() if given]


def _check_choice(spec: FrameSampling) -> None:
    given = _choices(spec)
    if len(given) > 1:
        flags = " and ".join("--" + name.replace("_", "-") for name in given)
        raise UsageError(f"{flags} exclude each other.", hint="Give exactly one of them.")
    if spec.max_frames is not None and not (spec.fps is not None or spec.keyframes):
        raise UsageError(
            "--max-frames limits --fps or --keyframes, and neither was given.",
            hint="Use --num-frames for a count.",
        )
    if spec.min_frames is not None and spec.fps is None:
        raise UsageError("--min-frames goes with --fps.", hint="Use --num-frames for a count.")


def _check_counts(spec: FrameSampling) -> None:
    for name in ("num_frames", "max_frames", "min_frames"):
        count = getattr(spec, name)
        require_value(count is None or count >= 1, name, count, "at least 1")
    require_value(spec.track is None or spec.track >= 0, "track", spec.track, "0 or more")
    if spec.fps is not None and not (math.isfinite(spec.fps) and spec.fps > 0):
        raise UsageError(f"--fps is {spec.fps:g}; it must be above 0.", hint="Try --fps 1.")
    if spec.max_frames and spec.min_frames and spec.min_frames > spec.max_frames:
        raise UsageError(
            f"--min-frames {spec.min_frames} is above --max-frames {spec.max_frames}.",
            hint="Lower the one or raise the other.",
        )
    if spec.at is not None and not spec.at:
        raise UsageError("--at was given without a time.", hint="Try --at 1.5.")


def _check_range(spec: FrameSampling) -> None:
    for t in spec.at or ():
        parse_seconds(t)
    end = spec.end_seconds
    if end is not None and spec.start_seconds >= end:
        raise UsageError(
            f"--start {spec.start_seconds:g} is not before --end {end:g}.",
            hint="The range is half-open, start included and end not.",
        )


@dataclass(frozen=True, eq=False, repr=False)
class Frames:
    """Pictures and their clock: what was taken from where, and when it is shown.

    Raises:
        UsageError: wrong rank, dtype or length, no frame at all, or times that do not increase.
    """

    pixels: NDArray[np.uint8]
    """uint8[T, H, W, 3], RGB, upright, square pixels."""
    seconds: NDArray[np.float64]
    """float64[T], presentation times from the start of the video, increasing."""
    indices: NDArray[np.int64]
    """int64[T], positions in presentation order in the source, increasing."""
    source: str = ""
    """What the user would call the source; no credentials, no query."""
    total_frames: int | None = None
    """How many frames the source presents, where that is known."""
    duration_seconds: float | None = None
    """How long the source is shown."""
    source_fps: float | None = None
    """Average rate of the source."""
    warnings: tuple[str, ...] = ()
    """What the user should know about the reading, a plain sentence each."""
    left_out_seconds: tuple[float, ...] = ()
    """Times of frames that were decoded and left out, as they look like the one before."""
    damaged_packets: int = 0
    """Packets of the source that the decoder refused on the way to these frames."""
    damaged_frames: int = 0
    """Frames that were asked for and are marked as corrupt, or could not be decoded."""

    def __post_init__(self) -> None:
        if self.pixels.ndim != 4 or self.pixels.shape[-1] != 3:
            shape = list(self.pixels.shape)
            raise UsageError(f"pixels has shape {shape}.", hint="It must be uint8[T, H, W, 3].")
        if self.pixels.dtype != np.uint8:
            raise UsageError(f"pixels is {self.pixels.dtype}.", hint="It must be uint8, 0 to 255.")
        count = len(self.pixels)
        if count == 0 or 0 in self.pixels.shape:
            raise UsageError("pixels is empty.", hint="Frames holds at least one picture.")
        _check_clock("seconds", self.seconds, np.dtype(np.float64), count)
        _check_clock("indices", self.indices, np.dtype(np.int64), count)

    def __len__(self) -> int:
        return len(self.pixels)

    def __getitem__(self, which: slice | Sequence[int] | NDArray[np.integer]) -> Frames:
        """Frames at some positions of this value; the clock comes along."""
        return replace(
            self,
            pixels=self.pixels[which],
            seconds=self.seconds[which],
            indices=self.indices[which],
        )

    def __iter__(self) -> Iterator[tuple[float, NDArray[np.uint8]]]:
        """Pairs of (seconds, uint8[H, W, 3])."""
        return zip(self.seconds.tolist(), self.pixels, strict=True)

    def __repr__(self) -> str:
        t, h, w, _ = self.pixels.shape
        return f"Frames(uint8[{t}, {h}, {w}, 3], {self.span}, source={self.source!r})"

    def warned(self, sentence: str) -> Frames:
        """The same frames with one more warning, said once."""
        return replace(self, warnings=tuple(dict.fromkeys([*self.warnings, sentence])))

    @property
    def span(self) -> str:
        """First and last time, as ``0.00–150.28 s``."""
        return f"{self.seconds[0]:.2f}–{self.seconds[-1]:.2f} s"

    @property
    def seen(self) -> str:
        """One line for people: ``saw 32 of 4512 frames, 0.00–150.28 s``."""
        total = f" of {self.total_frames}" if self.total_frames is not None else ""
        noun = "frame" if (self.total_frames or len(self)) == 1 else "frames"
        return f"saw {len(self)}{total} {noun}, {self.span}"

    def to_dict(self) -> dict[str, Any]:
        """Everything but the pixels, ready for JSON."""
        return {
            "source": self.source,
            "num_frames": len(self),
            "total_frames": self.total_frames,
            "duration_seconds": self.duration_seconds,
            "source_fps": self.source_fps,
            "height": self.pixels.shape[1],
            "width": self.pixels.shape[2],
            "indices": self.indices.tolist(),
            "seconds": [round(s, 6) for s in self.seconds.tolist()],
            "warnings": list(self.warnings),
        }


@dataclass(frozen=True, eq=False, repr=False)
class Features:
    """What an encoder saw of one video and stored: rows instead of pictures, and how they came."""

    values: Any
    """float[N, L, D] tensor: rows, tower layers, width."""
    num_frames: int
    """Frames that were looked at."""
    seconds: tuple[float, ...] = ()
    """Presentation times of the frames, where they were written down."""
    source: str = ""
    """What the user would call the source."""
    made: Mapping[str, Any] = field(default_factory=dict)
    """Tower, layer, pooling and sampling, as the file says."""
    warnings: tuple[str, ...] = ()
    """What the user should know, a plain sentence each."""

    @property
    def seen(self) -> str:
        """One line for people: ``saw features of 100 frames, 0.00–150.28 s``."""
        span = f", {self.seconds[0]:.2f}–{self.seconds[-1]:.2f} s" if self.seconds else ""
        return f"saw features of {self.num_frames} frames{span}"

    def to_dict(self) -> dict[str, Any]:
        """Everything but the rows, ready for JSON."""
        return {
            "source": self.source,
            "num_frames": self.num_frames,
            "seconds": list(self.seconds),
            "features": dict(self.made),
            "warnings": list(self.warnings),
        }


DAMAGE = ("damaged_packets", "damaged_frames")
"""Fields that count what of a source was damaged; they stand in a record where they are not 0."""


@dataclass(frozen=True)
class Shown(Plain):
    """What a model was shown of one medium: a record of its frames or features, without pixels."""

    about: Mapping[str, Any]
    """What :meth:`Frames.to_dict` or :meth:`Features.to_dict` says."""

    @staticmethod
    def of(medium: Frames | Features) -> Shown:
        """The record of frames or features."""
        about = medium.to_dict()
        if isinstance(medium, Frames) and medium.left_out_seconds:
            about["left_out_seconds"] = [round(s, 6) for s in medium.left_out_seconds]
        for name in DAMAGE if isinstance(medium, Frames) else ():
            if count := getattr(medium, name):
                about[name] = count
        return Shown(about)

    @property
    def warnings(self) -> tuple[str, ...]:
        """What the user should know, a plain sentence each."""
        return tuple(self.about["warnings"])

    @property
    def indices(self) -> tuple[int, ...]:
        """Positions of the frames in their source; empty for features."""
        return tuple(self.about.get("indices", ()))

    @property
    def seconds(self) -> tuple[float, ...]:
        """Presentation times of the frames."""
        return tuple(self.about["seconds"])

    @property
    def left_out_seconds(self) -> tuple[float, ...]:
        """Times of frames that were decoded and left out."""
        return tuple(self.about.get("left_out_seconds", ()))

    @property
    def damage(self) -> dict[str, int]:
        """How many packets and frames of the source were damaged."""
        return {name: self.about.get(name, 0) for name in DAMAGE}

    def to_dict(self) -> dict[str, Any]:
        """The record, ready for JSON."""
        return dict(self.about)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Shown:
        """The value that :meth:`to_dict` wrote."""
        return cls(values)


def _check_clock(name: str, values: NDArray[Any], dtype: np.dtype[Any], count: int) -> None:
    if values.shape != (count,) or values.dtype != dtype:
        raise UsageError(
            f"{name} is {values.dtype}{list(values.shape)} for {count} frames.",
            hint=f"It must be {dtype}[{count}].",
        )
    if not np.all(np.isfinite(values)) or np.any(np.diff(values) <= 0):
        raise UsageError(f"{name} does not increase.", hint="Sort the frames and drop repeats.")


@dataclass(frozen=True)
class PictureFolder:
    """A folder of pictures that were taken at a steady rate, in the order of their numbers."""

    path: Path
    fps: float
    """Pictures a second; a folder that is given by its path alone is shown at one a second."""

    def __post_init__(self) -> None:
        if not (math.isfinite(self.fps) and self.fps > 0):
            raise UsageError(f"fps is {self.fps:g}; it must be above 0.", hint="Try 1.")

    def __str__(self) -> str:
        return str(self.path)


Source = str | Path | bytes | BinaryIO | Frames | NDArray[np.uint8] | Sequence[Any] | PictureFolder
"""What a user may pass as a video or image: path, URL, bytes, open file, frames, uint8[T, H, W, 3]
(a torch tensor as well), a list of pictures, or a folder of them with its rate; see
:mod:`kinema.video.source`."""
