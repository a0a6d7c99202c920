"""Validation names every bad row with its line; statistics count what is there."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from kinema.errors import UsageError
from kinema.tasks.data.check import check_data
from kinema.tasks.data.convert import ConvertOptions, convert
from kinema.tasks.data.plot import save_plot
from kinema.tasks.data.stats import Histogram, data_stats
from small_actions import TEA, make_breakfast
from support.clips import make_clip


def row(video: Any = "good.mp4", turns: tuple[str, ...] = ("<video>\nWhat?", "Tea.")) -> Any:
    names = ("human", "gpt")
    said = [{"from": names[i % 2], "value": text} for i, text in enumerate(turns)]
    return {"video": video, "conversations": said}


def test_each_bad_row_is_named_with_its_line_and_reason(tmp_path: Path) -> None:
    make_clip(tmp_path / "good.mp4", num_frames=10)
    (tmp_path / "bad.mp4").write_bytes(b"\0" * 4096)
    same_role = row()
    same_role["conversations"].append({"from": "gpt", "value": "And milk."})
    rows = [
        row(),
        row("gone.mp4"),
        row("bad.mp4"),
        row(["good.mp4", "good.mp4"]),
        same_role,
        row(turns=("<video>\nWhat?",)),
        row(turns=("<video>\nWhat?", "  ")),
        row(),
    ]
    text = "".join(f"{json.dumps(one)}\n" for one in rows)
    (tmp_path / "data.jsonl").write_text(text + "{broken\n")

    report = check_data(tmp_path / "data.jsonl")

    said = {bad.line: " ".join(bad.problems) for bad in report.bad}
    assert sorted(said) == [2, 3, 4, 5, 6, 7, 9]
    assert "gone.mp4" in said[2]
    assert "bad.mp4" in said[3]
    assert "1 <video> and names 2" in said[4]
    assert "should be the user's" in said[5]
    assert "nothing to learn" in said[6]
    assert "nothing to learn" in said[7]
    assert "no JSON" in said[9]
    assert (report.rows, report.media) == (9, 3)
    assert report.shapes == {"conversations": 7}


def test_without_decoding_files_need_only_be_there(tmp_path: Path) -> None:
    (tmp_path / "good.mp4").write_bytes(b"no video at all")
    (tmp_path / "data.json").write_text(json.dumps([row(), row("gone.mp4")]))

    report = check_data(tmp_path / "data.json", decode=False)

    assert [bad.line for bad in report.bad] == [1]
    assert "gone.mp4" in report.bad[0].problems[0]
    (tmp_path / "none.jsonl").write_text("")
    with pytest.raises(UsageError, match="empty"):
        check_data(tmp_path / "none.jsonl")


def test_a_range_without_frames_is_found(tmp_path: Path) -> None:
    make_clip(tmp_path / "good.mp4", num_frames=10)
    part = {"type": "video_url", "video_url": {"url": "good.mp4"}, "start": 5, "end": 6}
    words = {"type": "text", "text": "What?"}
    turns = [{"role": "user", "content": [part, words]}, {"role": "assistant", "content": "Tea"}]
    (tmp_path / "data.jsonl").write_text(json.dumps({"id": "a", "messages": turns}))

    (bad,) = check_data(tmp_path / "data.jsonl").bad

    assert (bad.line, bad.id) == (1, "a")


def test_statistics_count_labels_lengths_and_durations(tmp_path: Path) -> None:
    root = make_breakfast(tmp_path, persons=("P03",), activities={"tea": TEA})
    convert("breakfast", root, tmp_path / "t.jsonl", ConvertOptions(repeat_segments=2))

    stats = data_stats(tmp_path / "t.jsonl")
    save_plot(stats, tmp_path / "t.png")

    assert (stats.samples, stats.media, stats.unreadable) == (6, 3, 0)
    assert stats.labels == {"SIL": 12, "take_cup": 6, "add_teabag": 6, "pour_water": 6}
    medians = {h.title: h.median for h in stats.histograms}
    assert medians["seconds of a video"] == pytest.approx(4.0)
    assert medians["words of a question"] == 8
    assert all(sum(h.counts) for h in stats.histograms)
    with Image.open(tmp_path / "t.png") as picture:
        assert len(picture.convert("RGB").getcolors(100_000) or ()) > 3


def test_a_histogram_of_equal_values_has_one_bar() -> None:
    histogram = Histogram.of("x", [3.0, 3.0])

    assert sum(histogram.counts) == 2
    assert max(histogram.counts) == 2
