"""From labelled recordings to conversations: the training data of the Breakfast fork."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from kinema.datasets.questions import Exchange, Move, read_exchanges, segments_exchange
from kinema.datasets.recordings import Recording, renamed, rescaled
from kinema.datasets.samples import Sample, as_conversation, find_features
from kinema.datasets.variants import VARIANTS
from kinema.errors import UsageError
from kinema.messages import FeaturesPart, Part, VideoPart

Mode = Literal["replicate", "augment"]

CountFrames = Callable[[Recording], int]
"""Frames of a recording's video."""


@dataclass(frozen=True, kw_only=True)
class SegmentChat:
    """How recordings become samples.

    Raises:
        UsageError: augmented copies without features: they exist as features only.
    """

    repeat_segments: int
    """How often a recording's question for all segments is learned."""
    repeat_others: int
    """How often its other questions are."""
    mode: Mode = "replicate"
    """Repeats show the same video, or one augmented copy after the other."""
    hide_activity: bool = False
    """Ask for the segments without naming the activity."""
    grid: int | None = None
    """Write frame numbers on a grid of so many steps, instead of frames of the video."""
    labels: Mapping[str, str] | None = None
    """Names that stand for raw labels."""
    questions: Path | None = None
    """Folder of files with further questions, laid out as the videos are."""
    features: Path | None = None
    """Folder of features that stand for the videos."""

    def __post_init__(self) -> None:
        if self.mode == "augment" and self.features is None:
            raise UsageError(
                "--mode augment wants augmented copies, and they exist as features only.",
                hint="Extract them: kinema features … --augment all; then give --features DIR.",
            )

    def training(
        self, recordings: Iterable[Recording], root: Path, count: CountFrames
    ) -> Iterator[Sample]:
        """Every question of every recording, as often as it is repeated.

        Args:
            recordings: what is trained on.
            root: the folder of the data set; ids and question files are relative to it.
            count: frames of a video; asked only where numbers are put on a grid.

        Raises:
            MediaNotFound: a video has no features.
        """
        for recording in recordings:
            for number, exchange in enumerate(self._exchanges(recording, root, count)):
                times = self.repeat_segments if exchange.asks_segments else self.repeat_others
                for repeat in range(times):
                    yield self._sample(recording, root, exchange, number, repeat)

    def testing(
        self, recordings: Iterable[Recording], root: Path, count: CountFrames
    ) -> Iterator[Sample]:
        """Every question once, about the video as it is."""
        once = replace(self, repeat_segments=1, repeat_others=1, mode="replicate")
        return once.training(recordings, root, count)

    def _exchanges(
        self, recording: Recording, root: Path, count: CountFrames
    ) -> Iterator[Exchange]:
        segments = renamed(recording.segments, self.labels or {})
        move: Move = lambda frame: frame  # noqa: E731
        if (grid := self.grid) is not None:
            num_frames = count(recording)
            segments = rescaled(segments, num_frames=num_frames, grid=grid)
            # Frame numbers, counted from one; those of the end stay inside.
            move = lambda frame: min(grid, round((frame - 1) * grid / num_frames) + 1)  # noqa: E731
        yield segments_exchange(recording, segments, hide_activity=self.hide_activity)
        if self.questions is not None:
            path = self.questions / f"{recording.video.relative_to(root)}.labels"
            yield from read_exchanges(path, move=move) if path.is_file() else ()

    def _sample(
        self, recording: Recording, root: Path, exchange: Exchange, number: int, repeat: int
    ) -> Sample:
        variant = ("", *VARIANTS)[repeat % (1 + len(VARIANTS))] if self.mode == "augment" else ""
        medium: Part = VideoPart(recording.video)
        if self.features is not None:
            medium = FeaturesPart(find_features(recording.video, self.features, variant=variant))
        about = {
            "person": recording.person,
            "camera": recording.camera,
            "activity": recording.activity,
            "event": recording.event,
            "task": "segments" if exchange.asks_segments else "question",
        }
        about |= {"grid": str(self.grid)} if self.grid is not None else {}
        about |= {"variant": variant} if variant else {}
        return Sample(
            f"{recording.video.relative_to(root).with_suffix('').as_posix()}#{number}.{repeat}",
            as_conversation(exchange.question, medium, exchange.answer, number),
            about,
        )
