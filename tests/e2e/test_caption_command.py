"""``kinema caption`` on the command line."""

import csv
import json
import random
import sqlite3
from contextlib import closing

import numpy as np
import pytest

from kinema.cli.app import run
from support.clips import clip_bytes, make_audio, make_clip

DEMO_KEYS = [
    "video_title",
    "batch_size",
    "batches",
    "frames_analysed",
    "summary",
    "average_inference",
    "turnaround_time",
    "x_kinema",
]


def caption(*words):
    return run(["caption", *map(str, words), "-m", "echo"])


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path / "clip.mp4", num_frames=100, fps=10)  # 10 s


def lines(path):
    return [json.loads(line) for line in path.read_text().splitlines()]


def test_the_result_has_the_demos_schema_and_the_last_short_batch(clip, tmp_path, capsys):
    path = tmp_path / "result.json"
    assert caption(clip, "--fps", 1, "--batch-size", 4, "--result-path", path) == 0
    result = json.loads(path.read_text())
    assert list(result) == DEMO_KEYS
    assert [list(batch) for batch in result["batches"]] == [
        ["batch_id", "frames", "time", "description"]
    ] * 3
    assert [batch["frames"] for batch in result["batches"]] == [4, 4, 2]
    assert [batch["batch_id"] for batch in result["batches"]] == [1, 2, 3]
    assert result["frames_analysed"] == 10
    assert result["batch_size"] == 4
    total = sum(batch["time"] for batch in result["batches"])
    assert result["average_inference"] == pytest.approx(total / 10, abs=1e-3)
    assert result["summary"] in capsys.readouterr().out


def test_captions_say_when_and_what_was_seen(clip, tmp_path):
    path = tmp_path / "result.json"
    caption(clip, "--fps", 1, "--batch-size", 4, "--result-path", path)
    captions = json.loads(path.read_text())["x_kinema"]["captions"]
    assert [(c["start_seconds"], c["end_seconds"]) for c in captions] == [(0, 4), (4, 8), (8, 10)]
    assert captions[1]["frame_seconds"] == [4, 5, 6, 7]
    assert captions[1]["frame_indices"] == [40, 50, 60, 70]
    assert "[video 4 frames 4.00–7.00 s]" in captions[1]["text"]


@pytest.mark.parametrize("by", ["frames", "shots"])
def test_no_video_is_opened_outside_the_processes_that_can_be_killed(
    clip, tmp_path, monkeypatch, by
):
    def refuse(*_, **__):
        raise AssertionError("opened by the program itself")

    monkeypatch.setattr("av.open", refuse)
    monkeypatch.setattr("kinema.video.cache.index_video", refuse)
    out = tmp_path / "out"
    export = ("--export", "html,markdown,webdataset")
    assert caption(clip, "-o", out, "--fps", 1, "--segment-by", by, *export) == 0
    assert "data:image/jpeg" in (out / "clip.html").read_text()
    assert (out / "captions.tar").stat().st_size > 10_000


def test_many_videos_go_to_a_folder_and_bad_ones_are_named(clip, tmp_path):
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    clip.rename(videos / "a.mp4")
    make_clip(videos / "one_frame.mp4", num_frames=1)
    make_audio(videos / "sound.mp4")
    (videos / "broken.mp4").write_bytes(b"\0" * 5000)
    assert caption(videos, "-o", out, "--export", "srt,vtt,chapters,ffmetadata,json,edl,csv") == 3
    records = {r["source"].rpartition("/")[2]: r for r in lines(out / "captions.jsonl")}
    assert {name: r["status"] for name, r in records.items()} == {
        "a.mp4": "ok",
        "one_frame.mp4": "ok",
        "sound.mp4": "skipped",
        "broken.mp4": "failed",
    }
    assert not records["broken.mp4"]["captions"]
    assert len(records["one_frame.mp4"]["captions"]) == 1
    assert {r["source"].rpartition("/")[2] for r in lines(out / "failed.jsonl")} == {
        "sound.mp4",
        "broken.mp4",
    }
    assert "00:00:04,000 --> 00:00:08,000" in (out / "a.srt").read_text()
    assert (out / "a.vtt").read_text().startswith("WEBVTT\n\n00:00:00.000 --> 00:00:04.000\n")
    assert "[CHAPTER]" in (out / "a.ffmetadata").read_text()
    assert "codec" in (out / "triage.csv").read_text().splitlines()[0]


def test_a_damaged_clip_is_told_from_a_sound_one(tmp_path):
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    sound = clip_bytes(num_frames=60, codec="mpeg4", height=240, width=320, options={"g": "60"})
    (videos / "sound.mp4").write_bytes(sound)
    flipped, chance = bytearray(sound), random.Random(1)
    body = flipped.index(b"mdat") + 4
    for _ in range(20):
        flipped[chance.randrange(body + 500, len(flipped) * 2 // 3)] ^= 1 << chance.randrange(8)
    (videos / "flipped.mp4").write_bytes(flipped)
    assert caption(videos, "-o", out, "--fps", 10) == 0
    rows = list(csv.DictReader((out / "triage.csv").read_text().splitlines()))
    flipped_row, sound_row = sorted(rows, key=lambda row: row["source"])
    names = ("damaged_packets", "damaged_frames", "damaged_segments")
    assert [sound_row[name] for name in names] == ["0", "0", "0"]
    assert int(flipped_row["damaged_packets"]) + int(flipped_row["damaged_frames"]) > 0
    assert int(flipped_row["damaged_segments"]) > 0
    assert "The file is damaged" in flipped_row["warnings"]
    records = {r["source"].rpartition("/")[2]: r for r in lines(out / "captions.jsonl")}
    for name in ("damaged_packets", "damaged_frames"):
        counted = sum(c[name] for c in records["flipped.mp4"]["captions"])
        assert counted == int(flipped_row[name])


def test_the_same_command_again_asks_nothing_and_other_settings_are_refused(clip, tmp_path, capsys):
    out = tmp_path / "out"
    assert caption(clip, "-o", out) == 0
    before = (out / "captions.jsonl").read_bytes()
    assert caption(clip, "-o", out) == 0
    assert (out / "captions.jsonl").read_bytes() == before
    assert caption(clip, "-o", out, "--style", "brief") == 2
    assert "other settings" in capsys.readouterr().err
    assert caption(clip, "-o", out, "--num-frames", 2, "--segment-by", "shots") == 2
    assert "other settings (fps, num_frames, segment_by)" in capsys.readouterr().err
    assert caption(clip, "-o", out, "--style", "brief", "--force") == 0
    assert (out / "captions.jsonl").read_bytes() != before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--export", "srtt", "-o", "{out}"], "srt"),
        (["--export", "srt"], "--output"),
        (["--style", "loud"], "style"),
        (["--window", "0", "--segment-by", "seconds"], "--window"),
        (["--shard", "8/8", "-o", "{out}"], "--shard"),
        (["-o", "/proc/no/out"], "cannot be written"),
    ],
)
def test_what_cannot_be_meant_is_refused_before_any_work(clip, tmp_path, capsys, words, said):
    words = [word.format(out=tmp_path / "out") for word in words]
    assert caption(clip, "--result-path", tmp_path / "r.json", *words) == 2
    assert said in capsys.readouterr().err


def test_a_call_that_is_refused_leaves_no_folder(clip, tmp_path, capsys):
    out, result = tmp_path / "out", tmp_path / "results" / "r.json"
    words = ["caption", str(clip), "-o", str(out), "--result-path", str(result)]
    assert run([*words, "-m", "no-such-model"]) == 2
    assert "no-such-model" in capsys.readouterr().err
    assert not out.exists()
    assert not result.parent.exists()
    assert caption(clip, "-o", out / "deep", "--result-path", result) == 0
    assert (out / "deep" / "captions.jsonl").is_file()
    assert result.is_file()


def test_the_worst_captions_are_asked_again_and_everything_else_stays(clip, tmp_path):
    out = tmp_path / "out"
    words = (clip, "-o", out, "--export", "json", "--max-new-tokens", 12)  # echo's answers are cut
    assert caption(*words) == 0
    (before,) = lines(out / "captions.jsonl")
    assert all("truncated" in c["flags"] for c in before["captions"])
    assert caption(*words, "--recaption", "worst:34%") == 0
    (after,) = lines(out / "captions.jsonl")
    assert [c["text"] for c in after["captions"]] == [c["text"] for c in before["captions"]]
    assert len(after["captions"]) == 3
    assert caption(clip, "-o", out, "--recaption", "5%") == 2


def test_shards_share_a_folder_and_hold_every_video_once(tmp_path):
    videos, out = tmp_path / "videos", tmp_path / "out"
    videos.mkdir()
    for i in range(7):
        make_clip(videos / f"{i}.mp4", num_frames=5 + i)
    for shard in ("0/2", "1/2"):
        assert caption(videos, "-o", out, "--shard", shard) == 0
    parts = [lines(out / f"captions-{i}-of-2.jsonl") for i in range(2)]
    assert all(parts)
    assert sorted(r["source"] for part in parts for r in part) == sorted(map(str, videos.iterdir()))


def test_a_copy_costs_nothing_and_answers_are_shared_between_folders(clip, tmp_path):
    answers = tmp_path / "answers.sqlite"
    (tmp_path / "copy.mp4").write_bytes(clip.read_bytes())
    both = (clip, tmp_path / "copy.mp4", "--answers", answers)
    assert caption(*both, "-o", tmp_path / "a") == 0
    first, second = lines(tmp_path / "a" / "captions.jsonl")
    assert first["captions"] == second["captions"]
    size = answers_in(answers)
    assert caption(*both, "-o", tmp_path / "b") == 0
    assert answers_in(answers) == size
    names = [(tmp_path / folder / "captions.jsonl").read_bytes() for folder in "ab"]
    assert names[0] == names[1]


def answers_in(path):
    with closing(sqlite3.connect(path)) as database:
        return database.execute("SELECT COUNT(*) FROM answer").fetchone()[0]


def test_frames_that_look_alike_are_left_out_and_named(tmp_path):
    still = np.full((64, 96, 3), 90, dtype=np.uint8)
    clip = make_clip(tmp_path / "still.mp4", num_frames=60, fps=10, pictures=[still] * 60)
    path = tmp_path / "result.json"
    words = ("--fps", 1, "--batch-size", 6, "--skip-similar", 2, "--result-path", path)
    assert caption(clip, *words) == 0
    (made,) = json.loads(path.read_text())["x_kinema"]["captions"]
    assert made["frame_seconds"] == [0, 3, 5]
    assert made["skipped_frame_seconds"] == [1, 2, 4]
