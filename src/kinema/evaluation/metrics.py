"""The table of metrics. A new one is a function below (or anywhere) and a row.

A metric is given every item of its task, in benchmark order, those without an answer included; it
must count them as wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from typing import Any

import numpy as np

from kinema.datasets.segments import Parsed, parse_segments
from kinema.evaluation import captions, segmentation, text
from kinema.evaluation.answers import Answer
from kinema.evaluation.records import Task
from kinema.evaluation.statistics import Measured
from kinema.evaluation.wordnet import open_nouns
from kinema.lazy import require_packages

Answers = Sequence[Answer]


@dataclass(frozen=True)
class Metric:
    """One row: what it is called, for which task, how it is computed."""

    title: str
    tasks: tuple[Task, ...]
    measure: Callable[[Answers], Measured]
    needs: tuple[str, ...] = ()
    """Packages of the extra ``eval``."""
    lower_is_better: bool = False

    def __call__(self, answers: Answers) -> Measured:
        """The score of these items.

        Raises:
            MissingPackage: a package or WordNet is not installed.
            UsageError: the score would mean nothing (CIDEr of one caption).
        """
        require_packages(self.title, self.needs, install="pip install 'kinema[eval]'")
        return self.measure(answers)


def _each(score: Callable[[Answer], float]) -> Callable[[Answers], Measured]:
    """The mean of a score of one answer, in percent; no answer scores zero."""

    def measure(answers: Answers) -> Measured:
        return Measured.mean([0.0 if a.value is None else 100 * score(a) for a in answers])

    return measure


def _each_text(score: Callable[[str, Sequence[str]], float]) -> Callable[[Answers], Measured]:
    return _each(lambda answer: score(answer.value, answer.item.references))


def _wups(threshold: float) -> Callable[[Answers], Measured]:
    def measure(answers: Answers) -> Measured:
        score = partial(text.wups, threshold=threshold, similarity=open_nouns().similarity)
        return _each_text(score)(answers)

    return measure


def _count_error(answers: Answers) -> Measured:
    """Mean squared error; a missing answer is as far off as a zero, or one off a true zero."""
    truths = [float(a.item.references[0]) for a in answers]
    errors = [
        max(1.0, truth**2) if a.value is None else (a.value - truth) ** 2
        for a, truth in zip(answers, truths, strict=True)
    ]
    return Measured.mean(errors)


# --- captions -----------------------------------------------------------------------------------


_Sentence = tuple[str, ...]


def _tokens(answers: Answers) -> tuple[tuple[_Sentence, ...], tuple[tuple[_Sentence, ...], ...]]:
    said = tuple(_sentence(answer.value or "") for answer in answers)
    return said, tuple(tuple(map(_sentence, a.item.references)) for a in answers)


@lru_cache(maxsize=1 << 19)  # every metric of a run asks for the same captions
def _sentence(caption: str) -> _Sentence:
    return tuple(map(sys.intern, captions.caption_tokens(caption)))


def _bleu(order: int) -> Callable[[Answers], Measured]:
    return lambda answers: Measured(100 * _all_bleu(*_tokens(answers))[order - 1])


_all_bleu = lru_cache(maxsize=1)(captions.bleu)
"""BLEU-1 to BLEU-4 come from one count."""


def _each_caption(
    score: Callable[[_Sentence, Sequence[_Sentence]], float],
) -> Callable[[Answers], Measured]:
    """The mean of a score of one caption, in percent."""
    return lambda answers: Measured.mean(
        [100 * score(*pair) for pair in zip(*_tokens(answers), strict=True)]
    )


# --- time ranges --------------------------------------------------------------------------------


def _span_iou(answer: Answer) -> float:
    """Intersection over union of the said range with the best true one."""
    start, end = answer.value
    overlaps = []
    for reference in answer.item.references:
        true_start, true_end = map(float, reference.split())
        shared = max(0.0, min(end, true_end) - max(start, true_start))
        union = max(end, true_end) - min(start, true_start)
        overlaps.append(shared / union if union > 0 else 0.0)
    return max(overlaps)


def _recall_at(threshold: float) -> Callable[[Answer], float]:
    return lambda answer: float(_span_iou(answer) >= threshold)


# --- segments -----------------------------------------------------------------------------------


UNLABELLED = ""
"""What each frame of a video without a readable answer is called: wrong everywhere."""


def segment_frames(answer: Answer) -> tuple[list[str], list[str]]:
    """Prediction and truth of a video, one label a frame.

    Frames that no line of an answer covers are background; without an answer they are nothing.
    """
    facts = answer.item.facts
    fill = facts.get("background", "background")
    truth = parse_segments(
        "\n".join(answer.item.references), ends=facts["ends"], last_end=facts["num_frames"]
    )
    length = facts["num_frames"]
    if answer.value is None:
        return [UNLABELLED] * length, truth.frames(length, fill=fill)
    return answer.value.frames(length, fill=fill), truth.frames(length, fill=fill)


def _ignored(answer: Answer, *, background: bool) -> Collection[str]:
    """Labels that Edit and F1 leave out.

    The official scripts leave out ``background`` alone; "without background" leaves out the data
    set's own background label too (SIL, action_start, action_end).
    """
    idle = () if background else answer.item.facts.get("idle", ())
    return {"background", UNLABELLED, *idle}


def _mof(answers: Answers, *, background: bool) -> Measured:
    counts = [
        segmentation.correct_frames(
            *segment_frames(a), ignore=() if background else _ignored(a, background=False)
        )
        for a in answers
    ]
    return Measured.ratio([c for c, _ in counts], [t for _, t in counts], scale=100)


def _edit(answers: Answers, *, background: bool) -> Measured:
    scores = (
        segmentation.edit_score(*segment_frames(a), ignore=_ignored(a, background=background))
        for a in answers
    )
    # Without an answer it is zero, even where there is nothing to find.
    pairs = zip(answers, scores, strict=True)
    return Measured.mean([0.0 if a.value is None else score for a, score in pairs])


def _f1(answers: Answers, *, overlap: float, background: bool) -> Measured:
    """Pooled: matches and misses are summed over all videos before F1 is taken."""
    counts = [
        segmentation.segment_counts(
            *segment_frames(a), overlap=overlap, ignore=_ignored(a, background=background)
        )
        for a in answers
    ]
    table = np.array(counts, dtype=np.float64).reshape(-1, 3)
    return Measured.ratio(2 * table[:, 0], table @ [2, 1, 1], scale=100, empty=100.0)


def _overlap(answers: Answers, *, which: int, background: bool) -> Measured:
    """Mean over all true segments of IoU (0) or IoD (1)."""
    lists = [
        segmentation.segment_overlaps(
            *segment_frames(a), ignore=_ignored(a, background=background)
        )[which]
        for a in answers
    ]
    return Measured.ratio(list(map(sum, lists)), list(map(len, lists)), scale=100, empty=100.0)


def _per_video(answers: Answers, *, name: str) -> Measured:
    """A score of the fork's script: of each video, then the plain mean."""
    scores = [
        segmentation.per_video_scores(a.record.prediction.answer, "\n".join(a.item.references))
        for a in answers
    ]
    return Measured.mean([float(getattr(score, name)) for score in scores])


_TEXT: tuple[Task, ...] = ("text",)
_CAPTION: tuple[Task, ...] = ("caption",)
_SPANS: tuple[Task, ...] = ("span",)
_SEGMENTS: tuple[Task, ...] = ("segments",)


def _segment_metrics() -> dict[str, Metric]:
    measures: dict[str, tuple[str, Callable[..., Measured]]] = {
        "mof": ("MoF", _mof),
        "edit": ("Edit", _edit),
        **{f"f1_{p}": (f"F1@{p}", partial(_f1, overlap=p / 100)) for p in (10, 25, 50)},
        "iou": ("IoU", partial(_overlap, which=0)),
        "iod": ("IoD", partial(_overlap, which=1)),
    }
    rows: dict[str, Metric] = {}
    for suffix, background in (("", True), ("_without_background", False)):
        for name, (title, measure) in measures.items():
            rows[name + suffix] = Metric(
                title + suffix.replace("_", " "),
                _SEGMENTS,
                partial(measure, background=background),
            )
    for field in segmentation.PerVideo._fields:
        title = f"{field.replace('_', ' ')}, mean of videos"
        rows[f"per_video_{field}"] = Metric(title, _SEGMENTS, partial(_per_video, name=field))
    return rows


METRICS: dict[str, Metric] = {
    "accuracy": Metric("accuracy", ("choice",), _each(lambda a: a.value == a.item.answer)),
    "exact_match": Metric("exact match", _TEXT, _each_text(text.exact_match)),
    "normalised_match": Metric("normalised match", _TEXT, _each_text(text.normalised_match)),
    "contains_match": Metric("contains match", _TEXT, _each_text(text.contains_match)),
    "token_f1": Metric("token F1", _TEXT, _each_text(text.token_f1)),
    "wups_0": Metric("WUPS@0.0", _TEXT, _wups(0.0)),
    "wups_0.9": Metric("WUPS@0.9", _TEXT, _wups(0.9)),
    "count_accuracy": Metric(
        "count accuracy", ("count",), _each(lambda a: a.value == float(a.item.references[0]))
    ),
    "count_mse": Metric("mean squared error", ("count",), _count_error, lower_is_better=True),
    "cider_d": Metric(
        "CIDEr-D",
        _CAPTION,
        lambda answers: Measured.mean(100 * captions.cider_d(*_tokens(answers))),
    ),
    "bleu_1": Metric("BLEU-1", _CAPTION, _bleu(1), needs=("sacrebleu",)),
    "bleu_4": Metric("BLEU-4", _CAPTION, _bleu(4), needs=("sacrebleu",)),
    "rouge_l": Metric("ROUGE-L", _CAPTION, _each_caption(captions.rouge_l)),
    "meteor_nltk_stems": Metric(
        "METEOR (nltk, words and stems)",
        _CAPTION,
        _each_caption(captions.meteor_nltk),
        needs=("nltk",),
    ),
    "span_iou": Metric("mIoU", _SPANS, _each(_span_iou)),
    "recall_0.3": Metric("R@1, IoU 0.3", _SPANS, _each(_recall_at(0.3))),
    "recall_0.5": Metric("R@1, IoU 0.5", _SPANS, _each(_recall_at(0.5))),
    "recall_0.7": Metric("R@1, IoU 0.7", _SPANS, _each(_recall_at(0.7))),
    **_segment_metrics(),
}


def unparsed_lines(answers: Answers) -> dict[str, Any]:
    """Lines of segment answers that could not be read, and labels nobody knows."""
    parsed = [a.value for a in answers if isinstance(a.value, Parsed)]
    return {
        "unparsed_lines": sum(len(p.unparsed_lines) for p in parsed),
        "unknown_labels": sum(len(p.unknown_labels) for p in parsed),
    }
