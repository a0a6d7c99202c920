"""``kinema serve`` as a process: it says where it listens, and ends well."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from types import SimpleNamespace

import httpx
import pytest

from kinema.cli.app import run
from kinema.engines import EngineSettings
from kinema.server.backend import Backend
from kinema.tasks.models import find_model
from support.clips import EXAMPLE
from support.serving import asked, serving


@contextmanager
def _process(folder: Path) -> Iterator[tuple[subprocess.Popen[str], int]]:
    """A server and its port; its temporary files go to ``folder``."""
    process = subprocess.Popen(
        [sys.executable, "-m", "kinema", "serve", "echo", "--port", "0"],
        stderr=subprocess.PIPE,
        text=True,
        env={"TMPDIR": str(folder), "PATH": "/usr/bin:/bin"},
    )
    try:
        line = next(line for line in process.stderr if line.startswith("Serving"))
        yield process, int(line.split("/v1")[0].rpartition(":")[2])
    finally:
        process.kill()
        process.communicate()


def _receive_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def _wait_until_closed(port: int) -> None:
    """Until nobody new is let in."""
    with suppress(OSError):
        while True:
            socket.create_connection(("127.0.0.1", port)).close()


def test_sigterm_finishes_what_is_under_way_and_leaves_nothing(tmp_path):
    body = json.dumps(asked()).encode()
    with _process(tmp_path) as (process, port):
        with socket.create_connection(("127.0.0.1", port)) as connection:
            head = f"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}"
            kind = "Content-Type: application/json\r\nConnection: close"
            connection.sendall(f"{head}\r\n{kind}\r\nExpect: 100-continue\r\n\r\n".encode())
            assert connection.recv(100).startswith(b"HTTP/1.1 100")  # it waits for the body
            process.send_signal(signal.SIGTERM)
            _wait_until_closed(port)
            connection.sendall(body)
            answer = _receive_all(connection)
        assert b"200 OK" in answer
        assert b"What happens?" in answer
        assert process.wait(30) == 0
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_ends_it_as_it_ends_other_commands(tmp_path):
    with _process(tmp_path) as (process, _):
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    assert list(tmp_path.iterdir()) == []


def test_a_port_that_is_taken_is_said(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        words = [sys.executable, "-m", "kinema", "serve", "echo", "--port", port]
        done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert f"Nobody can listen on 127.0.0.1:{port}" in done.stderr


def test_chat_web_opens_the_page_with_the_clip_in_it(tmp_path):
    browser = tmp_path / "browser"
    browser.write_text(f'#!/bin/sh\necho "$1" > {tmp_path}/opened\n')
    browser.chmod(0o755)
    process = subprocess.Popen(
        [sys.executable, "-m", "kinema", "chat", "--web", str(EXAMPLE), "--model", "echo"],
        stderr=subprocess.PIPE,
        text=True,
        env={"TMPDIR": str(tmp_path), "PATH": "/usr/bin:/bin", "BROWSER": f"{browser} %s"},
    )
    try:
        line = next(line for line in process.stderr if line.startswith("The page is at"))
        address = line.split()[4].rstrip(",")
        page, _, file_id = address.partition("/?video=")
        stored = httpx.get(f"{page}/v1/files/{file_id}").json()
        assert stored["filename"] == EXAMPLE.name
        while not (tmp_path / "opened").is_file():
            time.sleep(0.02)
        assert (tmp_path / "opened").read_text().strip() == address
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
    finally:
        process.kill()
        process.communicate()


def test_chat_web_asks_on_the_page(tmp_path):
    words = [sys.executable, "-m", "kinema", "chat", "--web", str(EXAMPLE), "What?", "-m", "echo"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "Ask on the page" in done.stderr


def test_two_models_are_served_beside_each_other():
    second = find_model("echo")
    more = [Backend(second, second.scheduler(EngineSettings()), name="second")]
    with serving(more=more) as server:
        assert [model.id for model in server.client.models.list()] == ["echo", "second"]
        for name in ("echo", "second"):
            answer = server.client.chat.completions.create(**asked() | {"model": name})
            assert answer.model == name


def test_two_models_of_one_name_are_refused():
    words = [sys.executable, "-m", "kinema", "serve", "echo", "echo", "--port", "0"]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert "--served-model-name" in done.stderr


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--port", "99999"], "--port is 99999; it must be 0 to 65535"),
        (["--host", "nohost.invalid"], "Nobody can listen on nohost.invalid"),
        (["--decode-workers", "0"], "--decode-workers is 0; it must be 1 or more"),
        (["--decode-seconds", "0"], "--decode-seconds is 0.0; it must be above 0"),
        (["--allowed-local-media-path", "/nowhere"], "must be a folder that exists"),
        (["other/spotter", "--port", "0"], "Two models would both be called"),
    ],
)
def test_what_is_wrong_is_said_before_a_model_is_loaded(words, said, capsys, monkeypatch):
    def refuse(*_, **__):
        raise AssertionError("a model is loaded")

    monkeypatch.setattr("kinema.server.running.Backend", refuse)
    monkeypatch.setattr("kinema.cli.serve.find_model", lambda name, **_: SimpleNamespace(name=name))
    assert run(["serve", "spotter", *words]) == 2
    told = capsys.readouterr().err
    assert said in told
    assert "loading" not in told
