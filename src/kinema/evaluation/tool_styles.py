"""The prompts of other evaluation tools, benchmark by benchmark, as data.

Numbers published with a tool depend on its exact words, so these are its exact words: the default
prompts of lmms-eval (75571cf) and VLMEvalKit (e8e78f0), both of August 2026. Words that VLMEvalKit
puts into the assistant's mouth ("Best option:(") are left out.
"""

from __future__ import annotations

from collections.abc import Mapping

from kinema.evaluation.benchmarks.base import Style
from kinema.evaluation.records import Task

Styles = Mapping[str, Mapping[Task, Style]]
"""Benchmark, then task."""

_LETTER = "Answer with the option's letter from the given choices directly."
_DIRECTLY = "{question}\n{options}\n" + _LETTER
_BRACKETED = "({letter}) {text}"
_BEST = "Question: {question}\nOptions:\n{options}\nOnly give the best option."
_SELECT = "Select the best answer to the following multiple-choice question based on the video"
_ONE_LETTER = "Respond with only the letter (A, B, C, or D) of the correct option.\n"
_WATCH_EVENTS = (
    "Carefully watch the video and pay attention to the cause and sequence of events, the detail "
    "and movement of objects, and the action and pose of persons. Based on your observations, "
    "select the best option that accurately addresses the question.\n"
)
_WATCH_DETAIL = "Carefully watch this video and pay attention to every detail. "
_BEST_DIRECTLY = Style(
    "{question}\n{options}\nPlease directly give the best option:",
    unlettered="{question}\nPlease answer yes or no:",
)
_WITHOUT_SUBTITLES = f"{_SELECT}. {_ONE_LETTER}"
_WITH_SUBTITLES = f"{_SELECT} and the subtitles. {_ONE_LETTER}"
_MVBENCH = Style(_BEST, option=_BRACKETED, system=_WATCH_EVENTS)
_MLVU = Style(
    _BEST,
    option=_BRACKETED,
    system=_WATCH_DETAIL + "Based on your observations, select the best option that accurately "
    "addresses the question.",
)

OFFICIAL: Styles = {
    "mvbench": {"choice": _MVBENCH},
    "mlvu": {"choice": _MLVU},
    "video-mme": {
        "choice": Style(_WITHOUT_SUBTITLES + "{question}\n{options}\nThe best answer is:")
    },
    "video-mme-sub": {
        "choice": Style(
            "This video's subtitles are listed below:\n{subtitles}\n"
            + _WITH_SUBTITLES
            + "{question}\n{options}\nThe best answer is:"
        )
    },
    "longvideobench": {"choice": Style(_DIRECTLY)},
    "tempcompass": {"choice": _BEST_DIRECTLY},
}

LMMS_EVAL: Styles = {
    "mvbench": {
        "choice": Style(
            "Question:{question}\nOption:\n{options}\nOnly give the best option.\n",
            option=_BRACKETED,
        )
    },
    "mlvu": {
        "choice": Style(
            "{question}\n{options}\nOnly give the best option.\nBest option: (", option=_BRACKETED
        )
    },
    "video-mme": {"choice": Style(_WITH_SUBTITLES + "{question}\n{options}\n\n" + _LETTER)},
    "video-mme-sub": {
        "choice": Style(
            "This video's subtitles are listed below: \n{subtitles}\n"
            + _WITH_SUBTITLES
            + "{question}\n{options}\nThe best answer is:"
        )
    },
    "longvideobench": {"choice": Style(_DIRECTLY + "\n")},
    "egoschema": {"choice": Style(_DIRECTLY)},
    "perceptiontest": {"choice": Style(_DIRECTLY)},
    "next-qa": {"choice": Style("{question}\n{options}")},
    "next-oe": {"text": Style("{question}\nAnswer a question using a short phrase or sentence.")},
    "tempcompass": {"choice": _BEST_DIRECTLY, "text": Style("{question}")},
    "activitynet-qa": {
        "text": Style("{sentence} Answer the question using a single word or phrase.")
    },
    "video-chatgpt": {"text": Style("{question}")},
    "youcook2": {"caption": Style("Provide a one-sentence caption for the provided video.")},
    "charades-sta": {
        "span": Style(
            "Please find the visual event described by a sentence in the video, determining its "
            "starting and ending times. The format should be: 'The event happens in the start time "
            "- end time'. For example, The event 'person turn a light on' happens in the 24.3 - "
            "30.4 seonds. Now I will give you the textual sentence: {question}. Please return its "
            "start time and end time."
        )
    },
}

VLMEVALKIT: Styles = {
    "mvbench": {"choice": _MVBENCH},
    "mlvu": {
        "choice": _MLVU,
        "text": Style(
            "{question}",
            system=_WATCH_DETAIL + "Based on your observations, answer the given questions.",
        ),
    },
    "video-mme": {
        "choice": Style(
            "\nThese are the frames of a video. "
            + _WITHOUT_SUBTITLES
            + "Question: {question}\n{options}\nAnswer: "
        )
    },
    "video-mme-sub": {
        "choice": Style(
            "\nThese are the frames of a video. This video's subtitles are listed below:\n"
            "{subtitles}\n" + _WITHOUT_SUBTITLES + "Question: {question}\n{options}\nAnswer: "
        )
    },
    "longvideobench": {"choice": Style(_DIRECTLY)},
    "tempcompass": {"choice": _BEST_DIRECTLY, "text": Style("{question}")},
}
