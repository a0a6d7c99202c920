"""A benchmark of one's own: a JSON line a question."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from kinema.errors import UsageError
from kinema.evaluation.benchmarks.base import Folder
from kinema.evaluation.choice import LETTERS
from kinema.evaluation.records import Item

_KEYS = {
    *("id", "video", "question", "options", "answer", "answers", "task", "groups"),
    *("start", "end", "subtitles"),
}


def jsonl(folder: Folder, split: str) -> list[Item]:
    """``*.jsonl`` (the file itself, or the only one of a folder) beside its videos.

    Keys: ``video``, ``question``, and ``options`` with ``answer`` (letter, position or text), or
    ``answer``/``answers``; optional ``id``, ``task``, ``groups``, ``start``, ``end`` and
    ``subtitles``.
    """
    path = _file(folder, split)
    folder.read_files.append(path)
    lines = path.read_text(encoding="utf-8").splitlines()
    rows = [(n, line) for n, line in enumerate(lines, start=1) if line.strip()]
    return [_item(path.parent, _row(path, n, line), n) for n, line in rows]


def _file(folder: Folder, split: str) -> Path:
    if folder.root.is_file():
        return folder.root
    found = sorted(folder.root.glob("*.jsonl"))
    if len(found) != 1:
        raise UsageError(
            f"{folder.root} holds {len(found)} JSONL files.", hint="Name the one to use."
        )
    return found[0]


def _row(path: Path, number: int, line: str) -> dict[str, Any]:
    try:
        row = json.loads(line)
    except json.JSONDecodeError as problem:
        raise UsageError(f"{path}, line {number}: {problem}.", hint="One JSON a line.") from None
    unknown = set(row) - _KEYS
    if unknown or "question" not in row:
        what = f"the key {min(unknown)!r} is unknown" if unknown else "there is no question"
        raise UsageError(
            f"{path}, line {number}: {what}.", hint=f"Keys: {', '.join(sorted(_KEYS))}"
        )
    return dict(row)


def _item(parent: Path, row: dict[str, Any], number: int) -> Item:
    options = tuple(map(str, row.get("options", ())))
    answers = row.get("answers", [row["answer"]] if "answer" in row else [])
    answers = [answers] if isinstance(answers, str) else answers  # not its letters
    video = row.get("video", "")
    return Item(
        id=str(row.get("id", number)),
        task=row.get("task", "choice" if options else "text"),
        question=row["question"],
        video=video if (parent / video).exists() else "",
        video_id=video,
        start_seconds=row.get("start"),
        end_seconds=row.get("end"),
        options=options,
        answer=_position(row.get("answer"), options) if options else None,
        references=() if options else tuple(map(str, answers)),
        groups={str(k): str(v) for k, v in row.get("groups", {}).items()},
        subtitles=row.get("subtitles", ""),
    )


def _position(answer: Any, options: tuple[str, ...]) -> int | None:
    """A position from 0, a letter or the option's own text."""
    if answer is None:
        return None
    if str(answer) in options:
        return options.index(str(answer))
    letters = LETTERS[: len(options)]
    return letters.index(letters[answer] if isinstance(answer, int) else answer.upper())
