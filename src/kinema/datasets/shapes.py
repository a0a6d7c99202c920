"""The shapes that training data comes in, each turned into a conversation.

``chat`` is kinema's own: messages whose parts name their media. ``conversations`` is LLaVA's and
ShareGPT's; ``messages`` puts media into columns beside the messages (LLaMA-Factory, ms-swift);
``query`` is ms-swift's query and response, ``alpaca`` instruction and output; ``dataset`` is a
Hugging Face data set with a ``Video()`` column.

What a row holds beside that and would change what is learned (preferences, tools, sound, turns that
are not trained on) is refused by name, never passed over.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

from kinema.datasets.conversations import Supply, conversation_from_json, media_source
from kinema.errors import UsageError
from kinema.files import FEATURES_SUFFIXES
from kinema.lazy import Named
from kinema.messages import (
    Conversation,
    FeaturesPart,
    ImagePart,
    Message,
    Part,
    Role,
    TextPart,
    VideoPart,
)

Shape = Literal["chat", "conversations", "messages", "query", "alpaca", "dataset"]

TITLES: Mapping[Shape, str] = {
    "chat": "kinema's own: messages whose parts name their media",
    "conversations": "LLaVA or ShareGPT: conversations of human and gpt, <video> tags",
    "messages": "messages with a column of videos (LLaMA-Factory, ms-swift), <video> tags",
    "query": "ms-swift: query, response and history, with a column of videos",
    "alpaca": "Alpaca: instruction, input, output and history, with a column of videos",
    "dataset": "a Hugging Face data set with a Video() column",
}

_COLUMNS: Mapping[str, tuple[str, ...]] = {
    "video": ("videos", "video", "file_name"),
    "image": ("images", "image"),
}
_UNREAD = {
    "rejected_response": "preferences",
    "rejected_messages": "preferences",
    "chosen": "preferences",
    "rejected": "preferences",
    "kto_tag": "preferences",
    "tools": "tools",
    "audios": "sound",
    "audio": "sound",
    "objects": "boxes",
}
"""Columns of ms-swift and LLaMA-Factory that mean something else is to be learned."""
_UNREAD_IN_TURNS = ("loss", "loss_scale", "weight", "tool_calls")
_PAIRS: Mapping[Shape, tuple[str, str]] = {
    "query": ("query", "response"),
    "alpaca": ("instruction", "output"),
}
_TAG = re.compile(r"\s*<(video|image)>\s*")
_ROLES: Named[Role] = Named(
    "role",
    {
        "human": "user",
        "user": "user",
        "gpt": "assistant",
        "chatgpt": "assistant",
        "bard": "assistant",
        "assistant": "assistant",
        "model": "assistant",
        "system": "system",
    },
)
_FOLDER = re.compile(r"\{(?:video|image)_folder\}/*")
"""NeVA's placeholder for the folder that paths are relative to."""


def shape_of(row: Any) -> Shape:
    """Which shape a row has.

    Raises:
        UsageError: none that is known.
    """
    if not isinstance(row, Mapping):
        raise UsageError("The row is no JSON object.", hint="Write one object a sample.")
    columns = [row.get(name) for names in _COLUMNS.values() for name in names]
    if "file_name" in row or any(_is_column(value) for value in columns):
        return "dataset"
    if "conversations" in row:
        return "conversations"
    if "messages" in row:
        beside = any(name in row for names in _COLUMNS.values() for name in names)
        return "messages" if beside or _wants_media(row["messages"]) else "chat"
    for shape, pair in _PAIRS.items():
        if set(pair) <= set(row):
            return shape
    raise UsageError(
        f"The row has {', '.join(map(str, row)) or 'no field'}.",
        hint="Known are: messages, conversations, query and response, instruction and output.",
    )


def _is_column(value: Any) -> bool:
    """True for what Hugging Face's ``Video()`` becomes: path and bytes, or a list of those."""
    one = value[0] if isinstance(value, list) and value else value
    return isinstance(one, Mapping) and {"bytes", "path"} <= set(one)


def _wants_media(messages: Any) -> bool:
    """True for tags in a content that is words, and for parts that name no medium."""
    contents = [m.get("content") for m in messages or () if isinstance(m, Mapping)]
    tagged = any(isinstance(content, str) and _TAG.search(content) for content in contents)
    parts = [part for content in contents if isinstance(content, list) for part in content]
    return tagged or {"type": "video"} in parts or {"type": "image"} in parts


def conversation_of(row: Mapping[str, Any], folder: Path) -> Conversation:
    """The conversation of a row of any shape; relative paths start at ``folder``.

    Raises:
        UsageError: says what is wrong with the row.
    """
    shape = shape_of(row)
    _refuse_unread(row)
    if shape == "chat":
        return conversation_from_json(row["messages"], folder)
    media = _Media(row, folder)
    if shape in _PAIRS:
        conversation = Conversation(tuple(_exchanges(row, *_PAIRS[shape], media)))
    elif row.get("conversations") is not None:
        conversation = Conversation(tuple(_turns(row, media)))
    else:
        conversation = _from_messages(row, folder, media)
    media.check_all_taken()
    return conversation


def _refuse_unread(row: Mapping[str, Any]) -> None:
    """Refuse what would change what is learned and is not read.

    Raises:
        UsageError: names the column or the field of a turn.
    """
    for name, meaning in _UNREAD.items():
        if row.get(name):
            raise UsageError(
                f"The row has `{name}`: {meaning}, which are not learned here.",
                hint="Leave the column out to learn from the rest.",
            )
    for turn in row.get("messages") or ():
        for name in _UNREAD_IN_TURNS:
            if isinstance(turn, Mapping) and turn.get(name) is not None:
                raise UsageError(
                    f"A turn has `{name}`, which is not read.",
                    hint="All turns of the assistant are learned from.",
                )


class _Media:
    """The media of a row, handed out in order as tags ask for them."""

    def __init__(self, row: Mapping[str, Any], folder: Path) -> None:
        self._folder = folder
        self._given = {kind: _listed(row, names) for kind, names in _COLUMNS.items()}
        self.num_videos = len(self._given["video"])
        tags = _TAG.findall(_words(row))
        # LLaVA-Video writes <image> where its one medium, a video, belongs.
        self.image_is_video = tags.count("image") == self.num_videos > 0 and not (
            self._given["image"] or "video" in tags
        )
        self.has_tags = bool(tags)
        self._taken = dict.fromkeys(_COLUMNS, 0)

    def take(self, kind: str) -> Any:
        kind = self.kind_of(kind)
        self._taken[kind] += 1
        if self._taken[kind] > len(self._given[kind]):
            return None
        return self.source(self._given[kind][self._taken[kind] - 1])

    @property
    def tags(self) -> str:
        """A tag for each medium, for rows whose words hold none."""
        return "".join(f"<{kind}>" * len(given) for kind, given in self._given.items())

    def kind_of(self, tag: str) -> str:
        """What a tag stands for: video or image."""
        return "video" if self.image_is_video else tag

    def part(self, tag: str) -> Part | None:
        """The next medium of a tag; None where the row names no more."""
        source = self.take(tag)
        if source is None:
            return None
        return _medium(source) if self.kind_of(tag) == "video" else ImagePart(source)

    def supply(self, kind: str) -> Supply:
        while (source := self.take(kind)) is not None:
            yield source

    def source(self, value: Any) -> Any:
        if isinstance(value, str):
            value = _FOLDER.sub("", value)
        return media_source(value, self._folder)

    def check_all_taken(self) -> None:
        for kind, given in self._given.items():
            if self._taken[kind] != len(given):
                raise UsageError(
                    f"The row has {self._taken[kind]} <{kind}> and names {len(given)}.",
                    hint=f"Write one <{kind}> for each {kind}, where it belongs.",
                )


def _listed(row: Mapping[str, Any], names: tuple[str, ...]) -> list[Any]:
    values = [row[name] for name in names if row.get(name)]
    if not values:
        return []
    return values[0] if isinstance(values[0], list) else [values[0]]


def _turns(row: Mapping[str, Any], media: _Media) -> Iterator[Message]:
    if row.get("system"):
        yield Message("system", (TextPart(str(row["system"])),))
    turns = row["conversations"]
    if not isinstance(turns, list) or not turns:
        raise UsageError("`conversations` is no list of turns.", hint='{"from", "value"} each.')
    for turn in turns:
        if not isinstance(turn, Mapping) or not {"from", "value"} <= set(turn):
            raise UsageError("A turn has no from and value.", hint='{"from", "value"} each.')
        role = _ROLES[turn["from"]]
        yield Message(role, _parts(str(turn["value"]), role, media.part))


def _exchanges(
    row: Mapping[str, Any], asked: str, answered: str, media: _Media
) -> Iterator[Message]:
    """Turns of pairs: those of ``history``, then the row's own.

    Where no words hold a tag, media stand in front of the first question, as in ms-swift.
    """
    if row.get("system"):
        yield Message("system", (TextPart(str(row["system"])),))
    question = "\n".join(str(row[name]) for name in (asked, "input") if row.get(name))
    history = row.get("history") or []
    if not isinstance(history, list) or not all(_is_pair(pair) for pair in history):
        raise UsageError("`history` is not a list of pairs.", hint='[["question", "answer"], …]')
    for number, (said, reply) in enumerate([*history, (question, row[answered])]):
        if not isinstance(reply, str) or not reply:
            raise UsageError(f"`{answered}` is not a text.", hint="Each question has its answer.")
        tags = "" if number or media.has_tags else media.tags
        yield Message("user", _parts(tags + said, "user", media.part))
        yield Message("assistant", (TextPart(reply),))


def _is_pair(value: Any) -> bool:
    return (
        isinstance(value, list) and len(value) == 2 and all(isinstance(one, str) for one in value)
    )


def _is_users(turn: Mapping[str, Any]) -> bool:
    return _ROLES.get(str(turn.get("from", turn.get("role")))) == "user"


def _words(row: Mapping[str, Any]) -> str:
    """All that the user says in a row, where tags may be."""
    turns = [*(row.get("conversations") or ()), *(row.get("messages") or ())]
    users = (t for t in turns if isinstance(t, Mapping) and _is_users(t))
    said = [turn.get("value", turn.get("content")) for turn in users]
    pairs = row.get("history") if isinstance(row.get("history"), list) else []
    said += [row.get(name) for name in ("query", "instruction", "input")]
    said += [pair[0] for pair in pairs or () if isinstance(pair, list) and pair]
    return "\n".join(one for one in said if isinstance(one, str))


def _from_messages(row: Mapping[str, Any], folder: Path, media: _Media) -> Conversation:
    if row.get("messages") is None:
        raise UsageError("The row has neither messages nor conversations.", hint="Add one.")
    read = conversation_from_json(
        row["messages"], folder, videos=media.supply("video"), images=media.supply("image")
    )
    # Tags become parts where a content is words.
    return Conversation(
        tuple(
            Message(message.role, _parts(raw["content"], message.role, media.part))
            if isinstance(raw["content"], str)
            else message
            for message, raw in zip(read.messages, row["messages"], strict=True)
        )
    )


def _parts(text: str, role: Role, take: Callable[[str], Part | None]) -> tuple[Part, ...]:
    """Words and media of one turn; blanks around a tag are the template's business."""
    if role != "user":
        return (TextPart(text),)
    pieces = _TAG.split(text)  # words, kind, words, kind, words …
    parts: list[Part] = []
    for place, piece in enumerate(pieces):
        if place % 2 == 0:
            parts += [TextPart(piece)] if piece or len(pieces) == 1 else []
        elif (part := take(piece)) is not None:
            parts.append(part)
    return tuple(parts)


def _medium(source: Any) -> Part:
    """A video, or the features that stand for one: Video-ChatGPT's data names ``X.pkl``."""
    if isinstance(source, Path) and source.suffix.lower() in FEATURES_SUFFIXES:
        return FeaturesPart(source)
    return VideoPart(source)
