"""Small data sets in the exact on-disk layout of each benchmark."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from PIL import Image

from support.action_layouts import breakfast, breakfast_chat, charades_sta, salads, salads_chat
from support.layout_files import FIVE, WORDS, write_clip, write_csv, write_json


def msvd_qa(root: Path) -> None:
    write_json(
        root / "test_qa.json",
        [
            {
                "id": i,
                "video_id": i % 2 + 1,
                "question": "what is it?",
                "answer": w,
                "category_id": 0,
            }
            for i, w in enumerate(WORDS)
        ],
    )
    (root / "youtube_mapping.txt").write_text("abc_1_10 vid1\ndef_2_20 vid2\n")
    for name in ("abc_1_10", "def_2_20"):
        write_clip(root / "YouTubeClips" / f"{name}.avi")


def msrvtt_qa(root: Path) -> None:
    write_json(
        root / "test_qa.json",
        [
            {"id": i, "video_id": 7010 + i, "question": "who runs?", "answer": w, "category_id": 14}
            for i, w in enumerate(WORDS)
        ],
    )
    for i in range(len(WORDS)):
        write_clip(root / "videos" / "all" / f"video{7010 + i}.mp4")


def questions_and_answers(root: Path) -> None:
    write_json(
        root / "test_q.json",
        [
            {"video_name": f"x{i}", "question": f"what is {i}?", "question_id": f"x{i}_0"}
            for i in range(len(WORDS))
        ],
    )
    write_json(
        root / "test_a.json",
        [
            {"answer": w, "type": i, "question_id": f"x{i}_0"}
            for i, w in reversed(list(enumerate(WORDS)))
        ],
    )
    for i in range(len(WORDS)):
        write_clip(root / "videos" / f"v_x{i}.mp4")


def tgif(kind: str) -> Callable[[Path], None]:
    def write(root: Path) -> None:
        rows = []
        for i in range(3):
            row: dict[str, Any] = {"gif_name": f"tumblr_{i}", "question": "what happens?"}
            if kind in ("action", "transition"):
                row |= {f"a{n + 1}": text for n, text in enumerate(FIVE)} | {"answer": i}
            else:
                row |= {"answer": i + 2 if kind == "count" else WORDS[i]}
            rows.append(row | {"vid_id": f"ID{i}", "key": i})
            write_clip(root / "gifs" / f"tumblr_{i}.mp4")
        write_csv(root / f"Test_{kind}_question.csv", rows, delimiter="\t")

    return write


def video_chatgpt(root: Path) -> None:
    rows = [
        {"video_name": f"v_{i}", "Q": f"what {i}?", "A": f"a long answer {i}"} for i in range(2)
    ]
    write_json(root / "generic_qa.json", rows)
    write_json(root / "temporal_qa.json", rows[:1])
    write_json(
        root / "consistency_qa.json",
        [{"video_name": "v_0", "Q1": "what?", "Q2": "which thing?", "A": "a long answer"}],
    )
    for i in range(2):
        write_clip(root / "Test_Videos" / f"v_{i}.mp4")


def next_qa(root: Path) -> None:
    rows = [
        {
            **{"video": 100 + i, "frame_count": 25, "width": 96, "height": 64},
            **{"question": "why does it run", "answer": i, "qid": i, "type": kind},
            **{f"a{n}": text for n, text in enumerate(FIVE)},
        }
        for i, kind in enumerate(("CW", "TN", "DL"))
    ]
    write_csv(root / "nextqa" / "test.csv", rows)
    _next_videos(root)


def next_open(root: Path) -> None:
    rows = [
        {
            **{"video": 100 + i, "frame_count": 25, "width": 96, "height": 64},
            **{"question": "why does it run", "answer": WORDS[i], "qid": i, "type": kind},
        }
        for i, kind in enumerate(("CW", "TN", "DL"))
    ]
    write_csv(root / "nextoe" / "test.csv", rows)
    _next_videos(root)


def _next_videos(root: Path) -> None:
    write_json(root / "map_vid_vidorID.json", {str(100 + i): f"1164/32{i}" for i in range(3)})
    for i in range(3):
        write_clip(root / "NExTVideo" / "1164" / f"32{i}.mp4")


def mvbench(root: Path) -> None:
    for task, name in (("action_sequence", "ZS9XR.mp4"), ("moving_count", "video_1.mp4")):
        rows = [
            {"video": name, "question": f"which {i}?", "candidates": FIVE[:4], "answer": FIVE[i]}
            for i in range(2)
        ]
        rows[0] |= {"start": 0.2, "end": 0.8}
        write_json(root / "json" / f"{task}.json", rows)
        write_clip(root / "video" / task / name)
    write_json(
        root / "json" / "episodic_reasoning.json",
        [
            {
                **{"video": "friends_s03e10", "question": "who?", "candidates": FIVE},
                **{"answer": FIVE[0], "start": 0, "end": 2},
            }
        ],
    )
    folder = root / "video" / "tvqa" / "frames_fps3_hq" / "friends_s03e10"
    folder.mkdir(parents=True)
    for i in range(12):
        Image.new("RGB", (32, 32), (20 * i, 0, 0)).save(folder / f"{i + 1:05d}.jpg")


def egoschema(root: Path) -> None:
    rows = [
        {"q_uid": f"u{i}", "question": "what is c doing?"}
        | {f"option {n}": text for n, text in enumerate(FIVE)}
        for i in range(3)
    ]
    write_json(root / "questions.json", rows)
    write_json(root / "subset_answers.json", {"u0": 3, "u2": 1})
    for i in range(3):
        write_clip(root / "videos" / f"u{i}.mp4")


def video_mme(root: Path) -> None:
    import pyarrow as pa
    from pyarrow import parquet

    rows = [
        {
            **{"video_id": f"{i:03d}", "duration": length, "domain": "Knowledge"},
            **{"sub_category": "Biology", "url": "https://example.org", "videoID": f"yt{i}"},
            **{"question_id": f"{i:03d}-1", "task_type": "Counting", "question": "how many?"},
            **{"options": [f"{x}. {t}." for x, t in zip("ABCD", FIVE, strict=False)]},
            **{"answer": "ABCD"[i]},
        }
        for i, length in enumerate(("short", "medium", "long"))
    ]
    (root / "videomme").mkdir(parents=True)
    parquet.write_table(
        pa.Table.from_pylist(rows), root / "videomme" / "test-00000-of-00001.parquet"
    )
    (root / "subtitle").mkdir()
    for i in range(3):
        write_clip(root / "data" / f"yt{i}.mp4")
        (root / "subtitle" / f"yt{i}.srt").write_text(
            "1\n00:00:00,000 --> 00:00:01,000\n<i>Hello</i>\nthere\n\n"
            f"2\n00:00:01,000 --> 00:00:02,000\nnumber {i}\n"
        )


def long_video_bench(root: Path) -> None:
    rows = [
        {
            **{"id": f"v{i}_0", "video_path": f"v{i}.mp4", "question": "which?"},
            **{"candidates": FIVE[: 4 + i], "correct_choice": i, "duration": 10.0 * i},
            **{"subtitle_path": f"v{i}_en.json", "duration_group": (15, 600)[i]},
            **{"question_category": "S2E", "starting_timestamp_for_subtitles": 0},
        }
        for i in range(2)
    ]
    write_json(root / "lvb_val.json", rows)
    write_json(
        root / "subtitles" / "v0_en.json", [{"start": "00:00:00", "end": "00:01", "line": "Hi"}]
    )
    write_json(root / "subtitles" / "v1_en.json", [{"timestamp": [0, 1], "text": "Ho"}])
    for i in range(2):
        write_clip(root / "videos" / f"v{i}.mp4")


def mlvu(root: Path) -> None:
    for task, kind in (("1_plotQA", "plotQA"), ("3_ego", "ego")):
        rows = [
            {
                **{"video": f"{kind}_{i}.mp4", "duration": 1.0, "question": "which?"},
                **{"candidates": FIVE[:4], "answer": FIVE[i], "question_type": kind},
            }
            for i in range(2)
        ]
        write_json(root / "json" / f"{task}.json", rows)
        for row in rows:
            write_clip(root / "video" / task / row["video"])
    summary = {"video": "s.mp4", "duration": 1.0, "question": "Tell.", "answer": "A dog runs home."}
    write_json(root / "json" / "9_summary.json", [summary | {"question_type": "summary"}])
    write_clip(root / "video" / "9_summary" / "s.mp4")


def tempcompass(root: Path) -> None:
    questions = root / "questions"
    multiple = {"question": "What?\nA. cooking\nB. drinking", "answer": "B. drinking"}
    write_json(questions / "multi-choice.json", {"101": {"action": [multiple]}})
    write_json(
        questions / "yes_no.json",
        {
            "101": {
                "action": [
                    {"question": "Is it cooking?", "answer": "no"},
                    {"question": "Is it drinking?", "answer": "yes"},
                ]
            }
        },
    )
    write_json(
        questions / "caption_matching.json",
        {
            "102": {
                "order": [
                    {
                        "question": "Which fits?\nCaption A: It sinks.\nCaption B: It floats.",
                        "answer": "Caption B: It floats.",
                    },
                    {
                        "question": "Which fits?\nOption 1: It sinks.\nOption 2: It floats.",
                        "answer": "Option 1: It sinks.",
                    },
                ]
            }
        },
    )
    write_json(
        questions / "captioning.json",
        {
            "102": {
                "speed": [
                    {
                        "question": "Describe the speed.",
                        "mc_question": "Speed?\nA. fast motion\nB. slow motion",
                        "mc_answer": "A. fast motion",
                    }
                ]
            }
        },
    )
    for name in ("101", "102"):
        write_clip(root / "videos" / f"{name}.mp4")


def perception_test(root: Path) -> None:
    content = {
        f"video_{i}": {
            "metadata": {"split": "valid"},
            "mc_question": [
                {
                    **{"id": 0, "question": "which?", "options": FIVE[:3], "answer_id": i},
                    **{"area": "physics", "reasoning": "descriptive", "tag": ["motion"]},
                }
            ],
        }
        for i in range(2)
    }
    write_json(root / "mc_question_valid.json", content)
    for name in content:
        write_clip(root / "videos" / f"{name}.mp4")


def msrvtt_captions(root: Path) -> None:
    videos = [
        {
            **{"video_id": f"video{i}", "split": "test" if i else "train", "id": i, "category": 0},
            **{"start time": 0.0, "end time": 1.0, "url": "https://example.org"},
        }
        for i in range(4)
    ]
    sentences = [
        {
            "video_id": f"video{i}",
            "caption": f"a {WORDS[i]} moves {how} over the {i} hill",
            "sen_id": 0,
        }
        for i in range(4)
        for how in ("slowly", "fast", "quietly")
    ]
    write_json(root / "test_videodatainfo.json", {"videos": videos, "sentences": sentences})
    for i in range(4):
        write_clip(root / "TestVideo" / f"video{i}.mp4")


def youcook2(root: Path) -> None:
    database = {
        f"yc{i}": {
            **{"duration": 1.0, "subset": "validation" if i else "training", "recipe_type": "101"},
            "annotations": [
                {"segment": [0, 1], "id": 0, "sentence": f"cut the {WORDS[i]} into pieces"},
                {"segment": [0.5, 1], "id": 1, "sentence": f"put {WORDS[i]} in a big bowl"},
            ],
        }
        for i in range(3)
    }
    write_json(root / "annotations" / "youcookii_annotations_trainval.json", {"database": database})
    for name in database:
        write_clip(root / "raw_videos" / "validation" / "101" / f"{name}.mp4")


def own(root: Path) -> None:
    root.mkdir(parents=True, exist_ok=True)
    rows = [
        {"video": "a.mp4", "question": "which?", "options": FIVE[:3], "answer": "B"},
        {"video": "a.mp4", "question": "which?", "options": FIVE[:3], "answer": FIVE[2]},
        {"id": "open", "video": "a.mp4", "question": "what?", "answers": ["a dog", "dog"]},
        {"question": "how many?", "task": "count", "answer": 3, "video": "a.mp4"},
        {"question": "the jump", "task": "span", "answer": "0.2 0.5", "video": "a.mp4"},
    ]
    (root / "own.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    write_clip(root / "a.mp4")


LAYOUTS: dict[str, tuple[Callable[[Path], None], int]] = {
    "msvd-qa": (msvd_qa, 4),
    "msrvtt-qa": (msrvtt_qa, 4),
    "tgif-frameqa": (tgif("frameqa"), 3),
    "tgif-count": (tgif("count"), 3),
    "tgif-action": (tgif("action"), 3),
    "tgif-transition": (tgif("transition"), 3),
    "activitynet-qa": (questions_and_answers, 4),
    "video-chatgpt": (video_chatgpt, 5),
    "next-qa": (next_qa, 3),
    "next-oe": (next_open, 3),
    "mvbench": (mvbench, 5),
    "egoschema": (egoschema, 2),
    "video-mme": (video_mme, 3),
    "video-mme-sub": (video_mme, 3),
    "longvideobench": (long_video_bench, 2),
    "mlvu": (mlvu, 5),
    "tempcompass": (tempcompass, 6),
    "perceptiontest": (perception_test, 2),
    "msrvtt-caption": (msrvtt_captions, 3),
    "youcook2": (youcook2, 4),
    "charades-sta": (charades_sta, 2),
    "breakfast": (breakfast, 2),
    "50salads": (salads, 2),
    "breakfast-chat": (breakfast_chat, 2),
    "50salads-chat": (salads_chat, 1),
    "jsonl": (own, 5),
}
"""Benchmark: who writes it, and how many items it then has."""
