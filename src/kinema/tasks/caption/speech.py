"""Words of a video with their times, from a speech model that is loaded when it is first needed."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

from kinema.captioning.records import Word
from kinema.families.hub import download
from kinema.identity import identity_of
from kinema.video import Workers

_STRETCH_SECONDS = 600.0
"""Listened to at a time, so that memory does not grow with the video."""


@lru_cache(1)
def speech_model(name: str) -> Speech:
    """The speech model of this process; its weights are loaded once."""
    return Speech(name)


@dataclass(eq=False)
class Speech:
    """A speech model by name: a folder, or a name on a model hub."""

    name: str
    _lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def words(
        self, source: str, duration_seconds: float, workers: Workers, *, track: int | None = None
    ) -> tuple[Word, ...]:
        """What is said in a video, in order, on the clock of its video track.

        Raises:
            MediaError: the file cannot be read.
            ModelError: the model cannot be used.
        """
        heard = []
        start = 0.0
        while start < duration_seconds:
            end = min(start + _STRETCH_SECONDS, duration_seconds)
            sound = workers.load_sound(source, start_seconds=start, end_seconds=end, track=track)
            with self._lock:
                spoken = list(self._transcriber.words(sound.samples, rate=sound.rate))
            heard += [
                Word(
                    text=text,
                    start_seconds=round(start + begins, 3),
                    end_seconds=round(start + ends, 3),
                )
                for text, begins, ends in spoken
            ]
            start = end
        return tuple(heard)

    @property
    def fingerprint(self) -> str:
        """Changes with the model."""
        return identity_of(self._folder)

    @cached_property
    def _folder(self) -> Path:
        path = Path(self.name).expanduser()
        return path if path.is_dir() else download(self.name)

    @cached_property
    def _transcriber(self) -> Any:
        from kinema.engines.speech import Transcriber  # noqa: PLC0415  imports torch

        return Transcriber(self._folder)
