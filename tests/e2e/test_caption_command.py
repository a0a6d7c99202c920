"""``kinema caption`` on the command line."""

import json

import pytest

from kinema.cli.app import run
from support.clips import make_audio, make_clip

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


def test_the_same_command_again_asks_nothing_and_other_settings_are_refused(clip, tmp_path, capsys):
    out = tmp_path / "out"
    assert caption(clip, "-o", out) == 0
    before = (out / "captions.jsonl").read_bytes()
    assert caption(clip, "-o", out) == 0
    assert (out / "captions.jsonl").read_bytes() == before
    assert caption(clip, "-o", out, "--style", "brief") == 2
    assert "other settings" in capsys.readouterr().err
    assert caption(clip, "-o", out, "--style", "brief", "--force") == 0
    assert (out / "captions.jsonl").read_bytes() != before


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--export", "srtt", "-o", "{out}"], "srt"),
        (["--export", "srt"], "--output"),
        (["--max-threads", "4"], "--multithreading"),
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
