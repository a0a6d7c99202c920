"""Multiple choice over short videos: NExT-QA, MVBench, EgoSchema, TempCompass, PerceptionTest."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from kinema.evaluation.benchmarks.base import Folder
from kinema.evaluation.records import Item

_TVQA_FPS = 3.0
_NEXTQA_KINDS = {"C": "causal", "T": "temporal", "D": "descriptive"}


def next_qa(folder: Folder, split: str) -> list[Item]:
    """``{split}.csv`` with options ``a0`` to ``a4`` and ``map_vid_vidorID.json``."""
    return [
        Item(
            task="choice",
            options=tuple(row[f"a{i}"] for i in range(5)),
            answer=int(row["answer"]),
            **common,
        )
        for row, common in _next_qa_rows(folder, split)
    ]


def next_qa_open(folder: Folder, split: str) -> list[Item]:
    """``{split}.csv`` with free answers and ``map_vid_vidorID.json``."""
    return [
        Item(
            task="text",
            references=tuple(filter(None, (row["answer"], row.get("additional_ref_answer")))),
            **common,
        )
        for row, common in _next_qa_rows(folder, split)
    ]


def _next_qa_rows(folder: Folder, split: str) -> Iterator[tuple[dict[str, str], dict[str, Any]]]:
    """Each row with the fields of its item that both kinds of answers share."""
    places = folder.json("map_vid_vidorID.json") if folder.maybe("map_vid_vidorID.json") else {}
    for row in folder.table(f"{split}.csv"):
        kind = row["type"]
        yield (
            row,
            {
                "id": f"{row['video']}-{row['qid']}",
                "question": row["question"].rstrip("?").capitalize() + "?",
                "video": folder.video(places.get(row["video"], row["video"]), row["video"]),
                "video_id": row["video"],
                "groups": {"kind": _NEXTQA_KINDS[kind[0]], "type": kind},
            },
        )


def mvbench(folder: Folder, split: str) -> list[Item]:
    """``json/*.json``, one a task, and ``video/``; TVQA as folders of pictures, three a second."""
    return [_mvbench_item(folder, row, task, place) for task, place, row in folder.tasks()]


def _mvbench_item(folder: Folder, row: dict[str, Any], task: str, position: int) -> Item:
    options = tuple(map(str, row["candidates"]))
    video = folder.video(row["video"])
    return Item(
        id=f"{task}-{position}",
        task="choice",
        question=row["question"],
        video=video,
        video_id=row["video"],
        start_seconds=row.get("start"),
        end_seconds=row.get("end"),
        options=options,
        answer=options.index(str(row["answer"])),
        groups={"task": task.replace("_", " ")},
        facts={"fps": _TVQA_FPS} if (folder.root / video).is_dir() else {},
    )


def egoschema(folder: Folder, split: str) -> list[Item]:
    """``questions.json``, ``subset_answers.json``, ``videos/``; only the subset has answers."""
    answers = folder.json("subset_answers.json") if folder.maybe("subset_answers.json") else {}
    return [
        folder.item(
            row["q_uid"],
            id=row["q_uid"],
            task="choice",
            question=row["question"],
            options=tuple(row[f"option {i}"] for i in range(5)),
            answer=None if split == "full" else int(answers[row["q_uid"]]),
        )
        for row in folder.json("questions.json")
        if split == "full" or row["q_uid"] in answers
    ]


_OPTION_LINE = re.compile(r"^\(?([A-Z])[.)]\s*(.+)$|^(?:Option|Caption|Sentence) ([A-Z0-9]): (.+)$")
_TEMPCOMPASS_FILES = {
    "multi-choice": ("multi-choice.json", "multi_choice.json"),
    "yes/no": ("yes_no.json",),
    "caption matching": ("caption_matching.json",),
    "captioning": ("captioning.json",),
}


def tempcompass(folder: Folder, split: str) -> list[Item]:
    """``questions/<format>.json``, by video and dimension."""
    items = []
    for form, names in _TEMPCOMPASS_FILES.items():
        for video, dimensions in folder.json(*(f"questions/{n}" for n in names), *names).items():
            for dimension, rows in dimensions.items():
                for i, row in enumerate(rows):
                    common = {
                        "id": f"{form}-{video}-{dimension}-{i}",
                        "video": folder.video(video),
                        "video_id": video,
                        "groups": {"format": form, "dimension": dimension},
                    }
                    items.append(_tempcompass_item(row, form, common))
    return items


def _tempcompass_item(row: dict[str, Any], form: str, common: dict[str, Any]) -> Item:
    if form == "captioning":
        # The official score asks a language model which option the caption says; without a judge
        # the right option's words must stand in it.
        right = _without_label(row["mc_answer"])
        return Item(task="text", question=row["question"], references=(right,), **common)
    options: tuple[str, ...]
    if form == "yes/no":
        answer = 0 if row["answer"].strip().lower().startswith("yes") else 1
        options, lettered, question = ("yes", "no"), False, row["question"]
    else:
        question, options = _split_options(row["question"])
        answer, lettered = options.index(_without_label(row["answer"])), True
    return Item(
        task="choice",
        question=question,
        options=options,
        answer=answer,
        lettered=lettered,
        **common,
    )


def _split_options(text: str) -> tuple[str, tuple[str, ...]]:
    """Question and options of a text that holds both, an option a line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    options = [line for line in lines if _OPTION_LINE.match(line)]
    question = "\n".join(line for line in lines if line not in options)
    return question, tuple(map(_without_label, options))


def _without_label(line: str) -> str:
    match = _OPTION_LINE.match(line.strip())
    return (match[2] or match[4]).strip() if match else line.strip()


def perception_test(folder: Folder, split: str) -> list[Item]:
    """``mc_question_{split}.json`` (or ``all_{split}.json``): ``mc_question`` lists by video."""
    videos = folder.json(f"mc_question_{split}.json", f"all_{split}.json")
    return [
        folder.item(
            video,
            id=f"{video}-{row['id']}",
            task="choice",
            question=row["question"],
            options=tuple(row["options"]),
            answer=row.get("answer_id"),
            groups={name: row[name] for name in ("area", "reasoning") if name in row},
        )
        for video, content in videos.items()
        for row in content["mc_question"]
    ]
