"""Which model answers where none was named: on a terminal, in a pipe, chosen, from a hub."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import sys
import time

import pytest

from kinema.cli.app import run
from kinema.tasks.chosen import VIDEO_MODEL, choose_model, chosen_model
from support.clips import EXAMPLE
from support.hub import serving_hub

ASK = [sys.executable, "-m", "kinema", "chat", str(EXAMPLE), "What is shown?", "--num-frames", "2"]
LIMIT = 240


@pytest.fixture
def home(tmp_path, monkeypatch):
    """Nothing was chosen or fetched before; a hub that nobody answers for."""
    monkeypatch.setenv("KINEMA_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "0")
    monkeypatch.setenv("HF_HUB_DISABLE_XET", "1")
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    return tmp_path


def on_terminal(words: list[str], typed: dict[str, str]) -> str:
    """What a command shows on a terminal; each text is typed when its cue is shown."""
    parent, child = pty.openpty()
    with subprocess.Popen(words, stdin=child, stdout=child, stderr=child) as process:
        os.close(child)
        shown, end, waiting = "", time.monotonic() + LIMIT, dict(typed)
        while time.monotonic() < end:
            if select.select([parent], [], [], 1)[0]:
                try:
                    piece = os.read(parent, 4096)
                except OSError:  # Linux: nobody holds the other end any more
                    break
                if not piece:
                    break
                shown += piece.decode(errors="replace")
                for cue in [cue for cue in waiting if cue in shown]:
                    os.write(parent, waiting.pop(cue).encode())
        else:
            process.kill()
        os.close(parent)
    assert process.returncode == 0, shown
    assert not waiting, shown
    return shown


def in_pipe(*more: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([*ASK, *more], capture_output=True, text=True, check=True)


def test_on_a_terminal_the_offered_model_is_fetched_once_and_remembered(
    home, monkeypatch, family_folder
):
    log: list[str] = []
    with serving_hub({VIDEO_MODEL: family_folder("smolvlm")}, log) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        ask = [*ASK, "--max-new-tokens", "4", "--device", "cpu"]
        shown = on_terminal(ask, {"[y/N]": "y\n"})
        assert "MB)? [y/N]" in shown
        assert f"[{VIDEO_MODEL}] saw 2 of 144 frames" in shown
        assert any(path.endswith("model.safetensors") for path in log)
    assert json.loads((home / "home" / "chosen.json").read_text()) == {"model": VIDEO_MODEL}
    # The hub is gone, and the model is here.
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    done = in_pipe("--max-new-tokens", "4", "--device", "cpu")
    assert f"[{VIDEO_MODEL}]" in done.stderr
    assert "spotter" not in done.stderr


def test_who_declines_is_not_asked_again(home, monkeypatch, family_folder):
    log: list[str] = []
    with serving_hub({VIDEO_MODEL: family_folder("smolvlm")}, log) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        shown = on_terminal(ASK, {"[y/N]": "\n"})
        assert "spotter answers from now on" in shown
        assert "[spotter] saw 2 of 144 frames" in shown
        assert not any("resolve" in path for path in log)
        assert "[y/N]" not in on_terminal(ASK, {})
    assert "models use" not in in_pipe().stderr


def test_without_a_hub_and_in_a_pipe_one_line_says_who_answers(home, monkeypatch, family_folder):
    for said in (on_terminal(ASK, {}), in_pipe().stderr):
        assert said.count(f"For questions: kinema models use {VIDEO_MODEL}") == 1
        assert "[y/N]" not in said
    with serving_hub({VIDEO_MODEL: family_folder("smolvlm")}, log := []) as address:
        monkeypatch.setenv("HF_ENDPOINT", address)
        assert "kinema models use" in in_pipe().stderr
    assert log == []
    assert in_pipe("--quiet").stderr == ""
    assert "models use" not in in_pipe("--model", "spotter").stderr
    assert chosen_model() is None


def test_flag_and_variable_win_over_what_was_chosen(home, monkeypatch, capsys):
    assert run(["models", "use"]) == 0
    assert capsys.readouterr().out == "spotter\n"
    assert run(["models", "use", "echo"]) == 0
    assert run(["models", "use"]) == 0
    assert capsys.readouterr().out == "echo\n"
    ask = ["chat", str(EXAMPLE), "What is shown?", "--num-frames", "1"]
    for more, variable, model in (
        ([], "", "echo"),
        (["-m", "spotter"], "", "spotter"),
        (
            [],
            "spotter",
            "spotter",
        ),
    ):
        if variable:
            monkeypatch.setenv("KINEMA_MODEL", variable)
        assert run([*ask, *more]) == 0
        assert f"[{model}]" in capsys.readouterr().err


def test_a_choice_is_checked_and_a_folder_remembered_by_its_whole_path(
    home, monkeypatch, capsys, tmp_path
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    assert choose_model("mine") == str(tmp_path / "mine")
    assert choose_model("videolm:mine") == f"videolm:{tmp_path / 'mine'}"
    assert choose_model("tiny") == "spotter"
    assert choose_model("owner/name") == "owner/name"
    assert run(["models", "use", "spoter"]) == 2
    assert "spotter" in capsys.readouterr().err
    assert run(["models", "use", "./nowhere"]) == 1
    assert "no model folder ./nowhere" in capsys.readouterr().err
    assert chosen_model() == "owner/name"
    (tmp_path / "home" / "chosen.json").write_text("{")
    assert chosen_model() is None
