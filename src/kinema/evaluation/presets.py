"""How a question is put: words around it and frames before it, by preset.

``official`` asks as the benchmark's authors do; ``lmms-eval`` and ``vlmevalkit`` ask and sample as
those tools do, so that a number published with one of them can be made again. The parser is ours in
all three: neither guessing nor substring matches come back with a preset.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from kinema.evaluation.benchmarks.base import Benchmark, Style
from kinema.evaluation.choice import LETTERS
from kinema.evaluation.records import Item, Task
from kinema.evaluation.tool_styles import LMMS_EVAL, OFFICIAL, VLMEVALKIT, Styles
from kinema.types import FrameSampling

PresetName = Literal["official", "lmms-eval", "vlmevalkit"]


@dataclass(frozen=True)
class Preset:
    """One way of asking."""

    styles: Mapping[Task, Style]
    """For benchmarks that ``own_styles`` says nothing about."""
    own_styles: Styles
    sampling: FrameSampling = FrameSampling()
    own_sampling: Mapping[str, FrameSampling] = field(default_factory=dict)
    """Of benchmarks that have another one."""

    def style(self, item: Item, benchmark: Benchmark) -> Style:
        """The words around an item."""
        return self.own_styles.get(benchmark.name, {}).get(item.task, self.styles[item.task])

    def frames(self, benchmark: Benchmark) -> FrameSampling:
        """The frames of a benchmark; empty leaves them to the model family."""
        return self.own_sampling.get(benchmark.name, self.sampling)


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

PRESETS: dict[PresetName, Preset] = {
    "official": Preset(
        _PLAIN,
        OFFICIAL,
        own_sampling={"mvbench": FrameSampling(num_frames=16, formula="segments")},
    ),
    "lmms-eval": Preset(
        _PLAIN
        | {
            "choice": Style(
                "{question}\n{options}\n"
                "Answer with the option's letter from the given choices directly."
            ),
            "text": Style("{question} Answer the question using a single word or phrase."),
        },
        LMMS_EVAL,
        FrameSampling(num_frames=32, formula="linspace"),
    ),
    "vlmevalkit": Preset(
        _PLAIN
        | {
            "choice": Style("Question: {question}\n{options}\nAnswer: "),
            "text": Style("Question: {question}\nAnswer: "),
        },
        VLMEVALKIT,
        FrameSampling(num_frames=8, formula="interior"),
        own_sampling={"mvbench": FrameSampling(num_frames=8, formula="segments")},
    ),
}


def put_question(item: Item, benchmark: Benchmark, preset: Preset) -> str:
    """The whole prompt of an item, subtitles in front when its style gives them no place."""
    style = preset.style(item, benchmark)
    template, option, separator = style.template, style.option, "\n"
    if item.options and not item.lettered:
        template, option, separator = style.unlettered, "{text}", ", "
    options = separator.join(
        option.format(letter=letter, text=text)
        for letter, text in zip(LETTERS, item.options, strict=False)
    )
    if item.subtitles and "{subtitles}" not in template:
        template = "The subtitles of the video are:\n{subtitles}\n" + template
    words = {
        "{question}": item.question,
        "{sentence}": item.question[:1].upper() + item.question[1:].rstrip("?") + "?",
        "{options}": options,
        "{subtitles}": item.subtitles,
    }
    # Every field once; braces in the words stay (str.format would read them as fields).
    return re.sub("|".join(map(re.escape, words)), lambda field: words[field[0]], template)


def choose_sampling(
    item: Item, benchmark: Benchmark, preset: Preset, asked: FrameSampling
) -> FrameSampling:
    """What the user asked for, with the preset's formula, or all of the preset; in the item's clip.

    Empty when neither says, which leaves it to the model family.
    """
    own = preset.frames(benchmark)
    chosen = asked.or_default(own)
    if asked.formula == FrameSampling().formula and chosen.num_frames:
        chosen = replace(chosen, formula=own.formula)
    if item.start_seconds is None and item.end_seconds is None:
        return chosen
    return replace(chosen, start=item.start_seconds, end=item.end_seconds)
