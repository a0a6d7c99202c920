"""Subtitles as values: cues with their times, and which of a video's subtitles is meant."""

from __future__ import annotations

import math
import os
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import takewhile
from pathlib import Path

from kinema.errors import UsageError
from kinema.files import stamp_of
from kinema.plain import Plain

AUTO = "auto"
SIDECAR_SUFFIXES = (".srt", ".vtt", ".ass", ".ssa")
"""Ends of subtitle files that lie beside a video and are called as it is."""
_PICTURES_OF_WORDS = (".sup", ".idx")


@dataclass(frozen=True, kw_only=True)
class Cue(Plain):
    """Words that are shown over a video for a while; times are presentation seconds."""

    start_seconds: float
    end_seconds: float
    text: str
    """Plain words; lines are divided by a line break."""


@dataclass(frozen=True, kw_only=True)
class SubtitleTrack(Plain):
    """Subtitles that belong to a video: a track inside its file, or a file beside it."""

    index: int
    """Position among the tracks of the file, with the files beside it behind them."""
    codec: str
    kind: str = "text"
    """``text``, ``pictures`` of words, or ``other``: only text can be read."""
    language: str | None = None
    title: str | None = None
    default: bool = False
    """Marked as those to show."""
    forced: bool = False
    """Only what is needed by those who understand the language."""
    file: str | None = None
    """Name of the file beside the video; None for a track inside it."""

    @property
    def name(self) -> str:
        """For people: ``track 0 (subrip, eng)`` or ``clip.en.srt``."""
        about = ", ".join(filter(None, (self.codec, self.language, self.title)))
        return self.file or f"track {self.index} ({about})"


@dataclass(frozen=True, kw_only=True)
class Subtitles(Plain):
    """All cues of one track, in order."""

    track: SubtitleTrack
    cues: tuple[Cue, ...]
    warnings: tuple[str, ...] = ()


def best_track(tracks: Sequence[SubtitleTrack]) -> SubtitleTrack | None:
    """The text that players show: not forced ones, inside the file before beside it, marked ones.

    None where there is no text.
    """
    text = [track for track in tracks if track.kind == "text"]
    return min(
        text, key=lambda t: (t.forced, t.file is not None, not t.default, t.index), default=None
    )


def parse_track(text: str | int | Path | None) -> int | Path | None:
    """What a user means by ``auto``, a track's number or a file; None for ``auto``.

    Raises:
        UsageError: it is neither, or there is no such file.
    """
    if text is None or text == AUTO:
        return None
    if isinstance(text, str) and text.isdigit():
        return int(text)
    if isinstance(text, int) and text >= 0:
        return text
    path = Path(str(text)).expanduser()
    if not path.is_file():
        raise UsageError(
            f"{str(text)!r} is neither a subtitle file nor the number of a track.",
            hint="Give auto, a number as `kinema probe` lists them, or a .srt, .vtt or .ass file.",
        )
    return path


def require_one_video(subtitles: str | None, num_videos: int) -> None:
    """Refuse one subtitle file for several videos.

    Raises:
        UsageError: it is one.
    """
    if subtitles is not None and num_videos > 1 and isinstance(parse_track(subtitles), Path):
        raise UsageError(
            f"{subtitles} is one subtitle file, and there are {num_videos} videos.",
            hint="Put files beside the videos, called as they are (clip.srt), and give auto.",
        )


def find_sidecars(video: Path) -> list[Path]:
    """Subtitle files beside a video: ``clip.srt``, then ``clip.de.srt`` and others by name."""
    folder = video.parent
    try:
        names = _subtitle_files(folder, folder.stat().st_mtime_ns)
    except OSError:
        return []
    first = bisect_left(names, f"{video.stem}.")
    beside = list(takewhile(lambda name: name.startswith(f"{video.stem}."), names[first:]))
    own = [name for name in beside if Path(name).stem == video.stem]
    others = [name for name in beside if name not in own]
    return [folder / name for name in (*own, *others) if (folder / name).is_file()]


@lru_cache(maxsize=4)
def _subtitle_files(folder: Path, _mtime_ns: int) -> list[str]:
    """Names in a folder, sorted; of a folder of many videos they are looked up for each."""
    suffixes = (*SIDECAR_SUFFIXES, *_PICTURES_OF_WORDS)
    return sorted(name for name in os.listdir(folder) if name.lower().endswith(suffixes))


def stamp_of_subtitles(video: Path, subtitles: str | None) -> str:
    """Changes when a file that the subtitles may come from does; the video itself left aside."""
    if subtitles is None:
        return ""
    file = parse_track(subtitles)
    files = [file] if isinstance(file, Path) else find_sidecars(video)
    return " ".join(f"{path.name} {stamp_of(path)}" for path in files)


def cues_between(
    cues: Sequence[Cue], start_seconds: float = 0.0, end_seconds: float | None = None
) -> tuple[Cue, ...]:
    """Those that are shown at some time of a half-open range."""
    end = math.inf if end_seconds is None else end_seconds
    return tuple(
        cue
        for cue in cues
        if cue.start_seconds < end
        and max(cue.end_seconds, cue.start_seconds + 1e-9) > start_seconds
    )


def as_lines(cues: Sequence[Cue]) -> str:
    """One line a cue, its times before its words: ``[1.0–2.5 s] Hello.``"""
    return "\n".join(
        f"[{cue.start_seconds:.1f}–{cue.end_seconds:.1f} s] {' '.join(cue.text.split())}"
        for cue in cues
    )
