"""What a data file consists of: lengths, labels, durations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from kinema.datasets.samples import Sample, read_samples
from kinema.datasets.segments import parse_segments
from kinema.errors import KinemaError
from kinema.messages import FeaturesPart, VideoPart
from kinema.video import probe

_BINS = 12


@dataclass(frozen=True)
class Histogram:
    """How often values lie in equal steps between the smallest and the largest."""

    title: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]
    median: float

    @classmethod
    def of(cls, title: str, values: Sequence[float]) -> Histogram:
        """The histogram of at least one value."""
        low, high = min(values), max(values)
        step = (high - low) / _BINS or 1.0
        places = Counter(min(_BINS - 1, int((value - low) / step)) for value in values)
        return cls(
            title,
            tuple(low + step * place for place in range(_BINS + 1)),
            tuple(places[place] for place in range(_BINS)),
            median(values),
        )


@dataclass(frozen=True)
class DataStats:
    """The numbers of one file."""

    samples: int
    media: int
    """Different ones."""
    unreadable: int
    """Media whose duration could not be found."""
    histograms: tuple[Histogram, ...]
    labels: Mapping[str, int]
    """Segments by label, in answers that list segments."""

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return {
            "samples": self.samples,
            "media": self.media,
            "unreadable": self.unreadable,
            "labels": dict(self.labels),
            **{
                h.title: {"edges": list(h.edges), "counts": list(h.counts), "median": h.median}
                for h in self.histograms
            },
        }


def data_stats(path: Path, *, media: Path | None = None) -> DataStats:
    """Count what is in a data file of any known shape.

    Raises:
        UsageError: a row is no sample; names its line.
    """
    samples = list(read_samples(path, media=media))
    sources = {
        part.source: part
        for sample in samples
        for part in sample.conversation.media
        if isinstance(part, VideoPart | FeaturesPart) and isinstance(part.source, str | Path)
    }
    durations = [_duration(part) for part in sources.values()]
    known = [seconds for seconds in durations if seconds is not None]
    columns = {
        "words of a question": [_words(sample, "user") for sample in samples],
        "words of an answer": [_words(sample, "assistant") for sample in samples],
        "turns": [float(len(sample.conversation.messages)) for sample in samples],
        "seconds of a video": known,
    }
    return DataStats(
        samples=len(samples),
        media=len(sources),
        unreadable=len(durations) - len(known),
        histograms=tuple(Histogram.of(t, values) for t, values in columns.items() if values),
        labels=dict(_labels(samples).most_common()),
    )


def _duration(part: VideoPart | FeaturesPart) -> float | None:
    """Seconds that a medium shows; None when it cannot be read."""
    try:
        if isinstance(part, VideoPart):
            return probe(part.source).duration_seconds
        if isinstance(part.source, Path):
            from kinema.models.videolm.features import read_header  # noqa: PLC0415  imports torch

            return read_header(part.source).duration_seconds
    except KinemaError:
        pass
    return None


def _words(sample: Sample, role: str) -> float:
    turns = (message for message in sample.conversation.messages if message.role == role)
    return float(sum(len(message.text.split()) for message in turns))


def _labels(samples: Iterable[Sample]) -> Counter[str]:
    counts: Counter[str] = Counter()
    for sample in samples:
        if sample.meta.get("task") == "segments":
            for message in sample.conversation.messages:
                if message.role == "assistant":
                    counts.update(s.label for s in parse_segments(message.text).segments)
    return counts
