"""How a question is put: words around it and frames before it, by preset.

``official`` asks as the benchmark's authors do; ``lmms-eval`` and ``vlmevalkit`` ask and sample as
those tools do, so that a number published with one of them can be made again. The parser is ours in
all three: neither guessing nor substring matches come back with a preset.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from kinema.evaluation.benchmarks.base import Benchmark, Style
from kinema.evaluation.choice import LETTERS
from kinema.evaluation.records import Item, Task
from kinema.types import FrameSampling

PresetName = Literal["official", "lmms-eval", "vlmevalkit"]


@dataclass(frozen=True)
class Preset:
    """One way of asking."""

    styles: Mapping[Task, Style]
    sampling: FrameSampling = FrameSampling()
    asks_like_the_authors: bool = False
    """A benchmark's own styles and sampling win."""


_PLAIN: dict[Task, Style] = {
    "choice": Style("{question}\n{options}\nAnswer with the letter of the right option."),
    "text": Style("{question}"),
    "count": Style("{question}\nAnswer with a number."),
    "caption": Style("{question}"),
    "span": Style(
        "When does this happen in the video: {question}?\n"
        "Answer with start and end in seconds, as `start - end`."
    ),
    "segments": Style("{question}"),
}
_WITHOUT_LETTERS = Style("{question}\nAnswer with one of: {options}.", option="{text}")

PRESETS: dict[PresetName, Preset] = {
    "official": Preset(_PLAIN, asks_like_the_authors=True),
    "lmms-eval": Preset(
        _PLAIN
        | {
            "choice": Style(
                "{question}\n{options}\n"
                "Answer with the option's letter from the given choices directly."
            ),
            "text": Style("{question} Answer the question using a single word or phrase."),
        },
        FrameSampling(num_frames=32, formula="linspace"),
    ),
    "vlmevalkit": Preset(
        _PLAIN
        | {
            "choice": Style("Question: {question}\n{options}\nAnswer: "),
            "text": Style("Question: {question}\nAnswer: "),
        },
        FrameSampling(num_frames=8, formula="interior"),
    ),
}


def put_question(item: Item, benchmark: Benchmark, preset: Preset) -> str:
    """The whole prompt of an item, subtitles in front when it has some."""
    style = preset.styles[item.task]
    if preset.asks_like_the_authors:
        style = benchmark.styles.get(item.task, style)
    separator = "\n"
    if item.options and not item.lettered:
        style, separator = _WITHOUT_LETTERS, ", "
    options = separator.join(
        style.option.format(letter=letter, text=text)
        for letter, text in zip(LETTERS, item.options, strict=False)
    )
    # str.format would read braces in a question as fields.
    asked = style.template.replace("{options}", options).replace("{question}", item.question)
    if not item.subtitles:
        return asked
    return f"The subtitles of the video are:\n{item.subtitles}\n{asked}"


def choose_sampling(
    item: Item, benchmark: Benchmark, preset: Preset, asked: FrameSampling
) -> FrameSampling:
    """What the user asked for, with the preset's formula, or all of the preset; in the item's clip.

    Empty when neither says, which leaves it to the model family.
    """
    own = benchmark.sampling if preset.asks_like_the_authors else preset.sampling
    chosen = own if asked.is_default else asked
    if asked.formula == FrameSampling().formula and chosen.num_frames:
        chosen = replace(chosen, formula=own.formula)
    if item.start_seconds is None and item.end_seconds is None:
        return chosen
    return replace(chosen, start=item.start_seconds, end=item.end_seconds)
