"""Questions with free answers: MSVD-QA, MSRVTT-QA, TGIF-QA, ActivityNet-QA, Video-ChatGPT's own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from kinema.evaluation.benchmarks.base import Folder
from kinema.evaluation.records import Item, Task

ACTIVITYNET_TYPES = (
    *("motion", "spatial", "temporal", "yes/no", "colour", "object", "location", "number"),
    "other",
)
ASPECTS = ("correctness", "detail", "context")


def msvd_qa(folder: Folder, split: str) -> list[Item]:
    """``test_qa.json`` with ``youtube_mapping.txt``, or ``test_q.json`` and ``test_a.json``."""
    if folder.maybe("test_q.json"):
        return questions_and_answers(folder, split)
    pairs = (line.split() for line in folder.lines("youtube_mapping.txt"))
    clips = {name: clip for clip, name in pairs}
    rows = folder.json(f"{split}_qa.json")
    return [_classic(folder, row, f"vid{row['video_id']}", clips) for row in rows]


def msrvtt_qa(folder: Folder, split: str) -> list[Item]:
    """``test_qa.json``, or ``test_q.json`` and ``test_a.json``."""
    if folder.maybe("test_q.json"):
        return questions_and_answers(folder, split)
    rows = folder.json(f"{split}_qa.json")
    return [_classic(folder, row, f"video{row['video_id']}", {}) for row in rows]


def _classic(folder: Folder, row: dict[str, Any], name: str, clips: dict[str, str]) -> Item:
    return folder.item(
        name,
        places=(name, clips.get(name, name)),
        id=str(row["id"]),
        task="text",
        question=row["question"],
        references=(str(row["answer"]),),
        groups={"question": row["question"].split()[0].lower()},
    )


def questions_and_answers(folder: Folder, split: str) -> list[Item]:
    """``{split}_q.json`` and ``{split}_a.json``, joined by question id (or by position)."""
    questions, answers = folder.json(f"{split}_q.json"), folder.json(f"{split}_a.json")
    by_id = {a["question_id"]: a for a in answers if "question_id" in a}
    return [
        _joined(folder, question, by_id.get(question.get("question_id")) or answers[i])
        for i, question in enumerate(questions)
    ]


def _joined(folder: Folder, question: dict[str, Any], answer: dict[str, Any]) -> Item:
    name = question["video_name"]
    groups = {"question": question["question"].split()[0].lower()}
    if "type" in answer:
        groups = {"type": ACTIVITYNET_TYPES[int(answer["type"])]}
    return folder.item(
        name,
        places=(name, f"v_{name}"),
        id=str(question["question_id"]),
        task="text",
        question=question["question"],
        references=(str(answer["answer"]),),
        groups=groups,
    )


def tgif(folder: Folder, split: str) -> list[Item]:
    """``Test_<kind>_question.csv``; FrameQA also as Video-LLaVA's ``test_q.json``, ``test_a.json``.

    The kind is that of the benchmark: frameqa, count, action or transition.
    """
    kind = folder.name.removeprefix("tgif-")
    if kind == "frameqa" and folder.maybe("test_q.json"):
        return questions_and_answers(folder, split)
    rows = folder.table(f"{split.title()}_{kind}_question.csv", f"{split}_{kind}_question.csv")
    return [_tgif_item(folder, row, f"{kind}-{i}", kind) for i, row in enumerate(rows)]


def _tgif_item(folder: Folder, row: dict[str, str], item_id: str, kind: str) -> Item:
    common: dict[str, Any] = {
        "id": item_id,
        "question": row["question"],
        "video": folder.video(row["gif_name"]),
        "video_id": row["gif_name"],
    }
    if kind in ("action", "transition"):
        options = tuple(row[f"a{i}"] for i in range(1, 6))
        return Item(task="choice", options=options, answer=int(row["answer"]), **common)
    task: Task = "count" if kind == "count" else "text"
    return Item(task=task, references=(row["answer"],), **common)


def video_chatgpt(folder: Folder, split: str) -> list[Item]:
    """``generic_qa.json``, ``temporal_qa.json``, ``consistency_qa.json``.

    A generic answer is judged in three aspects, a temporal one in one, and the two answers to the
    two wordings of a consistency question are judged together.
    """
    items = []
    for kind, aspects in (("generic", ASPECTS), ("temporal", ("temporal",))):
        for i, row in enumerate(folder.json(f"{kind}_qa.json")):
            items.append(_aspect_item(folder, row, f"{kind}-{i}", row["Q"], aspects))
    for i, row in enumerate(folder.json("consistency_qa.json")):
        first, second = f"consistency-{i}-Q1", f"consistency-{i}-Q2"
        items.append(_aspect_item(folder, row, first, row["Q1"], ()))
        items.append(_aspect_item(folder, row, second, row["Q2"], ("consistency",), first))
    return items


def _aspect_item(
    folder: Folder,
    row: dict[str, Any],
    item_id: str,
    question: str,
    aspects: Sequence[str],
    partner: str = "",
) -> Item:
    return folder.item(
        row["video_name"],
        id=item_id,
        task="text",
        question=question,
        references=(row["A"],),
        groups={"set": item_id.partition("-")[0]},
        facts={"aspects": list(aspects), "partner": partner},
    )
