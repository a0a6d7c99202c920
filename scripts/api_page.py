"""The API reference as Markdown, read from the source: signatures and docstrings, no imports."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import griffe

ROOT = Path(__file__).parents[1]
SECTIONS = {
    "`import kinema`": (
        "tasks.chat.chat",
        "tasks.chat.load",
        "tasks.chat.Chat",
        "tasks.chat.Answer",
        "video.reading.load_frames",
        "video.info.probe",
        "types.Frames",
        "types.FrameSampling",
        "messages.SamplingParams",
        "errors.KinemaError",
    ),
    "`kinema.models.videolm`": (
        "models.videolm.config.VideoLMConfig",
        "models.videolm.model.VideoLMForConditionalGeneration",
        "models.videolm.processor.VideoLMProcessor",
        "models.videolm.video_processor.VideoLMVideoProcessor",
    ),
    "`kinema.engines`": (
        "engines.settings.EngineSettings",
        "engines.base.Engine",
        "engines.base.Inbox",
        "engines.scheduler.Scheduler",
    ),
}
_ROLE = re.compile(r":\w+:`~?\.?([\w.]+)`")


def api_page() -> str:
    """Every public class and function, under the module that a user imports it from."""
    package = griffe.load("kinema", search_paths=[ROOT / "src"], docstring_parser="google")
    lines = []
    for title, names in SECTIONS.items():
        lines.append(f"## {title}")
        for name in names:
            lines += _entry(package[name])
    return "\n\n".join(lines)


def _entry(thing: griffe.Object) -> Iterator[str]:
    yield f"### `{thing.name}`"
    if isinstance(thing, griffe.Class):
        yield from _class(thing)
    else:
        yield from _function(thing)


def _class(thing: griffe.Class) -> Iterator[str]:
    yield from _docstring(thing)
    fields = [m for m in _public(thing) if isinstance(m, griffe.Attribute)]
    if fields:
        yield "\n".join(_field(field) for field in fields)
    for member in _public(thing):
        if isinstance(member, griffe.Function):
            yield from _function(member, of=thing.name)


def _public(thing: griffe.Class) -> list[griffe.Object]:
    """Members with a docstring; of settings, whose fields stand in groups, the inherited ones."""
    inherited = thing.inherited_members if thing.name == "EngineSettings" else {}
    members = [*(m.final_target for m in inherited.values()), *thing.members.values()]
    return [m for m in members if m.docstring and (m.is_public or m.name == "__call__")]


def _field(field: griffe.Attribute) -> str:
    value = re.sub(r"^undecisive\((.*), '.*'\)$", r"\1", str(field.value or ""))
    default = f" = {value}" if value else ""
    kind = "" if field.annotation is None else f": {field.annotation}"
    return f"- `{field.name}{kind}{default}`: {_words(field.docstring.value)}"


def _function(thing: griffe.Function, of: str = "") -> Iterator[str]:
    name = ".".join(part for part in (of, thing.name) if part not in ("", "__call__"))
    if "property" in thing.labels:
        yield f"**`{name}`**: `{thing.returns}`"
    else:
        yield f"```text\n{_signature(thing).replace(thing.name, name, 1)}\n```"
    yield from _docstring(thing)


def _signature(thing: griffe.Function) -> str:
    """On one line where it fits, otherwise a line a parameter."""
    flat = str(thing.signature()).replace("(self, ", "(").replace("(self)", "()")
    if len(flat) <= 88:
        return flat
    inside, _, returned = flat.partition("(")[2].rpartition(")")
    parts = re.split(r", (?![^\[]*\])", inside)
    return f"{thing.name}(\n" + "".join(f"    {part},\n" for part in parts) + f"){returned}"


def _docstring(thing: griffe.Object) -> Iterator[str]:
    if thing.docstring is None:
        return
    for section in thing.docstring.parse("google", warnings=False):
        if section.kind is griffe.DocstringSectionKind.text:
            yield _words(section.value, keep_lines=True)
        elif section.kind is griffe.DocstringSectionKind.parameters:
            yield "\n".join(f"- `{p.name}`: {_words(p.description)}" for p in section.value)
        elif section.kind is griffe.DocstringSectionKind.raises:
            yield "Raises:\n\n" + "\n".join(
                f"- `{r.annotation}`: {_words(r.description)}" for r in section.value
            )


def _words(text: str, *, keep_lines: bool = False) -> str:
    """Docstring markup as Markdown: roles and double backticks become single ones."""
    plain = _ROLE.sub(r"`\1`", text).replace("``", "`")
    return plain.strip() if keep_lines else " ".join(plain.split())
