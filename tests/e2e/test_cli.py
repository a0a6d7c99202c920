"""The real command, run as a user runs it."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from kinema.cli.app import run
from support.clips import make_clip

HEAVY = ("torch", "transformers", "av", "numpy", "cyclopts", "rich", "jax", "vllm")


def kinema(*words: str, stdin: str = "", env: dict[str, str] | None = None):
    return subprocess.run(
        [sys.executable, "-m", "kinema", *words],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | (env or {}),
    )


def ask(*words: str, **more):
    return kinema("chat", *words, "--model", "echo", **more)


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> str:
    """Two seconds, 50 frames."""
    return str(make_clip(tmp_path_factory.mktemp("clip") / "clip.mp4"))


def test_help_imports_nothing_heavy():
    code = (
        "import sys; from kinema.__main__ import main; main(['--help'])\n"
        f"print([m for m in {HEAVY} if m in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stderr.strip() == "[]"
    for command in ("chat", "probe", "models", "doctor"):
        assert command in done.stdout


def test_importing_the_library_imports_nothing_heavy():
    code = f"import sys, kinema; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_version():
    assert kinema("--version").stdout == "kinema 0.1.0\n"


@pytest.mark.parametrize("command", ["chat", "probe", "models", "doctor"])
def test_every_command_explains_itself(command):
    done = kinema(command, "--help")
    assert done.returncode == 0
    assert f"kinema {command}" in done.stdout


def test_one_question_one_answer_on_stdout(clip):
    done = ask(clip, "what happens?", "--num-frames", "4")
    assert (done.returncode, done.stdout) == (0, "[video 4 frames 0.24–1.72 s] what happens?\n")
    assert done.stderr == f"[echo] saw 4 of 50 frames, 0.24–1.72 s of {clip}\n"


def test_json_is_one_record_with_the_frames_seen(clip):
    done = ask(clip, "what?", "--fps", "2", "--start", "0:00.5", "--json")
    record = json.loads(done.stdout)
    assert record["answer"].endswith("what?")
    assert record["frames"][0]["seconds"] == [0.52, 1.0, 1.48]
    assert record["frames"][0]["indices"] == [13, 25, 37]
    assert record["usage"]["visual_tokens"] == 12
    assert {"decode", "load", "generate"} <= set(record["seconds"])
    assert done.stderr == ""


def test_a_dash_reads_the_video_from_stdin(clip):
    words = [sys.executable, "-m", "kinema"]
    data = Path(clip).read_bytes()
    probed = subprocess.run(
        [*words, "probe", "-", "--shots", "--json"], input=data, capture_output=True, check=True
    )
    record = json.loads(probed.stdout)
    assert (record["num_frames"], record["source"]) == (50, "<bytes>")
    assert record["shots"][0]["start_seconds"] == 0
    assert record["shots"][-1]["end_index"] == 50
    asked = [*words, "chat", "-", "how?", "--model", "echo", "--json"]
    answer = subprocess.run(asked, input=data, capture_output=True, check=True)
    assert json.loads(answer.stdout)["frames"][0]["total_frames"] == 50
    assert ask("-", "-", stdin="x").returncode == 2
    assert kinema("probe", "-").returncode == 2


def test_a_dash_reads_the_prompt_from_stdin(clip):
    assert ask(clip, "-", stdin="is there a dog?\n").stdout.endswith("is there a dog?\n")
    empty = ask(clip, "-", stdin="")
    assert empty.returncode == 2
    assert "stdin" in empty.stderr


def test_videos_and_images_in_one_conversation(clip, tmp_path):
    picture = tmp_path / "picture.png"
    Image.new("RGB", (32, 32), "red").save(picture)
    flags = ["--video", clip, "--image", str(picture), "--num-frames", "2"]
    done = ask(clip, "compare", *flags)
    assert done.stdout == (
        "[video 2 frames 0.48–1.48 s] [video 2 frames 0.48–1.48 s] "
        "[image 1 frames 0.00–0.00 s] compare\n"
    )


def test_without_a_prompt_every_line_is_a_turn_about_the_same_frames(clip):
    done = ask(clip, "--num-frames", "2", stdin="first?\n\nsecond?\n/quit\n")
    assert done.returncode == 0
    assert done.stdout == (
        "[video 2 frames 0.48–1.48 s] first?\n[video 2 frames 0.48–1.48 s] second?\n"
    )


def test_a_conversation_survives_a_bad_file_and_can_start_over(clip):
    turns = f"first?\n/add nowhere.mp4\n/add {clip}\nsecond?\n/reset\nthird?\n"
    done = ask(clip, "--num-frames", "2", stdin=turns)
    assert done.returncode == 0
    seen = [line.count("[video") for line in done.stdout.splitlines()]
    assert seen == [1, 2, 0]
    assert "nowhere.mp4" in done.stderr


def test_on_a_terminal_the_answer_streams(clip):
    leader, follower = pty.openpty()
    words = [sys.executable, "-m", "kinema", "chat", clip, "hello there", "-m", "echo", "-q"]
    with subprocess.Popen(words, stdout=follower, stderr=subprocess.PIPE) as process:
        os.close(follower)
        assert process.wait(60) == 0
        shown = os.read(leader, 4096).decode()
        os.close(leader)
    assert shown.strip().endswith("hello there")


def test_settings_come_from_flag_then_environment_then_file(clip, tmp_path):
    config = tmp_path / "chat.yaml"
    config.write_text("model: echo\nnum_frames: 2\n")

    def frames(*flags, env=None):
        done = kinema("chat", clip, "hi", "--config", str(config), "--json", *flags, env=env)
        return json.loads(done.stdout)["frames"][0]["num_frames"]

    assert frames() == 2
    assert frames(env={"KINEMA_NUM_FRAMES": "3"}) == 3
    assert frames("--num-frames", "4", env={"KINEMA_NUM_FRAMES": "3"}) == 4


def test_probe_tells_what_is_in_a_file(clip, tmp_path):
    record = json.loads(kinema("probe", clip, "--single", "last", "--json").stdout)
    assert (record["codec"], record["num_frames"], record["fps_mode"]) == ("h264", 50, "constant")
    assert record["sampling"]["indices"] == [49]
    sheet = tmp_path / "sheet.png"
    done = kinema("probe", clip, "--contact-sheet", str(sheet))
    assert "50, of which" in done.stdout
    with Image.open(sheet) as picture:
        assert picture.width > 100


def test_models_lists_families_with_their_engines():
    rows = [json.loads(line) for line in kinema("models", "--json").stdout.splitlines()]
    engines = {row["family"]: row["engines"] for row in rows}
    assert engines["neva"] == {"hf": "installed"}
    assert "neva" in kinema("models").stdout


def test_doctor_names_versions_engines_and_the_hub():
    done = kinema("doctor", "--json")
    found = {finding["subject"]: finding for finding in map(json.loads, done.stdout.splitlines())}
    assert found["torch"]["fine"]
    assert "libavcodec" in found["ffmpeg"]["found"]
    assert found["engine echo"]["fine"]
    assert "HF_HUB_OFFLINE" in found["model hub"]["found"]
    assert "ok  torch" in kinema("doctor").stdout


def _file(folder: Path, name: str, content: bytes) -> str:
    (folder / name).write_bytes(content)
    return str(folder / name)


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["nowhere.mp4", "hi"], 1, "There is no file nowhere.mp4"),
        ([".", "hi"], 1, "is a directory"),
        (["CLIP", "hi", "--start", "5", "--end", "4"], 2, "--start 5 is not before --end 4"),
        (["CLIP", "hi", "--start", "1:00"], 1, "beyond the end"),
        (["CLIP", "hi", "--fps", "0"], 2, "--fps is 0"),
        (["CLIP", "hi", "--fps", "1", "--num-frames", "2"], 2, "exclude each other"),
        (["CLIP", "hi", "--num-frames", "many"], 2, "--num-frames"),
        (["CLIP", "hi", "--num-frmes", "2"], 2, "Did you mean --num-frames"),
        (["CLIP", "hi", "--temperature", "-1"], 2, "--temperature is -1"),
        (["CLIP", "hi", "--model", "ecko"], 2, "Did you mean 'echo'"),
        (["CLIP", "hi", "--model", "./nowhere"], 1, "is no model folder"),
        (["CLIP", "hi", "--model", "owner/name"], 1, "hub cannot be reached"),
        (["CLIP", "hi", "--model", "echo", "--engine", "warp"], 2, "no engine 'warp'"),
        (["CLIP", "hi", "--model", "echo", "--engine", "hf"], 2, "does not run on"),
        (["CLIP", "hi", "--config", "nowhere.yaml"], 2, "--config"),
    ],
)
def test_bad_input_gets_a_sentence_a_hint_and_a_status(clip, tmp_path, words, status, said):
    words = [clip if word == "CLIP" else word for word in words]
    named = "--model" in words
    done = kinema("chat", *words) if named else ask(*words)
    assert done.returncode == status
    first, hint, *rest = done.stderr.splitlines()
    assert said in done.stderr
    assert first.startswith("kinema: ")
    assert hint.startswith("  ")
    assert rest == []
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("empty.mp4", b"", "is empty"),
        ("page.mp4", b"<!DOCTYPE html><html>404</html>", "error page"),
        ("noise.mp4", bytes(range(256)) * 40, "no video"),
    ],
)
def test_files_that_are_no_media_are_named_before_a_model_loads(tmp_path, name, content, said):
    done = ask(_file(tmp_path, name, content), "hi")
    assert done.returncode == 1
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_unknown_keys_of_a_settings_file_are_refused(clip, tmp_path):
    config = tmp_path / "chat.yaml"
    config.write_text("num_frmes: 2\n")
    done = ask(clip, "hi", "--config", str(config))
    assert done.returncode == 2
    assert "num_frmes" in done.stderr or "num-frmes" in done.stderr


def test_an_unknown_command_suggests_the_nearest():
    done = kinema("chta")
    assert done.returncode == 2
    assert "Did you mean 'chat'" in done.stderr


def test_terminal_escapes_of_a_prompt_do_not_reach_the_terminal(clip):
    from kinema.cli.output import plain

    assert plain("a\x1b[31mred\x1b[0m\x07 \u202eb\nc") == "ared b\nc"


def test_a_variable_that_nothing_reads_is_named_once_with_the_nearest(monkeypatch, capsys):
    monkeypatch.setenv("KINEMA_NUM_FRAME", "4")
    monkeypatch.setenv("KINEMA_PORT", "5")  # of another command
    monkeypatch.setenv("KINEMA_HOME", "/tmp")
    assert run(["models", "--json"]) == 0
    (note,) = capsys.readouterr().err.splitlines()
    assert note.startswith("note: KINEMA_NUM_FRAME is no variable that kinema reads; ")
    assert note.endswith("did you mean KINEMA_NUM_FRAMES?")


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["eval", "list"]])
def test_a_reader_that_leaves_ends_a_command_without_a_word(words):
    reader, writer = os.pipe()
    os.close(reader)
    command = [sys.executable, "-m", "kinema", *words]
    with os.fdopen(writer, "wb") as stdout:
        done = subprocess.run(command, stdout=stdout, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (141, b"")


def test_answers_are_written_although_their_reader_leaves(tmp_path):
    prompts = tmp_path / "p.jsonl"
    prompts.write_text('{"text": "one"}\n{"text": "two"}\n')
    reader, writer = os.pipe()
    os.close(reader)
    words = ["answer", str(prompts), "-o", str(tmp_path / "a.jsonl"), "-m", "echo"]
    with os.fdopen(writer, "wb") as stdout:
        done = subprocess.run(
            [sys.executable, "-m", "kinema", *words],
            stdout=stdout,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert len((tmp_path / "a.jsonl").read_text().splitlines()) == 2
