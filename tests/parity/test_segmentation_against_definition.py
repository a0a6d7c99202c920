"""Pooled scores against an independent transcription of the MS-TCN definitions into arrays."""

from __future__ import annotations

import numpy as np
import pytest

from kinema.evaluation.segmentation import (
    correct_frames,
    edit_score,
    f1_score,
    segment_counts,
)


def _bounds(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Labels, starts and ends of the segments that are not background (0)."""
    changes = np.flatnonzero(np.diff(labels)) + 1
    starts, ends = np.r_[0, changes], np.r_[changes, len(labels)]
    keep = labels[starts] != 0
    return labels[starts][keep], starts[keep], ends[keep]


def _reference_counts(said: np.ndarray, truth: np.ndarray, overlap: float) -> np.ndarray:
    p, ps, pe = _bounds(said)
    t, ts, te = _bounds(truth)
    hit = np.zeros(len(t))
    matched = 0
    for j in range(len(p)):
        shared = np.minimum(pe[j], te) - np.maximum(ps[j], ts)
        union = np.maximum(pe[j], te) - np.minimum(ps[j], ts)
        iou = shared / union * (t == p[j])
        best = iou.argmax() if len(iou) else -1
        if len(iou) and iou[best] >= overlap and not hit[best]:
            hit[best] = 1
            matched += 1
    return np.array([matched, len(p) - matched, len(t) - hit.sum()])


def _reference_edit(said: np.ndarray, truth: np.ndarray) -> float:
    p, t = _bounds(said)[0], _bounds(truth)[0]
    table = np.zeros((len(p) + 1, len(t) + 1))
    table[:, 0], table[0] = np.arange(len(p) + 1), np.arange(len(t) + 1)
    for i in range(1, len(p) + 1):
        for j in range(1, len(t) + 1):
            change = table[i - 1, j - 1] + (p[i - 1] != t[j - 1])
            table[i, j] = min(change, table[i - 1, j] + 1, table[i, j - 1] + 1)
    return (1 - table[-1, -1] / max(len(p), len(t))) * 100


def _videos(seed: int) -> list[tuple[np.ndarray, np.ndarray]]:
    noise = np.random.default_rng(seed)

    def video() -> np.ndarray:
        lengths = noise.integers(1, 30, noise.integers(2, 9))
        return np.repeat(noise.integers(0, 4, len(lengths)), lengths)

    pairs = [(video(), video()) for _ in range(20)]
    clipped = [(a[: min(len(a), len(b))], b[: min(len(a), len(b))]) for a, b in pairs]
    return [(a, b) for a, b in clipped if a.any() or b.any()]


@pytest.mark.parametrize("seed", range(5))
def test_pooled_scores_equal_the_definition(seed):
    videos = _videos(seed)
    as_labels = [([str(x) for x in said], [str(x) for x in truth]) for said, truth in videos]
    for overlap in (0.1, 0.25, 0.5):
        ours = np.sum([segment_counts(*v, overlap=overlap, ignore={"0"}) for v in as_labels], 0)
        reference = np.sum([_reference_counts(*v, overlap) for v in videos], 0)
        assert ours.tolist() == reference.tolist()
        tp, fp, fn = reference
        precision, recall = tp / (tp + fp), tp / (tp + fn)
        expected = 100 * 2 * precision * recall / (precision + recall)
        assert f1_score(tuple(ours)) == pytest.approx(expected)
    for labels, arrays in zip(as_labels, videos, strict=True):
        assert edit_score(*labels, ignore={"0"}) == pytest.approx(_reference_edit(*arrays))
        assert correct_frames(*labels)[0] == int((arrays[0] == arrays[1]).sum())
