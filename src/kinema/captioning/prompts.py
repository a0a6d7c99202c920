"""What the model is asked: versioned templates with named fields.

A template's version changes with its words, so that records say which words made them and a
changed one never meets old results. Users replace a template with their own text, with the same
``{fields}`` or none; what they chose and gave no place comes last.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from kinema.errors import UnknownName


@dataclass(frozen=True)
class Template:
    """Words with ``{fields}``."""

    name: str
    version: str
    text: str

    def fill(self, **values: str) -> str:
        """The words with every known field replaced; other braces stay as they are."""
        return re.sub(r"\{(\w+)\}", lambda m: values.get(m[1], m[0]), self.text).strip()


DESCRIPTION = Template(
    "description",
    "1",
    "Describe in detail what happens in this part of a video, from {start} to {end}. {speech}"
    "{style} {language}",
)
SUBTITLED_DESCRIPTION = Template(
    "description",
    "1-subtitles",
    "Describe in detail what happens in this part of a video, from {start} to {end}. {speech}"
    "{subtitles}{style} {language}",
)
"""Where subtitles were asked for."""
PLAIN_DESCRIPTION = Template("description", "plain-1", "What happens in this video?")
"""For models that know few questions."""
SUMMARY = Template(
    "summary",
    "1",
    "These notes describe {what} of a video, in order, each with its number and time:\n\n"
    "{notes}\n\n"
    "Summarise in one paragraph what happens. Keep to the notes, put the numbers of the notes a "
    "sentence stands on in square brackets behind it, like [1, 2], and do not mention notes. "
    "{style} {language}",
)
TITLE = Template(
    "title",
    "1",
    "This is the summary of {what} of a video:\n\n{summary}\n\n"
    "Write a short title for it: at most eight words, the title alone, without quotation marks. "
    "{language}",
)

DEFAULT_STYLE = "detailed"
_SPEECH = 'Meanwhile this is heard: "{words}". '
_SUBTITLES = "These are its subtitles, each with the time when it is shown:\n\n{cues}\n\n"
STYLES: Mapping[str, str] = {
    "detailed": "Use plain sentences and keep to what is visible.",
    "brief": "Use one short sentence.",
    "dense": "Name every person, thing, place, action and camera movement that is visible.",
    "plain": "",
}


@dataclass(frozen=True)
class Prompts:
    """The three templates and what fills them for a whole run."""

    description: Template = DESCRIPTION
    summary: Template = SUMMARY
    title: Template = TITLE
    style: str = DEFAULT_STYLE
    language: str | None = None

    @classmethod
    def chosen(
        cls,
        *,
        prompt: str | None = None,
        summary_prompt: str | None = None,
        title_prompt: str | None = None,
        style: str = DEFAULT_STYLE,
        language: str | None = None,
        subtitled: bool = False,
        plain: bool = False,
    ) -> Prompts:
        """The built-in templates, or the user's words in their place.

        Args:
            subtitled: subtitles are to be shown to the model.
            plain: for a model that answers simple questions alone.

        Raises:
            UnknownName: no such style.
        """
        if style not in STYLES:
            raise UnknownName("style", style, STYLES)
        styled = ["style"] if style != DEFAULT_STYLE else []
        spoken = ["language"] if language else []
        shown = ["subtitles"] if subtitled else []
        written = SUBTITLED_DESCRIPTION if subtitled else DESCRIPTION
        return cls(
            _own("description", prompt, [*shown, *styled, *spoken])
            or (PLAIN_DESCRIPTION if plain else written),
            _own("summary", summary_prompt, ["notes", *styled, *spoken]) or SUMMARY,
            _own("title", title_prompt, ["summary", *spoken]) or TITLE,
            style,
            language,
        )

    def describe(self, *, start: str, end: str, speech: str = "", subtitles: str = "") -> str:
        """The question about one segment.

        Args:
            start: when it begins, in words.
            end: when it ends, in words.
            speech: what is said meanwhile.
            subtitles: what is shown meanwhile, a line a cue.
        """
        heard = _SPEECH.replace("{words}", speech) if speech else ""
        return self.description.fill(
            start=start,
            end=end,
            speech=heard,
            subtitles=_SUBTITLES.replace("{cues}", subtitles) if subtitles else "",
            style=STYLES[self.style],
            language=self._language,
        )

    def summarise(self, notes: str, *, what: str) -> str:
        """The question about numbered notes."""
        return self.summary.fill(
            notes=notes, what=what, style=STYLES[self.style], language=self._language
        )

    def entitle(self, summary: str, *, what: str) -> str:
        """The question about a summary."""
        return self.title.fill(summary=summary, what=what, language=self._language)

    @property
    def _language(self) -> str:
        return f"Answer in {self.language}." if self.language else ""

    def to_dict(self) -> dict[str, str | None]:
        """What decides the words, ready for a fingerprint."""
        templates = {t.name: f"{t.version}: {t.text}" for t in (self.description, self.summary)}
        return templates | {
            "title": f"{self.title.version}: {self.title.text}",
            "style": f"{self.style}: {STYLES[self.style]}",
            "language": self.language,
        }


def _own(name: str, text: str | None, fields: Sequence[str]) -> Template | None:
    """The user's words, with the fields behind them that they give no place."""
    if text is None:
        return None
    missing = [f"{{{field}}}" for field in fields if f"{{{field}}}" not in text]
    return Template(name, "own", "\n\n".join([text, *missing]))
