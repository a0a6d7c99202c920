"""A conversation over the scheduler, on engines that do one thing each."""

from __future__ import annotations

import signal
import threading
from pathlib import Path

import pytest

import kinema
from kinema.engines.echo import TOKENS_PER_FRAME, EchoEngine
from kinema.errors import ContextTooLong, MediaNotFound, RequestRefused, UsageError
from kinema.messages import SamplingParams
from kinema.tasks.chat import Answer, Chat
from kinema.tasks.models import Model
from support.clips import make_clip


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """Two seconds, 50 frames."""
    return make_clip(tmp_path_factory.mktemp("chat") / "clip.mp4")


@pytest.fixture
def on(monkeypatch):
    """Makes conversations run on an engine of the test's own."""

    def put(engine):
        monkeypatch.setattr(Model, "open", lambda model, settings: engine)
        return engine

    return put


class Watched(EchoEngine):
    """Notes the threads that it is used in, and what was cancelled."""

    def __init__(self, **more) -> None:
        super().__init__(**more)
        self.used_in: list[int] = []
        self.cancelled: list[str] = []
        self.go = threading.Event()
        self.go.set()
        self.begun = threading.Event()
        self.dropped = threading.Event()

    def serve(self, inbox):
        self.used_in.append(threading.get_ident())
        while taken := inbox.take():
            for request in taken:
                self.begun.set()
                while not self.go.wait(0.01):
                    if inbox.is_cancelled(request.id):
                        self.cancelled.append(request.conversation.messages[-1].text)
                        self.dropped.set()
                        break
                else:
                    self._answer(request, inbox)

    def close(self):
        self.used_in.append(threading.get_ident())


def _ctrl_c() -> None:
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def test_one_question_about_a_clip(clip):
    answer = kinema.chat(clip, "what happens?", model="echo", num_frames=4)
    assert str(answer) == "[video 4 frames 0.24–1.72 s] what happens?"
    assert [len(frames) for frames in answer.frames] == [4]
    assert answer.completion.usage.visual_tokens == 4 * TOKENS_PER_FRAME
    assert set(answer.seconds) == {"decode", "load", "generate"}


def test_a_conversation_keeps_its_turns_and_its_frames(clip):
    with Chat("echo") as session:
        session.ask("first?", clip, num_frames=2)
        second = session.ask("second?")
        assert second.text == "[video 2 frames 0.48–1.48 s] second?"
        assert [m.role for m in session.conversation.messages] == ["user", "assistant"] * 2
        session.reset()
        assert session.ask("third?").text == "third?"


def test_stages_are_told_in_order_and_media_come_before_weights(clip):
    stages: list[str] = []
    with Chat("echo", on_stage=stages.append) as session:
        with pytest.raises(MediaNotFound):
            session.ask("hello", "nowhere.mp4")
        assert stages == ["reading"]
        session.ask("hello", clip)
        session.ask("again")
    assert stages[1:] == ["reading", "loading", "answering", "reading", "answering"]


def test_pieces_of_a_stream_add_up_to_its_answer(clip):
    with Chat("echo") as session:
        *pieces, answer = session.stream("hello there", clip, num_frames=1)
    assert isinstance(answer, Answer)
    assert len(pieces) > 2
    assert "".join(pieces) == answer.text == "[video 1 frames 1.00–1.00 s] hello there"


def test_leaving_a_stream_cancels_it_and_the_next_question_is_answered(on):
    engine = on(Watched())
    with Chat("echo") as session:
        stream = session.stream("one two three")
        assert next(stream) == "one"
        stream.close()
        assert session.conversation.messages == ()
        engine.go.clear()
        stream = session.stream("four")
        threading.Timer(0.1, _ctrl_c).start()
        with pytest.raises(KeyboardInterrupt):
            next(stream)
        assert engine.dropped.wait(20)
        engine.go.set()
        assert session.ask("five").text == "five"
    assert engine.cancelled == ["four"]


def test_ctrl_c_ends_an_answer_and_leaves_the_conversation_usable(on):
    engine = on(Watched())
    with Chat("echo") as session:
        engine.go.clear()

        def interrupt():
            engine.begun.wait(20)
            _ctrl_c()

        threading.Thread(target=interrupt).start()
        with pytest.raises(KeyboardInterrupt):
            session.ask("never")
        assert engine.dropped.wait(20)
        engine.go.set()
        assert session.ask("hello").text == "hello"
        assert [m.text for m in session.conversation.messages] == ["hello", "hello"]
    assert engine.cancelled == ["never"]


def test_frames_are_those_that_were_shown_when_some_were_taken_away(on, clip):
    on(EchoEngine(context_length=256 + 4 + 3 * TOKENS_PER_FRAME))
    with Chat("echo") as session, pytest.raises(ContextTooLong, match="needs"):
        session.ask("so?", clip, num_frames=20)
    with Chat("echo", fit=True) as session:
        answer = session.ask("so?", clip, num_frames=20)
    (frames,) = answer.frames
    assert 1 <= len(frames) < 20
    assert answer.text.startswith(f"[video {len(frames)} frames")
    assert answer.warnings[-1].startswith(f"reduced to {len(frames)} frames")


def test_errors_arrive_as_they_are():
    with Chat("echo", params=SamplingParams(json_schema="{}")) as session:
        with pytest.raises(RequestRefused, match="follows no schema"):
            session.ask("hello")
        session.params = SamplingParams()
        assert session.ask("hello").text == "hello"


def test_open_gives_the_engine_which_one_thread_opens_uses_and_closes(monkeypatch):
    opened_in = []
    opened = Watched()

    def open_engine(model, settings):
        opened_in.append(threading.get_ident())
        return opened

    monkeypatch.setattr(Model, "open", open_engine)
    session = kinema.load("echo")
    assert session.open() is opened
    session.ask("hello")
    session.close()
    assert len(opened_in) == 1
    assert set(opened.used_in) == set(opened_in) != {threading.get_ident()}
    with pytest.raises(UsageError, match="was closed"):
        session.ask("again")
    assert len(opened_in) == 1


def test_the_first_process_of_a_torchrun_opens_the_engine_at_once(monkeypatch):
    opened = []
    monkeypatch.setattr(Model, "open", lambda model, settings: opened.append(1) or EchoEngine())
    with Chat("echo"):
        assert not opened
    monkeypatch.setenv("WORLD_SIZE", "2")
    with Chat("echo"):
        assert opened == [1]


def test_a_conversation_that_was_closed_says_so_and_loads_nothing():
    stages = []
    session = Chat("echo", on_stage=stages.append)
    session.ask("one")
    session.close()
    stages.clear()
    for again in (lambda: session.ask("two"), lambda: list(session.stream("two")), session.open):
        with pytest.raises(UsageError, match="with echo was closed"):
            again()
    session.close()
    assert stages == []
