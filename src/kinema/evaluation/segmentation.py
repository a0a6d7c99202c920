"""Metrics of action segmentation, as the field defines them.

Sequences hold one label a frame; prediction and truth of a video are equally long. Definitions
follow the MS-TCN evaluation (Abu Farha and Gall, CVPR 2019), with values for the cases in which
that one divides by zero: two empty segment lists are equal, so Edit and F1 are then 100.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from functools import lru_cache
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from kinema.datasets.segments import Parsed, Segment, parse_segments, runs
from kinema.errors import UsageError

Labels = Sequence[str]
OVERLAPS = (0.10, 0.25, 0.50)


class Counts(NamedTuple):
    """Matched, invented and missed segments."""

    true_positives: int
    false_positives: int
    false_negatives: int


def correct_frames(
    prediction: Labels, truth: Labels, *, ignore: Collection[str] = ()
) -> tuple[int, int]:
    """Right frames and all frames; frames whose truth is in ``ignore`` are left out."""
    _require_equal_length(prediction, truth)
    pairs = [(p, t) for p, t in zip(prediction, truth, strict=True) if t not in ignore]
    return sum(p == t for p, t in pairs), len(pairs)


def edit_score(prediction: Labels, truth: Labels, *, ignore: Collection[str] = ()) -> float:
    """100 · (1 - Levenshtein distance / longer length) of the two label sequences of segments."""
    said = [s.label for s in _segments(prediction, ignore)]
    meant = [s.label for s in _segments(truth, ignore)]
    longer = max(len(said), len(meant))
    return 100.0 if longer == 0 else 100.0 * (1 - levenshtein(said, meant) / longer)


def levenshtein(first: Sequence[str], second: Sequence[str]) -> int:
    """Insertions, deletions and substitutions between two sequences, one each."""
    row = list(range(len(second) + 1))
    for i, left in enumerate(first, start=1):
        diagonal, row[0] = row[0], i
        for j, right in enumerate(second, start=1):
            diagonal, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, diagonal + (left != right))
    return row[-1]


def segment_counts(
    prediction: Labels, truth: Labels, *, overlap: float, ignore: Collection[str] = ()
) -> Counts:
    """Matches at an IoU of ``overlap``.

    Predicted segments are taken in time order. Each looks only at the truth of the same label with
    the highest IoU, and is false when that one is taken or overlaps too little: no second choice.
    """
    _require_equal_length(prediction, truth)
    return _match(_segments(prediction, ignore), _segments(truth, ignore), overlap)


def _match(predicted: list[Segment], true: list[Segment], overlap: float) -> Counts:
    taken: set[int] = set()
    for segment in predicted:
        overlaps = [_iou(segment, other) for other in true]
        best = max(overlaps, default=0.0)
        if best >= overlap:
            taken.add(overlaps.index(best))
    return Counts(len(taken), len(predicted) - len(taken), len(true) - len(taken))


def _shared(one: Segment, other: Segment) -> int:
    """Frames that two segments of the same label have in common."""
    if one.label != other.label:
        return 0
    return max(0, min(one.end, other.end) - max(one.start, other.start))


def _iou(one: Segment, other: Segment) -> float:
    return _shared(one, other) / (max(one.end, other.end) - min(one.start, other.start))


def f1_score(counts: Counts) -> float:
    """100 · 2TP / (2TP + FP + FN), the harmonic mean of precision and recall."""
    matched, invented, missed = counts
    total = 2 * matched + invented + missed
    return 100.0 if total == 0 else 100.0 * 2 * matched / total


def segment_overlaps(
    prediction: Labels, truth: Labels, *, ignore: Collection[str] = ()
) -> tuple[list[float], list[float]]:
    """For each true segment: IoU, and intersection over the prediction's length (IoD).

    Both are taken with the predicted segment of the same label that overlaps it most; 0 when there
    is none.
    """
    _require_equal_length(prediction, truth)
    predicted = _segments(prediction, ignore)
    ious, iods = [], []
    for true in _segments(truth, ignore):
        pairs = ((_iou(p, true), _shared(p, true) / (p.end - p.start)) for p in predicted)
        iou, inside = max(pairs, default=(0.0, 0.0))
        ious.append(iou)
        iods.append(inside)
    return ious, iods


def _segments(labels: Labels, ignore: Collection[str]) -> list[Segment]:
    return [segment for segment in runs(labels) if segment.label not in ignore]


def _require_equal_length(prediction: Labels, truth: Labels) -> None:
    if len(prediction) != len(truth):
        raise UsageError(
            f"The prediction has {len(prediction)} frames and the truth {len(truth)}.",
            hint="Parsed.frames(len(truth), fill=...) makes them equally long.",
        )


# --- the per-video variants of the Breakfast fork of Video-ChatGPT ------------------------------

_NOTHING = ""


class PerVideo(NamedTuple):
    """Scores of one video as the fork's script defines them, each 0 to 100."""

    frame_accuracy: float
    weighted_f1: float
    f1_at_10: float
    f1_at_25: float
    f1_at_50: float
    edit: float
    label_recall: float
    """Share of the true labels that appear anywhere in the prediction."""


@lru_cache(maxsize=10_000)  # each score of a run asks for the same videos
def per_video_scores(reply: str, truth: str) -> PerVideo:
    """Score two texts of ``start-end label`` lines the fork's way.

    The video is as long as the last true end says, minus one; frames that no line covers have no
    label and count as background; later lines overwrite; prediction and truth change places in F1.
    The fork's rank correlation of label strings means nothing and is left out.
    """
    said, meant = parse_segments(reply), parse_segments(truth)
    length = meant.segments[-1].end if meant.segments else 0
    prediction = said.frames(length, fill=_NOTHING)
    reference = meant.frames(length, fill=_NOTHING)
    right, total = correct_frames(prediction, reference)
    at_10, at_25, at_50 = (
        f1_score(segment_counts(reference, prediction, overlap=k, ignore={_NOTHING}))
        for k in OVERLAPS
    )
    return PerVideo(
        100.0 * right / total if total else 0.0,
        _weighted_f1(prediction, reference),
        at_10,
        at_25,
        at_50,
        edit_score(prediction, reference, ignore={_NOTHING}),
        _label_recall(said, meant),
    )


def _weighted_f1(prediction: Labels, truth: Labels) -> float:
    """Frame-level F1 of each true label, weighted by its number of frames."""
    if not truth:
        return 0.0
    codes = {label: i for i, label in enumerate(dict.fromkeys([*truth, *prediction]))}
    said: NDArray[np.int64] = np.array([codes[p] for p in prediction], dtype=np.int64)
    meant: NDArray[np.int64] = np.array([codes[t] for t in truth], dtype=np.int64)
    support = np.bincount(meant, minlength=len(codes))
    claimed = np.bincount(said, minlength=len(codes))
    right = np.bincount(meant[meant == said], minlength=len(codes))
    f1 = 2 * right / np.maximum(support + claimed, 1)
    return 100.0 * float((f1 * support).sum() / support.sum())


def _label_recall(said: Parsed, meant: Parsed) -> float:
    true = [s.label for s in meant.segments]
    named = {s.label for s in said.segments}
    return 100.0 * sum(label in named for label in true) / len(true) if true else 0.0
