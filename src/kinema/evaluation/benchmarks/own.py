"""A benchmark of one's own: a JSON line a question."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

from kinema.datasets.segments import parse_segments
from kinema.errors import UsageError
from kinema.evaluation.benchmarks.base import Folder, WrongRow, WrongRows
from kinema.evaluation.choice import LETTERS
from kinema.evaluation.records import Item, Task
from kinema.textfiles import read_lines

_TASKS = get_args(Task)


def jsonl(folder: Folder, split: str) -> list[Item]:
    """``*.jsonl`` (the file itself, or the only one of a folder) beside its videos.

    Keys: ``video``, ``question``, and ``options`` with ``answer`` (letter, position or text), or
    ``answer``/``answers``; optional ``id``, ``task``, ``groups``, ``start``, ``end`` and
    ``subtitles``. A key that is null counts as left out.

    Raises:
        WrongRows: every row that cannot be asked or scored.
    """
    path = _file(folder, split)
    folder.read_files.append(path)
    items: dict[str, Item] = {}
    wrong: list[WrongRow] = []
    for number, line in read_lines(path):
        try:
            row = _row(line)
        except (TypeError, ValueError, RecursionError) as problem:
            wrong.append(WrongRow(number, "row", line.strip(), f"a JSON object ({problem})"))
            continue
        found = list(_problems(row, number, items))
        wrong += [WrongRow(number, name, row.get(name), allowed) for name, allowed in found]
        if not found:
            item = _item(path.parent, row, number)
            items[item.id] = item
    if wrong:
        raise WrongRows(path, wrong, list(items.values()))
    return list(items.values())


def _file(folder: Folder, split: str) -> Path:
    if folder.root.is_file():
        return folder.root
    found = sorted(folder.root.glob("*.jsonl"))
    if len(found) != 1:
        raise UsageError(
            f"{folder.root} holds {len(found)} JSONL files.", hint="Name the one to use."
        )
    return found[0]


def _row(line: str) -> dict[str, Any]:
    """What is said in a line.

    Raises:
        TypeError, ValueError: it is not a JSON object in UTF-8.
    """
    row = json.loads(line.encode("utf-8", "surrogateescape").decode())
    if not isinstance(row, dict):
        raise TypeError(f"this is a {type(row).__name__}")
    return {key: value for key, value in row.items() if value is not None}


# --- what is allowed ----------------------------------------------------------------------------


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _is_word(value: Any) -> bool:
    return isinstance(value, str) or _is_number(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 1e15


def _is_list(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_word, value))


def _is_time(value: Any) -> bool:
    return _is_number(value) and value >= 0


_KEYS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "id": (_is_word, "a text or a number"),
    "video": (lambda v: isinstance(v, str), "the name of a file, as a text"),
    "question": (_is_text, "a text that is not empty"),
    "options": (
        lambda v: _is_list(v) and 1 <= len(v) <= len(LETTERS),
        f"a list of 1 to {len(LETTERS)} texts",
    ),
    "answer": (_is_word, "a text or a number"),
    "answers": (lambda v: isinstance(v, str) or _is_list(v), "a text or a list of texts"),
    "task": (lambda v: v in _TASKS, f"one of {', '.join(_TASKS)}"),
    "groups": (
        lambda v: isinstance(v, dict) and all(map(_is_word, v.values())),
        'an object of texts, like {"kind": "colour"}',
    ),
    "start": (_is_time, "seconds, 0 or more"),
    "end": (_is_time, "seconds, 0 or more"),
    "subtitles": (lambda v: isinstance(v, str), "a text"),
}
"""Every key of a row, whether a value is allowed there, and what is."""


def _problems(
    row: Mapping[str, Any], number: int, others: Mapping[str, Item]
) -> Iterator[tuple[str, str]]:
    """The fields of a row that cannot be used, and what is allowed there."""
    known = ", ".join(_KEYS)
    yield from ((name, f"left out; keys are {known}") for name in row if name not in _KEYS)
    wrong = {n: rule for n, (holds, rule) in _KEYS.items() if n in row and not holds(row[n])}
    if "question" not in row:
        wrong["question"] = _KEYS["question"][1]
    yield from wrong.items()
    if wrong:
        return
    if str(row.get("id", number)) in others:
        yield "id", "different in every row"
    if row.get("end", math.inf) <= row.get("start", 0):
        yield "end", f"more than the start, {row.get('start', 0)}"
    task = _task(row)
    if (task == "choice") != ("options" in row):
        yield "options", f"{'a list' if task == 'choice' else 'left out'} for the task {task!r}"
    elif task == "choice":
        yield from _wrong_choice(row)
    else:
        holds, allowed = _REFERENCES.get(task, (lambda text: True, ""))
        if not all(map(holds, _references(row))):
            yield "answers" if "answers" in row else "answer", allowed


def _wrong_choice(row: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    options = tuple(map(str, row["options"]))
    if "answers" in row:
        yield "answers", "left out where there are options; one of them is the answer"
    if "answer" in row and _position(row["answer"], options) is None:
        last = len(options) - 1
        yield "answer", f"one of the options, a letter A to {LETTERS[last]}, or 0 to {last}"


def _is_span(text: str) -> bool:
    try:
        start, end = map(float, text.split())
    except ValueError:
        return False
    return 0 <= start < end < math.inf


def _is_count(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _is_segments(text: str) -> bool:
    found = parse_segments(text, ends="inclusive")
    return bool(found.segments) and not found.unparsed_lines


_REFERENCES: Mapping[Task, tuple[Callable[[str], bool], str]] = {
    "span": (_is_span, 'start and end in seconds, like "1.5 3.0"'),
    "count": (_is_count, "a number"),
    "segments": (_is_segments, 'lines of frame numbers and a label, like "1-30 take bowl"'),
}


# --- what is asked ------------------------------------------------------------------------------


def _task(row: Mapping[str, Any]) -> Task:
    task: Task = row.get("task", "choice" if "options" in row else "text")
    return task


def _references(row: Mapping[str, Any]) -> tuple[str, ...]:
    answers = row.get("answers", [row["answer"]] if "answer" in row else [])
    return tuple(map(str, [answers] if isinstance(answers, str) else answers))  # not its letters


def _item(parent: Path, row: Mapping[str, Any], number: int) -> Item:
    task, options = _task(row), tuple(map(str, row.get("options", ())))
    video, references = row.get("video", ""), _references(row)
    return Item(
        id=str(row.get("id", number)),
        task=task,
        question=row["question"],
        video=video if (parent / video).exists() else "",
        video_id=video,
        start_seconds=row.get("start"),
        end_seconds=row.get("end"),
        options=options,
        answer=_position(row.get("answer"), options),
        references=() if options else references,
        groups={str(k): str(v) for k, v in row.get("groups", {}).items()},
        subtitles=row.get("subtitles", ""),
        facts=_segment_facts(references) if task == "segments" else {},
    )


def _position(answer: Any, options: tuple[str, ...]) -> int | None:
    """A position from 0, a letter or the option's own text; None where it is none of these."""
    if str(answer) in options:
        return options.index(str(answer))
    if isinstance(answer, int):
        return answer if 0 <= answer < len(options) else None
    found = LETTERS[: len(options)].find(str(answer).upper()) if len(str(answer)) == 1 else -1
    return found if found >= 0 else None


def _segment_facts(references: tuple[str, ...]) -> dict[str, Any]:
    """The frames end with the last segment; a frame number is in its segment."""
    segments = parse_segments("\n".join(references), ends="inclusive").segments
    return {"ends": "inclusive", "num_frames": max((s.end for s in segments), default=0)}
