"""A run says which earlier state it found: what is done, failed and left, or what is forgotten."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from kinema.cli.app import run
from kinema.engines.echo import EchoEngine
from kinema.jobs.ledger import Ledger, Outcome
from kinema.tasks.caption.story import Storyteller
from support.clips import make_audio, make_clip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Two videos, one of them broken, and a question about each."""
    make_clip(tmp_path / "good.mp4", num_frames=20, fps=10)
    (tmp_path / "bad.mp4").write_bytes(b"\0" * 500)
    rows = [{"video": v, "question": "<video> a?", "answer": "b"} for v in ("bad.mp4", "good.mp4")]
    (tmp_path / "q.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return tmp_path


def words(verb: str, folder: Path) -> tuple[list[str], str, str]:
    """A command, where its ledger is, and what it counts."""
    if verb == "caption":
        videos = [str(folder / "good.mp4"), str(folder / "bad.mp4")]
        return [*videos, "-o", str(folder / "out")], "out/.kinema/videos.sqlite", "videos"
    if verb == "answer":
        base = ["--media-base-path", str(folder)]
        return (
            [str(folder / "q.jsonl"), "-o", str(folder / "a.jsonl"), *base],
            ".a.jsonl.ledger",
            ("records"),
        )
    data = ["jsonl", str(folder / "q.jsonl"), "-o", str(folder / "out")]
    return data, "out/echo/ledger.sqlite", "items"


@pytest.mark.parametrize("verb", ["caption", "answer", "eval"])
def test_every_verb_says_what_it_found(verb, folder, capsys):
    asked, place, noun = words(verb, folder)
    command = [verb, *asked, "-m", "echo", "--workers", "1"]
    assert run(command) == 3
    assert "from earlier runs" not in capsys.readouterr().err
    assert run([*command, "--retry-failed"]) == 3
    found = f"{folder / place} has 1 of 2 {noun} from earlier runs, 1 failed, 0 to do."
    assert capsys.readouterr().err.splitlines()[0] == f"note: {found}"
    changed = [*command, "--max-new-tokens", "7"]
    assert run(changed) == 2
    assert f"{folder / place} belongs to a job with other settings" in capsys.readouterr().err
    assert run([*changed, "--force"]) == 3
    told = capsys.readouterr().err.splitlines()[0]
    assert told.startswith(f"note: {folder / place} held results of other settings (")
    assert "max_new_tokens" in told
    assert told.endswith("); they are forgotten.")
    assert run([*changed, "--quiet"]) == 3
    assert "from earlier runs" not in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["caption", "answer", "eval"])
def test_force_asks_everything_again(verb, folder, capsys, monkeypatch):
    asked, place, _ = words(verb, folder)
    command = [verb, *asked, "-m", "echo", "--workers", "1"]
    answered = []
    answer = EchoEngine._answer
    monkeypatch.setattr(
        EchoEngine, "_answer", lambda *args: (answered.append(args[1].id), answer(*args))
    )
    assert run(command) == 3
    first = len(answered)
    assert run(command) == 3
    assert len(answered) == first > 0
    capsys.readouterr()
    assert run([*command, "--force"]) == 3
    assert len(answered) == 2 * first
    told = f"note: {folder / place} held results of the same settings; they are forgotten."
    assert capsys.readouterr().err.splitlines()[0] == told


def test_what_holds_no_picture_is_skipped_and_not_to_do(folder, capsys, monkeypatch):
    videos = [folder / "good.mp4", make_audio(folder / "sound.m4a")]
    command = ["caption", *map(str, videos), "-o", str(folder / "out"), "-m", "echo"]
    assert run(command) == 0
    capsys.readouterr()
    asked = []
    describe = Storyteller.describe
    monkeypatch.setattr(
        Storyteller,
        "describe",
        lambda self, source, **more: (asked.append(source), describe(self, source, **more))[1],
    )
    assert run(command) == 0
    told = capsys.readouterr().err.splitlines()
    path = folder / "out" / ".kinema" / "videos.sqlite"
    found = f"{path} has 1 of 2 videos from earlier runs, 0 failed, 1 skipped, 0 to do."
    assert told[0] == f"note: {found}"
    assert told[-1] == "note: 1 of 2 files have no video in them and were skipped."
    assert asked == []
    assert run([*command, "--retry-failed"]) == 0
    assert asked == [str(folder / "sound.m4a")]


def test_units_of_other_runs_are_not_counted(tmp_path):
    path = tmp_path / "ledger.sqlite"
    with Ledger(path, settings={}, noun="videos") as ledger:
        ledger.enter([(name, {}) for name in "abc"])
        assert ledger.found == ""
        ledger.finish(ledger.claim(), Outcome({}))
        ledger.finish(ledger.claim(), Outcome({}, is_partial=True))
    with Ledger(path, settings={}, noun="videos") as ledger:
        ledger.enter([(name, {}) for name in "abd"])
        assert ledger.found == f"{path} has 1 of 3 videos from earlier runs, 1 failed, 1 to do."
        assert ledger.states() == {"a": "done", "b": "partial", "d": "todo"}
    with Ledger(path, settings={}, noun="videos") as ledger:
        ledger.enter([("e", {})])
        assert ledger.found == ""
