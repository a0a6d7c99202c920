"""Action segmentation: Breakfast and 50Salads, in MS-TCN's layout and in the fork's."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from kinema.datasets.segments import Ends, as_text, parse_segments, runs
from kinema.evaluation.benchmarks.base import Folder
from kinema.evaluation.records import Item
from kinema.textfiles import read_text

_FPS = {"breakfast": 15.0, "50salads": 30.0}
# The first one stands for frames that nothing covers.
_IDLE = {"breakfast": ["SIL"], "50salads": ["action_start", "action_end"]}
# P03_cam01_P03_cereals of the feature files is P03/cam01/P03_cereals.avi on disk.
_VIEW = re.compile(r"(P\d+)_((?:cam|webcam|stereo)\d*)_(P\d+_\w+)")


def ms_tcn(folder: Folder, split: str) -> list[Item]:
    """``groundTruth/``, ``mapping.txt`` and ``splits/test.split<K>.bundle``.

    One fold, or ``all`` of them; every video is in the test list of exactly one.
    """
    labels = [line.split(maxsplit=1)[1] for line in folder.lines("mapping.txt")]
    folds = [split]
    if split == "all":
        names = (path.name for path in folder.path("splits").glob("test.split*.bundle"))
        folds = sorted(name.split(".")[1] for name in names)
    return [
        _from_frames(folder, Path(line).stem, labels, fold)
        for fold in folds
        for line in folder.lines(f"splits/test.{fold}.bundle")
    ]


def _from_frames(folder: Folder, video: str, labels: list[str], fold: str) -> Item:
    frames = folder.lines(f"groundTruth/{video}.txt")
    item = _item(
        folder,
        video,
        places=_places(video),
        question=_question(labels, _activity(video) if folder.name == "breakfast" else ""),
        references=tuple(as_text(runs(frames), ends="inclusive").splitlines()),
        num_frames=len(frames),
        labels=labels,
        ends="inclusive",
    )
    return replace(item, groups={**item.groups, "fold": fold})


def _places(video: str) -> Iterable[str]:
    yield video
    if match := _VIEW.fullmatch(video):
        person, camera, rest = match.groups()
        yield f"{person}/{camera}/{rest}"
        camera = re.sub(r"\d+$", "", camera)
        yield from (f"{person}/{camera}/{rest}{channel}" for channel in ("", "_ch0", "_ch1"))


def _activity(video: str) -> str:
    """The last word of the name: ``P03_cam01_P03_salat``, ``P03/cam01/P03_salat_ch0.avi``."""
    return re.sub(r"_ch[01]$", "", Path(video).stem).rpartition("_")[2]


def breakfast_chat(folder: Folder, split: str) -> list[Item]:
    """``valid.txt`` with lines like ``/P03/cam01/P03_salat.avi``, and ``.avi.labels`` beside each.

    The question names the activity, as the fork's does.
    """
    listed = [line.lstrip("/") for line in folder.lines("valid.txt")]
    texts = {path: _labels_text(folder, path) for path in listed}
    labels = _vocabulary(texts.values())
    return [
        _fork_item(folder, path, text, labels, activity=_activity(path))
        for path, text in texts.items()
    ]


def _labels_text(folder: Folder, path: str) -> str:
    """Labels of a video; one stereo channel stands in for the other."""
    other = re.sub(r"_ch([01])", lambda m: f"_ch{1 - int(m[1])}", path)
    names = (f"{path}.labels", f"{other}.labels")
    return read_text(folder.path(*names))


def salads_chat(folder: Folder, split: str) -> list[Item]:
    """``timestampGT2/<video>`` files with ``start - end action`` lines."""
    paths = sorted(p for p in folder.path("timestampGT2").iterdir() if p.is_file())
    folder.read_files += paths
    texts = {path.name.removesuffix(".txt"): read_text(path) for path in paths}
    labels = _vocabulary(texts.values())
    return [
        _fork_item(folder, path, text, labels, activity="making salads")
        for path, text in texts.items()
    ]


def _fork_item(folder: Folder, path: str, text: str, labels: list[str], *, activity: str) -> Item:
    lines = (line.strip().replace("_", " ") for line in text.splitlines())
    # The written end is exclusive and repeats as the next start.
    num_frames = parse_segments(text).segments[-1].end + 1
    return _item(
        folder,
        path,
        places=[path],
        question=f"List down all the segments. action is {activity}",
        references=tuple(filter(None, lines)),
        num_frames=num_frames,
        labels=labels,
        ends="exclusive",
    )


def _vocabulary(texts: Iterable[str]) -> list[str]:
    found = {s.label: None for text in texts for s in parse_segments(text).segments}
    return sorted(found)


def _question(labels: list[str], activity: str) -> str:
    known = f" The activity is {activity}." if activity else ""
    return (
        "List all action segments of the video in order, one a line, as `start-end label` with "
        f"frame numbers.{known} Labels: {', '.join(label.replace('_', ' ') for label in labels)}."
    )


def _item(
    folder: Folder,
    video: str,
    *,
    places: Iterable[str],
    question: str,
    references: tuple[str, ...],
    num_frames: int,
    labels: list[str],
    ends: Ends,
) -> Item:
    name = folder.name.removesuffix("-chat")
    fill, *_ = idle = _IDLE[name]
    return folder.item(
        video,
        places=tuple(places),
        id=video,
        task="segments",
        question=question,
        references=references,
        groups={"activity": _activity(video)} if name == "breakfast" else {},
        facts={
            "num_frames": num_frames,
            "fps": _FPS[name],
            "vocabulary": labels,
            "background": fill if fill in labels else "background",
            "idle": idle,
            "ends": ends,
        },
    )
