"""Conversation templates of Video-ChatGPT and Video NeVA, as data.

A checkpoint was trained on exact bytes, so these are exact bytes. :attr:`Template.jinja` writes
the same conversation in the form that checkpoints ship and transformers reads.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from kinema.lazy import Named

_VICUNA_SYSTEM = (
    "A chat between a curious user and an artificial intelligence assistant. "
    "The assistant gives helpful, detailed, and polite answers to the user's questions."
)
_LLAVA_SYSTEM = (
    "You are a helpful language and vision assistant. "
    "You are able to understand the visual content that the user provides, "
    "and assist the user with a variety of tasks using natural language."
)
_VIDEO_CHATGPT_SYSTEM = (
    "You are Video-ChatGPT, a large vision-language assistant. "
    "You are able to understand the video content that the user provides, "
    "and assist the user with a variety of tasks using natural language."
    # No space: the checkpoints were trained and are prompted without one.
    "Follow the instructions carefully and explain your answers in detail based on the provided "
    "video."
)
STEERLM_LABELS = (
    "quality:4,toxicity:0,humor:0,creativity:0,helpfulness:4,correctness:4,coherence:4,"
    "complexity:4,verbosity:4"
)
"""SteerLM attributes of an answer nobody described."""


@dataclass(frozen=True, kw_only=True)
class Template:
    """How turns become one string: ``{system}``, ``{text}`` and ``{label}`` stand for words."""

    name: str
    system: str = ""
    """System words when the user gives none."""
    opening: str = ""
    """Before the first turn."""
    first_user: str = ""
    """The first user turn, where it differs."""
    user: str
    reply: str
    """What the assistant's words come behind; a prompt ends with it."""
    answer: str
    """The assistant's words and what ends them; training is on these."""
    ending: str = ""
    """After the last answer of a finished conversation."""
    label: str = ""
    """With a ``{label}``: SteerLM attributes of turns that bring none."""
    stop: tuple[str, ...] = ()
    """Strings that end an answer."""
    video_last: bool = False
    """A video in front of a question goes behind it, when it is asked."""

    @property
    def jinja(self) -> str:
        """The template in Jinja, over ``messages`` with plain text contents."""
        first = self.first_user or self.user
        return (
            "{% if messages[0].role == 'system' %}"
            "{% set system = messages[0].content %}{% set turns = messages[1:] %}"
            f"{{% else %}}{{% set system = {_quote(self.system)} %}}"
            "{% set turns = messages %}{% endif %}"
            f"{_print(self.opening)}"
            "{% for turn in turns %}{% set text = turn.content %}{% set label = turn.label %}"
            "{% if turn.role == 'user' %}"
            f"{{% if add_generation_prompt %}}{self._arranged}{{% endif %}}"
            f"{{% if loop.first %}}{_print(first)}{{% else %}}{_print(self.user)}{{% endif %}}"
            f"{{% else %}}{self._reply}{_print(self.answer)}{{% endif %}}"
            "{% endfor %}"
            f"{{% if add_generation_prompt %}}{self._reply}{{% else %}}{_print(self.ending)}"
            "{% endif %}"
        )

    @property
    def _arranged(self) -> str:
        if self.video_last:
            return (
                "{% if text.startswith('<video>\\n') %}"
                "{% set text = text[8:] ~ '\\n<video>' %}{% endif %}"
            )
        return "{% set text = text.replace('<image>', '<image>\\n') %}"

    def with_ends(self, *, bos: str | None, eos: str | None) -> Template:
        """The template for tokenizers whose own marks stand for ``<extra_id_6>``/``_7>``.

        NeVA swaps the ids of these stand-ins for the tokenizer's own after tokenising, with
        v1, llama_2 and mistral. A tokenizer without such a mark gets LLaMA's.
        """
        if self.name not in ("v1", "llama_2", "mistral"):
            return self

        def swap(text: str) -> str:
            return text.replace("<extra_id_6>", bos or "<s>").replace("<extra_id_7>", eos or "</s>")

        return replace(
            self,
            first_user=swap(self.first_user),
            user=swap(self.user),
            answer=swap(self.answer),
            stop=tuple(map(swap, self.stop)),
        )

    @property
    def _reply(self) -> str:
        if "{label}" not in self.reply:
            return _print(self.reply)
        before, after = self.reply.split("{label}")
        line = f"<extra_id_2>' ~ (label or {_quote(self.label)}) ~ '\\n"
        return (
            f"{_print(before)}{{% if label or {_quote(self.label)} %}}"
            f"{{{{ '{line}' }}}}{{% endif %}}{_print(after)}"
        )


def _quote(text: str) -> str:
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"'{escaped}'"


def _print(text: str) -> str:
    """Jinja that prints ``text``, its {names} being variables; nothing for nothing."""
    pieces = re.split(r"\{(system|text|media)\}", text)
    # Jinja drops newlines after tags, so even plain text is printed as an expression.
    printed = [_quote(p) if i % 2 == 0 else _MEDIA.get(p, p) for i, p in enumerate(pieces) if p]
    return f"{{{{ {' ~ '.join(printed)} }}}}" if printed else ""


_MEDIA = {"media": "('<video>' if '<video>' in text else '<image>')"}

_NVGPT = Template(
    name="nvgpt",
    system=_VICUNA_SYSTEM,
    opening="<extra_id_0>System\n{system}\n\n",
    user="<extra_id_1>User\n{text}\n",
    reply="<extra_id_1>Assistant\n{label}",
    answer="{text}\n",
    ending="<extra_id_1>",
    label=STEERLM_LABELS,
    stop=("<extra_id_1>", "<extra_id_7>"),
)
_VICUNA_V1_1 = Template(
    name="vicuna_v1_1",
    system=_VICUNA_SYSTEM,
    opening="{system} ",
    user="USER: {text} ",
    reply="ASSISTANT:",
    answer=" {text}</s>",
    stop=("</s>",),
    video_last=True,
)
_ALL = (
    _NVGPT,
    replace(_NVGPT, name="nv_steerlm"),
    replace(_NVGPT, name="nv_dpo", system="", opening="<extra_id_0>System\n{system}\n", label=""),
    Template(
        name="v1",
        system=_VICUNA_SYSTEM,
        opening="{system}",
        user=" USER: {text}",
        reply=" ASSISTANT:",
        answer=" {text}<extra_id_7>",
        stop=("<extra_id_7>",),
    ),
    Template(
        name="llama_2",
        system=_LLAVA_SYSTEM,
        first_user=" [INST] <<SYS>>\n{system}\n<</SYS>>\n\n{text}",
        user="<extra_id_6> [INST] {text}",
        reply=" [/INST]",
        answer=" {text} <extra_id_7>",
        stop=("<extra_id_7>",),
    ),
    Template(
        name="llama_3",
        system=_LLAVA_SYSTEM,
        opening=(
            "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n{system}<|eot_id|>"
        ),
        user="<|start_header_id|>user<|end_header_id|>\n\n{text}<|eot_id|>",
        reply="<|start_header_id|>assistant<|end_header_id|>\n\n",
        answer="{text}<|eot_id|>",
        stop=("<|eot_id|>",),
    ),
    Template(
        name="mistral",
        first_user="<extra_id_6> [INST] {text}",
        user=" [INST] {text}",
        reply=" [/INST]",
        answer="{text}<extra_id_7>",
        stop=("<extra_id_7>",),
    ),
    Template(
        name="yi_34b",
        first_user="<|im_start|>user\n{text}<|im_end|>",
        user="\n<|im_start|>user\n{text}<|im_end|>",
        reply="\n<|im_start|>assistant\n",
        answer="{text}<|im_end|>",
        stop=("<|im_end|>",),
    ),
    Template(name="plain", user="{media}", reply="", answer="{text}\n", stop=("\n",)),
    _VICUNA_V1_1,
    replace(_VICUNA_V1_1, name="video-chatgpt_v1", system=_VIDEO_CHATGPT_SYSTEM),
)

TEMPLATES = Named("conversation template", {template.name: template for template in _ALL})
