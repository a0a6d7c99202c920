"""Multiple choice over long videos, some with subtitles: Video-MME, LongVideoBench, MLVU."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from kinema.datasets.rows import read_parquet
from kinema.evaluation.benchmarks.base import Folder
from kinema.evaluation.choice import LETTERS
from kinema.evaluation.records import Item
from kinema.textfiles import read_json

_LABEL = re.compile(r"^\(?[A-Z][.):]\s*")
_SRT_TEXT = re.compile(r"\d+\s*\n[\d:,.]+\s*-->\s*[\d:,.]+[^\n]*\n(.*?)(?:\n\s*\n|\Z)", re.DOTALL)
_MARKUP = re.compile(r"<[^>]*>|\{[^}]*\}")


def video_mme(folder: Folder, split: str) -> list[Item]:
    """``videomme/*.parquet``, ``data/<videoID>.mp4``.

    With subtitles, ``subtitle/<videoID>.srt`` stands in front of the question.
    """
    paths = sorted(folder.root.rglob("*.parquet"))
    folder.read_files += paths
    rows = (row.value for path in paths for row in read_parquet(path))
    groups = ("duration", "domain", "sub_category", "task_type")
    return [
        folder.item(
            row["videoID"],
            id=row["question_id"],
            task="choice",
            question=row["question"],
            options=tuple(_LABEL.sub("", option) for option in row["options"]),
            answer=LETTERS.index(row["answer"].strip()),
            groups={name: row[name] for name in groups if row.get(name)},
            subtitles=_srt(folder, row["videoID"]) if folder.name.endswith("-sub") else "",
        )
        for row in rows
    ]


def _srt(folder: Folder, name: str) -> str:
    path = folder.maybe(f"subtitle/{name}.srt", f"subtitles/{name}.srt", f"{name}.srt")
    return srt_text(path.read_text(encoding="utf-8", errors="replace")) if path else ""


def srt_text(srt: str) -> str:
    """The words of a SubRip file, a line a cue."""
    cues = (_MARKUP.sub("", cue) for cue in _SRT_TEXT.findall(srt.replace("\r", "")))
    return "\n".join(" ".join(cue.split()) for cue in cues if cue.strip())


def long_video_bench(folder: Folder, split: str) -> list[Item]:
    """``lvb_{split}.json``, ``videos/``, ``subtitles/``."""
    return [
        folder.item(
            row["video_path"],
            id=row["id"],
            task="choice",
            question=row["question"],
            options=tuple(row["candidates"]),
            answer=row.get("correct_choice"),
            groups={
                "duration": f"{row['duration_group']} s",
                "category": row["question_category"],
            },
            subtitles=_json_subtitles(folder.maybe(f"subtitles/{row['subtitle_path']}")),
        )
        for row in folder.json(f"lvb_{split}.json")
    ]


def _json_subtitles(path: Path | None) -> str:
    """Lines of ``{"start", "end", "line"}`` or ``{"timestamp", "text"}`` cues."""
    if path is None or not path.is_file():
        return ""
    cues = read_json(path)
    return "\n".join(str(cue.get("line") or cue.get("text") or "") for cue in cues)


def mlvu(folder: Folder, split: str) -> list[Item]:
    """``json/*.json``, one a task, and ``video/<task>/``; without candidates it is free text."""
    return [_mlvu_item(folder, row, task, place) for task, place, row in folder.tasks()]


def _mlvu_item(folder: Folder, row: dict[str, Any], task: str, position: int) -> Item:
    common: dict[str, Any] = {
        "id": f"{task}-{position}",
        "question": row["question"],
        "video": folder.video(f"{task}/{row['video']}", row["video"]),
        "video_id": row["video"],
        "groups": {"task": row.get("question_type") or task},
    }
    if not row.get("candidates"):
        return Item(task="text", references=(row["answer"],), **common)
    options = tuple(row["candidates"])
    return Item(task="choice", options=options, answer=options.index(row["answer"]), **common)
