"""Data sets of others, written in kinema's format."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from kinema.datasets.folds import Split, breakfast_fold, check_leak, listed, salads_fold
from kinema.datasets.recordings import WITHOUT_CLASS, Recording, breakfast, salads
from kinema.datasets.samples import (
    Sample,
    detect_shape,
    features_name,
    find_features,
    read_samples,
    write_samples,
)
from kinema.datasets.segment_chat import Mode, SegmentChat
from kinema.datasets.shapes import TITLES
from kinema.datasets.video_chatgpt import video_instruct, write_video_instruct
from kinema.errors import MediaError, MediaNotFound, UnknownName, UsageError
from kinema.files import FEATURES_SUFFIXES, VIDEO_SUFFIXES, whole_file
from kinema.messages import FeaturesPart, Part, VideoPart
from kinema.tasks.features.job import INDEX
from kinema.textfiles import read_json_lines, read_lines
from kinema.video import plan


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """What is converted, and how."""

    media: Path | None = None
    """Folder that media names are relative to, instead of the data file's."""
    features: Path | None = None
    """Folder that `kinema features` filled; samples then name features instead of videos."""
    fold: int | None = None
    """Hold out this fold of persons (breakfast: 1 to 4, 50salads: 1 to 5)."""
    held_out: Path | None = None
    """Hold out what this file lists, as the fork's valid.txt or MS-TCN's test.split1.bundle."""
    allow_leak: bool = False
    """Accept a list that holds out videos whose event other cameras filmed for training."""
    mode: Mode = "replicate"
    """Repeats show the same video (replicate), or one augmented copy after the other (augment)."""
    repeat_segments: int | None = None
    """How often the question for all segments is learned (breakfast: 12, 50salads: 150)."""
    repeat_others: int | None = None
    """How often other questions are (breakfast: 2, 50salads: 90)."""
    questions: Path | None = None
    """Folder of files with further questions (Q: and A: lines), laid out as the videos are."""
    hide_activity: bool = False
    """Ask for all segments without naming the activity, which the fork gives away."""
    grid: int | None = None
    """Write frame numbers on a grid of so many steps, as 1000; frames of the video otherwise."""
    labels: tuple[str, ...] = ()
    """Other names for labels: walk_in=SIL, or a file of lines `raw name`."""
    raw_labels: bool = False
    """Keep Breakfast's walk_in and walk_out, which are SIL otherwise."""
    skip_missing: bool = False
    """Leave samples out whose video or features are not there; how many is said."""


@dataclass(frozen=True)
class Converted:
    """What was written."""

    files: Mapping[Path, int]
    """Samples by file."""
    notes: tuple[str, ...] = ()
    """What the user should know, a sentence each."""


@dataclass(frozen=True)
class _Actions:
    """One data set of labelled recordings."""

    find: Callable[[Path], list[Recording]]
    fold: Callable[[Sequence[Recording], int], Split]
    repeats: tuple[int, int]
    """Of the question for all segments, and of others."""
    labels: Mapping[str, str]


_ACTIONS: Mapping[str, _Actions] = {
    "breakfast": _Actions(breakfast, breakfast_fold, (12, 2), WITHOUT_CLASS),
    "50salads": _Actions(salads, salads_fold, (150, 90), {}),
}
_CONVERSATIONS = ("llava", "neva", "sharegpt", "messages", "dataset", "auto")
FORMATS = (*_ACTIONS, "video-chatgpt", *_CONVERSATIONS)
READERS: dict[str, Callable[[Path], Iterable[Sample]]] = {}
"""Formats from outside of the package: each reads a source into samples."""


def convert(
    name: str, source: Path, output: Path, options: ConvertOptions = ConvertOptions()
) -> Converted:
    """Write a data set as training data.

    Args:
        name: one of :data:`FORMATS`.
        source: its folder or file.
        output: a ``.jsonl`` file; for ``breakfast`` and ``50salads`` also a folder, which then
            gets ``train.jsonl`` and ``test.jsonl``.
        options: see :class:`ConvertOptions`.

    Raises:
        UnknownName: there is no such format.
        UsageError: the source is not in it, or test events would leak into training.
        MediaNotFound: a video or its features are not there.
    """
    if name not in (known := (*FORMATS, *READERS)):
        raise UnknownName("data format", name, known)
    if name in _ACTIONS:
        return _convert_actions(_ACTIONS[name], source, output, options)
    _check_file(output)
    if name in READERS:
        return _convert_chat(READERS[name](source), output, options, ())
    if name == "video-chatgpt":
        return _convert_chat(video_instruct(source, _finder(source, options)), output, options, ())
    shape = detect_shape(source)
    samples = (_with_features(s, options) for s in read_samples(source, media=options.media))
    return _convert_chat(samples, output, options, (f"{source.name}: {TITLES[shape]}.",))


def _check_file(output: Path) -> None:
    if output.suffix not in (".jsonl", ".json"):
        raise UsageError(f"{output} is no .jsonl file.", hint="Write to: train.jsonl")
    output.parent.mkdir(parents=True, exist_ok=True)


def _convert_actions(
    actions: _Actions, source: Path, output: Path, options: ConvertOptions
) -> Converted:
    recordings = actions.find(source)
    chat = _chat(actions, options)
    count = _FrameCounts(options.features)
    if output.suffix in (".jsonl", ".json"):
        _check_file(output)
        listed_out = options.held_out is not None or options.fold is not None
        whole = Split(tuple(recordings), ())
        split = _split(actions, recordings, options) if listed_out else whole
        written = {output: chat.training(split.train, source, count)}
    else:
        output.mkdir(parents=True, exist_ok=True)
        split = _split(actions, recordings, options)
        written = {
            output / "train.jsonl": chat.training(split.train, source, count),
            output / "test.jsonl": chat.testing(split.test, source, count),
        }
    files = {path: _write(path, samples) for path, samples in written.items()}
    return Converted(files, tuple(_about(split)))


def _split(actions: _Actions, recordings: Sequence[Recording], options: ConvertOptions) -> Split:
    if options.held_out is not None and options.fold is not None:
        raise UsageError("--fold and --held-out exclude each other.", hint="Give one of them.")
    if options.held_out is None:
        return actions.fold(recordings, options.fold or 1)
    split = listed(recordings, options.held_out)
    if not options.allow_leak:
        check_leak(split)
    return split


def _about(split: Split) -> Iterator[str]:
    yield f"{len(split.train)} recordings to train on, {len(split.test)} held out."
    if leaks := split.leaks:
        yield (
            f"{len(leaks)} of the {len(split.test)} held out show an event of the training data: "
            "scores on them say little."
        )


def _chat(actions: _Actions, options: ConvertOptions) -> SegmentChat:
    segments, others = actions.repeats
    labels = dict(actions.labels) if not options.raw_labels else {}
    return SegmentChat(
        repeat_segments=segments if options.repeat_segments is None else options.repeat_segments,
        repeat_others=others if options.repeat_others is None else options.repeat_others,
        mode=options.mode,
        grid=options.grid,
        hide_activity=options.hide_activity,
        labels=labels | read_labels(options.labels),
        questions=options.questions,
        features=options.features,
    )


def read_labels(words: Iterable[str]) -> dict[str, str]:
    """Names of labels: ``raw=name`` words, or files with a line ``raw name`` each.

    Raises:
        UsageError: a word is neither.
    """
    names: dict[str, str] = {}
    for word in words:
        raw, equals, name = word.partition("=")
        if equals:
            names[raw] = name
        elif Path(word).is_file():
            lines = (line.split(maxsplit=1) for _, line in read_lines(Path(word)))
            names |= {line[0]: line[1].strip() for line in lines if len(line) == 2}
        else:
            raise UsageError(f"--labels {word} maps nothing.", hint="walk_in=SIL, or a file.")
    return names


class _FrameCounts:
    """How many frames videos have: as the features say, else as their packets do."""

    def __init__(self, features: Path | None) -> None:
        index = None if features is None else features / INDEX
        self._known: dict[str, int] = {}
        if index is not None and index.is_file():
            records = (row.value for row in read_json_lines(index))
            self._known = {r["video"]: r["total_frames"] for r in records if "error" not in r}

    def __call__(self, recording: Recording) -> int:
        path = recording.video.as_posix()
        listed = (count for name, count in self._known.items() if path.endswith(f"/{name}"))
        return next(listed, None) or plan(recording.video).total_frames


def _finder(source: Path, options: ConvertOptions) -> Callable[[str], Part]:
    """From a ``video_id`` to its file: the one of that name, with whatever ending."""
    folder = options.media or source.parent
    suffixes = VIDEO_SUFFIXES if options.features is None else FEATURES_SUFFIXES
    where = options.features or folder
    paths = sorted(p for p in where.rglob("*") if p.suffix.lower() in suffixes)
    known = {p.name.partition(".")[0]: p for p in paths} | {p.stem: p for p in paths}

    def find(video_id: str) -> Part:
        path = known.get(video_id, where / features_name(Path(video_id)))
        if options.features is not None:
            return FeaturesPart(path)
        return VideoPart(known.get(video_id, where / video_id))

    return find


def _with_features(sample: Sample, options: ConvertOptions) -> Sample:
    if options.features is None:
        return sample
    folder = options.features

    def swapped(part: Part) -> Part:
        if isinstance(part, VideoPart) and isinstance(part.source, Path):
            try:
                return FeaturesPart(find_features(part.source, folder))
            except MediaNotFound:
                if not options.skip_missing:
                    raise
                return FeaturesPart(folder / features_name(Path(part.source.name)))
        return part

    return replace(sample, conversation=sample.conversation.mapped(swapped))


def _convert_chat(
    samples: Iterable[Sample], output: Path, options: ConvertOptions, notes: tuple[str, ...]
) -> Converted:
    left_out = 0
    # Video-ChatGPT's script looks for features where it is told their folder, and goes on without.
    is_theirs = output.suffix == ".json"
    looks = not is_theirs or options.features is not None

    def kept() -> Iterator[Sample]:
        nonlocal left_out
        for sample in (_saved(one, output) for one in samples):
            sources = [part.source for part in sample.conversation.media]
            paths = [p for one in sources for p in (one if isinstance(one, list) else [one])]
            missing = [p for p in paths if isinstance(p, Path) and not p.exists()]
            if not missing or not looks:
                yield sample
            elif options.skip_missing or is_theirs:
                left_out += 1
            else:
                raise MediaNotFound(
                    f"{sample.id} (line {sample.line}) shows {missing[0]!s}, which is not there.",
                    hint="Give its folder with --media, or --skip-missing to leave it out.",
                )

    number = _write(output, kept())
    if left_out:
        notes = (*notes, f"{left_out} samples were left out: their media are missing.")
    return Converted({output: number}, notes)


def _saved(sample: Sample, output: Path) -> Sample:
    """Media that came as bytes inside the data, written to files beside the output."""
    folder = output.with_name(f"{output.stem}-media")
    number = 0

    def to_file(part: Part) -> Part:
        nonlocal number
        if not isinstance(part, VideoPart) or not isinstance(part.source, bytes):
            return part
        folder.mkdir(exist_ok=True)
        path = folder / f"{sample.line:06d}-{number}.mp4"
        number += 1
        with whole_file(path) as draft:
            draft.write_bytes(part.source)
        return replace(part, source=path)

    return replace(sample, conversation=sample.conversation.mapped(to_file))


def _write(path: Path, samples: Iterable[Sample]) -> int:
    try:
        write = write_video_instruct if path.suffix == ".json" else write_samples
        return write(path, samples)
    except MediaError as problem:
        raise type(problem)(f"{path.name}: {problem}", hint=problem.hint) from problem
