"""Data validated before any time on a GPU is spent: every bad row, with its line."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from kinema.datasets.rows import read_rows
from kinema.datasets.samples import Sample, sample_of
from kinema.datasets.shapes import Shape, shape_of
from kinema.errors import KinemaError, UsageError
from kinema.messages import Conversation, FeaturesPart, ImagePart, Part, VideoPart
from kinema.plain import Plain
from kinema.types import FrameSampling
from kinema.video import Workers, load_image

_LOOK = 2
"""Frames that are decoded of every range of a video."""


@dataclass(frozen=True)
class BadRow(Plain):
    """One row that cannot be learned from."""

    line: int
    id: str
    problems: tuple[str, ...]


@dataclass(frozen=True)
class Longest(Plain):
    """The sample with the most tokens."""

    tokens: int
    line: int
    limit: int
    """What fits."""


@dataclass(frozen=True)
class Report(Plain):
    """What was found in a file."""

    rows: int
    media: int
    """Different ones."""
    shapes: dict[Shape, int]
    bad: tuple[BadRow, ...] = ()
    longest: Longest | None = None
    """Where a model was given."""


@dataclass
class _Row:
    """A row on its way through the checks."""

    line: int
    id: str = ""
    sample: Sample | None = None
    problems: list[str] = field(default_factory=list)


def check_data(
    path: Path,
    *,
    media: Path | None = None,
    decode: bool = True,
    workers: int = 2,
    model: str | None = None,
    max_length: int | None = None,
) -> Report:
    """Check every row of a data file of any known shape.

    Tags and media agree, files exist and decode, roles alternate, something is there to learn.

    Args:
        path: the file.
        media: what relative media paths start at, instead of the file's folder.
        decode: decode two frames of every range; else files need only be there.
        workers: processes that decode.
        model: a `VideoLM` that every sample must fit.
        max_length: tokens that fit, instead of all the model's positions.

    Raises:
        UsageError: there is no such file, or nothing in it.
        ModelError: the model cannot be used.
    """
    shapes: dict[Shape, int] = {}
    rows = list(_read(path, media or (path if path.is_dir() else path.parent), shapes))
    if not rows:
        raise UsageError(f"{path.name} is empty.", hint="Give a file with samples.")
    parts = {
        _key(part): part for row in rows if row.sample for part in row.sample.conversation.media
    }
    with Workers(workers) as readers, ThreadPoolExecutor(workers, "kinema-check") as pool:
        said = pool.map(lambda part: _problem(part, readers, decode), parts.values())
        problems = dict(zip(parts, said, strict=True))
    for row in rows:
        found = row.sample.conversation.media if row.sample else ()
        row.problems += filter(None, (problems[_key(part)] for part in found))
    longest = _measure(rows, model, max_length) if model is not None else None
    bad = tuple(BadRow(r.line, r.id, tuple(dict.fromkeys(r.problems))) for r in rows if r.problems)
    return Report(len(rows), len(parts), shapes, bad, longest)


def _measure(rows: Sequence[_Row], model: str, max_length: int | None) -> Longest | None:
    """The longest sample; those that do not fit become bad rows."""
    from kinema.tasks.data.lengths import Lengths  # noqa: PLC0415  imports torch

    lengths = Lengths(model, max_length=max_length)
    longest = None
    for row in rows:
        if row.sample is None or row.problems:
            continue
        try:
            tokens = lengths.of(row.sample.conversation)
        except KinemaError as problem:
            row.problems.append(str(problem))
            continue
        if tokens > lengths.limit:
            row.problems.append(f"It takes {tokens} tokens and {lengths.limit} fit.")
        if longest is None or tokens > longest.tokens:
            longest = Longest(tokens, row.line, lengths.limit)
    return longest


def _read(path: Path, folder: Path, shapes: dict[Shape, int]) -> Iterator[_Row]:
    for raw in read_rows(path):
        row = _Row(raw.line)
        try:
            row.sample = sample_of(raw, folder)
        except UsageError as problem:
            row.problems.append(str(problem))
        else:
            shape = shape_of(raw.value)
            shapes[shape] = shapes.get(shape, 0) + 1
            row.id = row.sample.id
            row.problems += turn_problems(row.sample.conversation)
        yield row


def turn_problems(conversation: Conversation) -> Iterator[str]:
    """What is wrong with the turns of a conversation that is to be learned."""
    turns = list(conversation.messages)
    if turns and turns[0].role == "system":
        turns = turns[1:]
    for place, turn in enumerate(turns):
        expected = ("user", "assistant")[place % 2]
        if turn.role != expected:
            yield f"Turn {place + 1} is the {turn.role}'s and should be the {expected}'s."
            return
    if not turns or turns[-1].role != "assistant":
        yield "The last turn is not the assistant's: there is nothing to learn from it."
    if not any(turn.text.strip() for turn in turns if turn.role == "assistant"):
        yield "No answer has words: there is nothing to learn."
    for place, turn in enumerate(turns):
        has_media = any(isinstance(p, VideoPart | ImagePart | FeaturesPart) for p in turn.parts)
        if not has_media and not turn.text.strip():
            yield f"Turn {place + 1} is empty."


def _problem(part: Part, workers: Workers, decode: bool) -> str:
    """Why a medium cannot be used; nothing when it can."""
    try:
        _look(part, workers, decode)
    except KinemaError as problem:
        return str(problem)
    return ""


def _look(part: Part, workers: Workers, decode: bool) -> None:
    if isinstance(part, FeaturesPart) and isinstance(part.source, Path):
        from kinema.models.videolm.features import load_features  # noqa: PLC0415  imports torch

        load_features(part.source)
    elif isinstance(part, ImagePart):
        load_image(part.source, load=workers.load_frames)
    elif isinstance(part, VideoPart) and decode:
        sampling = part.sampling
        ends = FrameSampling(num_frames=_LOOK, start=sampling.start, end=sampling.end)
        workers.load_frames(part.source, sampling=ends, strict=True)
    elif isinstance(part, VideoPart) and isinstance(part.source, Path) and not part.source.exists():
        raise UsageError(f"There is no file {part.source}.", hint="Check the path.")


def _key(part: Part) -> Any:
    """The same for parts that show the same."""
    if isinstance(part, VideoPart):
        return _source_key(part.source), part.sampling.start, part.sampling.end
    return _source_key(getattr(part, "source", part))


def _source_key(source: Any) -> Any:
    if isinstance(source, Sequence) and not isinstance(source, str | bytes):
        return tuple(map(_source_key, source))
    return source
