"""Captions and moments: MSRVTT, YouCook2, Charades-STA."""

from __future__ import annotations

from kinema.evaluation.benchmarks.base import Folder
from kinema.evaluation.records import Item

_DESCRIBE = "Describe the video in one sentence."
_STEP = "Describe this step of the recipe in one sentence."


def msrvtt_captions(folder: Folder, split: str) -> list[Item]:
    """``{split}_videodatainfo.json``: ``videos`` and 20 ``sentences`` a video."""
    info = folder.json(f"{split}_videodatainfo.json", "videodatainfo.json", "MSRVTT_data.json")
    captions: dict[str, list[str]] = {}
    for sentence in info["sentences"]:
        captions.setdefault(sentence["video_id"], []).append(sentence["caption"])
    return [
        folder.item(
            video["video_id"],
            id=video["video_id"],
            task="caption",
            question=_DESCRIBE,
            references=tuple(captions[video["video_id"]]),
        )
        for video in info["videos"]
        if video["split"] == split
    ]


def youcook2(folder: Folder, split: str) -> list[Item]:
    """``youcookii_annotations_trainval.json``: one item a segment."""
    database = folder.json("youcookii_annotations_trainval.json")["database"]
    return [
        folder.item(
            video,
            id=f"{video}-{segment['id']}",
            task="caption",
            question=_STEP,
            start_seconds=float(segment["segment"][0]),
            end_seconds=float(segment["segment"][1]),
            references=(segment["sentence"],),
            groups={"recipe": str(content.get("recipe_type", ""))},
        )
        for video, content in database.items()
        if content["subset"] == split
        for segment in content["annotations"]
    ]


def charades_sta(folder: Folder, split: str) -> list[Item]:
    """``charades_sta_{split}.txt``: ``video start end##sentence`` lines."""
    lines = (line.partition("##") for line in folder.lines(f"charades_sta_{split}.txt"))
    moments = ((*head.split(), sentence) for head, _, sentence in lines)
    return [
        folder.item(
            video,
            id=f"{video}-{i}",
            task="span",
            question=sentence.strip().rstrip("."),
            references=(f"{float(start)} {float(end)}",),
        )
        for i, (video, start, end, sentence) in enumerate(moments)
    ]
