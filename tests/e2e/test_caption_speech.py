"""Captions that know what was said, with a small random Whisper of the real class."""

import json

import pytest

from kinema.cli.app import run
from support.clips import make_clip
from support.speech import make_sounding, make_whisper


@pytest.fixture(scope="module")
def whisper(tmp_path_factory):
    return make_whisper(tmp_path_factory.mktemp("whisper"))


def caption(clip, whisper, folder, *more):
    path = folder / "result.json"
    words = ["caption", clip, "-m", "echo", "--transcribe", whisper, "--result-path", path, *more]
    assert run([*map(str, words)]) == 0
    return json.loads(path.read_text())["x_kinema"]


def test_words_have_times_and_are_given_to_the_model_in_their_segment(whisper, tmp_path):
    clip = make_sounding(tmp_path / "clip.mp4", seconds=6, loud=(1, 2))
    record = caption(clip, whisper, tmp_path, "--batch-size", "2")
    words = record["words"]
    assert words
    assert all(0 <= w["start_seconds"] <= w["end_seconds"] <= 6.2 for w in words)
    said = " ".join(caption["speech"] for caption in record["captions"]).split()
    assert said == " ".join(word["text"] for word in words).split()
    for one in record["captions"]:
        assert ("Meanwhile this is heard" in one["text"]) == bool(one["speech"])


def test_a_video_without_sound_says_so(whisper, tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", num_frames=20, fps=5)
    record = caption(clip, whisper, tmp_path)
    assert record["words"] is None
    assert "There is no sound to transcribe." in record["warnings"]
    assert all(one["speech"] is None for one in record["captions"])


def test_a_speech_model_that_is_none_is_named(tmp_path, capsys):
    clip = make_sounding(tmp_path / "clip.mp4", seconds=2, loud=(0, 1))
    (tmp_path / "empty").mkdir()
    words = ["caption", clip, "-m", "echo", "--transcribe", tmp_path / "empty"]
    assert run([*map(str, words), "--result-path", str(tmp_path / "r.json")]) != 0
    assert "empty" in capsys.readouterr().err
