"""Captions from a server: N requests on their way, and what it is asked in which words."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from kinema.cli.app import run
from support import chat_server
from support.clips import make_clip


@pytest.fixture
def url(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", chat_server.KEY)
    command = [sys.executable, str(Path(chat_server.__file__))]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        yield f"http://127.0.0.1:{process.stdout.readline().strip()}/v1"
        process.terminate()


def captions_with(threads, url, tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", num_frames=60, fps=10)
    path = tmp_path / f"{threads}.json"
    words = ["caption", clip, "-m", "known", "--backend", "openai", "--base-url", url,
             "--fps", 1, "--batch-size", 1, "--prompt", "slow", "--result-path", path,
             "--multithreading", "--max-threads", threads]  # fmt: skip
    assert run([str(word) for word in words]) == 0
    return [batch["description"] for batch in json.loads(path.read_text())["batches"]]


def test_so_many_requests_are_on_their_way_and_say_what_one_after_the_other_says(url, tmp_path):
    alone, together = (captions_with(threads, url, tmp_path) for threads in (1, 3))
    at_once = re.compile(r"(\d) at once")
    assert {at_once.search(said)[1] for said in alone} == {"1"}
    assert max(at_once.search(said)[1] for said in together) == "3"
    assert len(alone) == 6
    assert [at_once.sub("", said) for said in together] == [at_once.sub("", s) for s in alone]


def test_style_and_language_are_in_every_question_and_pictures_in_those_about_segments(
    url, tmp_path
):
    clip = make_clip(tmp_path / "clip.mp4", num_frames=60, fps=10)
    path = tmp_path / "result.json"
    words = ["caption", clip, "-m", "known", "--backend", "openai", "--base-url", url,
             "--batch-size", 3, "--style", "brief", "--language", "English",
             "--result-path", path]  # fmt: skip
    assert run([str(word) for word in words]) == 0
    result = json.loads(path.read_text())
    first, second = (batch["description"] for batch in result["batches"])
    assert "from 0.0 s to 3.0 s. Use one short sentence. Answer in English. | 3 images" in first
    assert "from 3.0 s to 6.0 s. Use one short sentence. Answer in English. | 3 images" in second
    # The server answers with what it was asked.
    assert "Summarise in one paragraph" in result["summary"]
    assert "Use one short sentence. Answer in English. | 0 images" in result["summary"]
    assert "0:03–0:06 Describe in detail" in result["summary"]
