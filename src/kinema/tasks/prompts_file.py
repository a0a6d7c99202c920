"""Files of questions: records in, records out, and where their media are."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from kinema.errors import RequestRefused, UsageError
from kinema.files import stamp_of, write_atomically
from kinema.textfiles import read_json, read_json_lines, write_json_lines
from kinema.video.archive import SEPARATOR

MediaType = Literal["auto", "video", "image"]
_TEXT_FIELDS = ("prompt", "text", "question")
_MEDIA_FIELDS: tuple[Literal["video"], Literal["image"]] = ("video", "image")


@dataclass(frozen=True)
class Question:
    """One record, understood: what is asked about which medium."""

    text: str
    """The words, placeholders included."""
    kind: Literal["video", "image"] | None
    """What the medium is; None when the record names none."""
    medium: str = ""
    """Its name, as the record gives it."""


def read_records(path: Path) -> list[Any]:
    """The records of a ``.json`` list or a ``.jsonl`` file, in order.

    A line that is no JSON object becomes a record of its own, ``{"line": …}``: it fails later, by
    itself.

    Raises:
        UsageError: there is no such file, or it is neither.
    """
    if not path.is_file():
        raise UsageError(f"There is no prompt file {path}.", hint="Check the path.")
    if path.suffix in (".jsonl", ".ndjson"):
        return [{"line": row.text} if row.error else row.value for row in read_json_lines(path)]
    if path.suffix != ".json":
        raise UsageError(
            f"{path.name} is neither .json nor .jsonl.",
            hint="Give a JSON list, or one JSON object a line.",
        )
    records = read_json(path)
    if not isinstance(records, list):
        raise UsageError(f"{path.name} is no list.", hint="Put the records into [ ].")
    return records


def write_records(path: Path, records: Sequence[Mapping[str, Any]]) -> None:
    """Write a ``.json`` list, or one record a line for any other name; whole or not at all."""
    if path.suffix == ".json":
        write_atomically(path, json.dumps(list(records), indent=2, ensure_ascii=False) + "\n")
    else:
        write_json_lines(path, records)


def understand(
    record: Any,
    *,
    media_type: MediaType = "auto",
    insert: Literal["left", "right"] | None = None,
    separator: str = "",
) -> Question:
    """What a record asks.

    Args:
        record: has ``video`` or ``image``, and ``prompt``, ``text`` or ``question``.
        media_type: which of the two fields counts; auto takes the one that is there.
        insert: put the placeholder before or behind the words.
        separator: what stands between an inserted placeholder and the words.

    Raises:
        RequestRefused: a field is missing, or placeholders and media do not match.
    """
    if not isinstance(record, Mapping) or set(record) == {"line"}:
        raise RequestRefused("The record is no JSON object.", hint="Write one object a line.")
    given = (record[name] for name in _TEXT_FIELDS if record.get(name) is not None)
    text = next(given, None)
    if not isinstance(text, str):
        raise RequestRefused(
            "The record has no prompt.", hint=f"Name it {' or '.join(_TEXT_FIELDS)}."
        )
    kinds = _MEDIA_FIELDS if media_type == "auto" else (media_type,)
    kind = next((name for name in kinds if record.get(name)), None)
    if all(record.get(name) for name in kinds) and len(kinds) > 1:
        raise RequestRefused(
            "The record names a video and an image.", hint="Choose one: --media-type video."
        )
    if kind is None and (media_type != "auto" or insert):
        wanted = "video or image" if media_type == "auto" else media_type
        raise RequestRefused(f"The record has no {wanted}.", hint="Name the file in that field.")
    if kind is None:
        return Question(text, None)
    text = _with_placeholder(text, f"<{kind}>", insert, separator)
    return Question(text, kind, _one_medium(record[kind], kind))


def _one_medium(given: Any, kind: str) -> str:
    """The name of the only medium of a field, which may be a list of one."""
    names = given if isinstance(given, list) else [given]
    if len(names) != 1 or not isinstance(names[0], str):
        raise RequestRefused(
            f"The record's {kind} is {json.dumps(given, ensure_ascii=False)[:200]}, and must be "
            "the name of one file.",
            hint="Write a record for each, or ask about several with kinema chat.",
        )
    return names[0]


def _with_placeholder(
    text: str, placeholder: str, insert: Literal["left", "right"] | None, separator: str
) -> str:
    if insert == "left":
        text = f"{placeholder}{separator}{text}"
    elif insert == "right":
        text = f"{text}{placeholder}{separator}"
    if text.count(placeholder) != 1:
        raise RequestRefused(
            f"The prompt holds {text.count(placeholder)} {placeholder} and the record one medium.",
            hint="Write the placeholder once, or use --insert-media-token left without it.",
        )
    return text


@dataclass(frozen=True)
class MediaBase:
    """A folder or a tar that media names are relative to."""

    path: Path | None = None

    def find(self, name: str) -> Path | str:
        """The medium called ``name``: a path, or a member of the tar as ``archive.tar::name``.

        An absolute path is taken as it is. Nothing is opened.
        """
        if self.path is None or Path(name).is_absolute():
            return Path(name)
        if self.path.suffix == ".tar":
            return f"{self.path}{SEPARATOR}{name}"
        return self.path / name

    def file(self, name: str) -> Path:
        """The file that has to be there for the medium called ``name``."""
        found = self.find(name)
        file = Path(found) if isinstance(found, Path) else self.path
        assert file is not None
        return file

    def stamp(self, name: str) -> str:
        """Changes when the medium does: name, size and time of its file."""
        return f"{name} {stamp_of(self.file(name)) or 'absent'}"


def medium_of(record: Any) -> str:
    """The name of the medium that a record asks about; empty where it names none."""
    if not isinstance(record, Mapping):
        return ""
    given = record.get("video") or record.get("image") or ""
    return str(given[0]) if isinstance(given, list) and len(given) == 1 else str(given)


def prompts_by_medium(records: Sequence[Any]) -> Counter[str]:
    """How many records ask about each medium."""
    return Counter(map(medium_of, records))
