"""Rows 17 to 30, as callers of the server meet them: the status is part of the contract."""

from __future__ import annotations

import os
import signal
import socket
import threading
import time
from pathlib import Path

import httpx
import psutil
import pytest

from kinema.engines.echo import EchoEngine
from kinema.errors import OutOfMemory
from support.clips import EXAMPLE
from support.serving import Dripping, asked, data_address, serving, video
from support.web import drip, reply
from support.web import serve as web_server

NUMBERS = {
    "media.test": ["127.0.0.1"],
    "inner.test": ["10.0.0.1"],
    "mixed.test": ["1.1.1.1", "192.168.0.1"],
    "mapped.test": ["::ffff:169.254.169.254"],
}
"""What the names of these tests resolve to; ``media.test`` is allowed to be private."""


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    root = tmp_path_factory.mktemp("media") / "safe"
    root.mkdir()
    (root.parent / "safe_evil").mkdir()
    (root.parent / "safe_evil" / "clip.mp4").write_bytes(EXAMPLE.read_bytes())
    (root / "link.mp4").symlink_to(root.parent / "safe_evil" / "clip.mp4")
    asked_system = socket.getaddrinfo

    def resolve(host, port, *more, **named):
        found = NUMBERS.get(host)
        return (
            [(0, 0, 0, "", (n, port)) for n in found]
            if found
            else asked_system(host, port, *more, **named)
        )

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(socket, "getaddrinfo", resolve)
        with serving(
            allowed_local_media_path=root,
            private_media_hosts=("media.test",),
            max_file_mib=1,
            max_body_mib=2,
        ) as running:
            yield running


def _refused(server, body):
    answer = server.post(body)
    return answer.status_code, answer.json()["error"]["code"]


def test_17_a_context_that_is_too_short_says_how_many_frames_fit():
    with serving(engine=EchoEngine(context_length=290)) as server:
        body = asked(video(data_address(), num_frames=16))
        answer = server.post(body)
        assert answer.status_code == 400
        error = answer.json()["error"]
        assert error["code"] == "context_length_exceeded"
        assert "num_frames" in error["message"]
        assert server.post(body | {"fit": True}).status_code == 200


def _decoder() -> psutil.Process:
    return next(p for p in psutil.Process().children() if "worker_process" in str(p.cmdline()))


def test_18_a_decoder_that_hangs_is_504_and_the_next_request_is_answered():
    with serving(decode_workers=1, decode_seconds=1.5) as server:
        body = asked(video(data_address(), num_frames=1))
        assert server.post(body).status_code == 200
        _decoder().suspend()
        other = asked(video(data_address(), num_frames=2))
        assert _refused(server, other) == (504, "decode_deadline")


def test_19_a_decoder_that_dies_is_422_and_the_next_request_is_answered():
    with serving(decode_workers=1) as server:
        assert server.post(asked(video(data_address(), num_frames=1))).status_code == 200
        decoder = _decoder()
        decoder.suspend()
        threading.Timer(0.3, os.kill, (decoder.pid, signal.SIGKILL)).start()
        refused = _refused(server, asked(video(data_address(), num_frames=2)))
        assert refused == (422, "decoder_crashed")
        assert server.post(asked(video(data_address(), num_frames=3))).status_code == 200


@pytest.mark.parametrize("text", [b"ffconcat version 1.0\nfile /etc/passwd\n", b"#EXTM3U\nx.ts\n"])
def test_20_a_playlist_is_no_video(server, text):
    with httpx.Client() as client:
        files = {"file": ("clip.mp4", text)}
        stored = client.post(f"{server.url}/v1/files", files=files).json()
    part = {"type": "video", "file_id": stored["id"]}
    assert _refused(server, asked(part)) == (415, "not_media")


@pytest.mark.parametrize(
    "path", ["../safe_evil/clip.mp4", "{root}/../safe_evil/clip.mp4", "{root}_evil/clip.mp4",
             "{root}/link.mp4", "file://{root}/link.mp4", "/dev/zero", "{root}", "\0", "x" * 9000],
)  # fmt: skip
def test_21_nothing_outside_the_media_folder_is_read(server, path):
    root = server.service.settings.allowed_local_media_path
    status, code = _refused(server, asked(video(path.replace("{root}", str(root)))))
    assert (status, code) in {(403, "path_not_allowed"), (422, "not_found")}
    assert (status == 422) == (path in ("\0", "x" * 9000))  # no file can have these names


ADDRESSES = [
    "http://127.0.0.1/", "http://localhost/", "http://[::1]/", "http://0.0.0.0/", "http://0/",
    "http://169.254.169.254/latest/meta-data/", "http://2130706433/", "http://0x7f000001/",
    "http://0177.0.0.1/", "http://127.1/", "http://10.0.0.1/", "http://192.168.1.1/",
    "http://[::ffff:127.0.0.1]/", "http://[64:ff9b::7f00:1]/", "http://[2002:7f00:1::]/",
    "http://[fd00::1]/", "http://127.0.0.1\\@1.1.1.1/", "http://user:word@1.1.1.1/",
    "gopher://1.1.1.1/", "ftp://1.1.1.1/a.mp4", "rtmp://1.1.1.1/live", "http://inner.test/",
    "http://mixed.test/", "http://mapped.test/",
]  # fmt: skip


@pytest.mark.parametrize("address", ADDRESSES)
def test_22_addresses_that_lead_inwards_are_refused(server, address):
    assert _refused(server, asked(video(address))) == (403, "url_not_allowed")


def test_23_a_redirect_inwards_is_refused_and_never_asked(server):
    with web_server(reply(b"secret")) as inner:
        target = f"http://127.0.0.1:{inner.port}/secret"
        with web_server(reply(status=302, location=target)) as outer:
            address = f"http://media.test:{outer.port}/clip.mp4"
            assert _refused(server, asked(video(address))) == (403, "url_not_allowed")
        assert inner.asked == []


def test_23_a_name_that_changes_its_mind_is_asked_for_every_hop(server, monkeypatch):
    def answer(connection, path):
        NUMBERS["turning.test"] = ["127.0.0.1"]
        reply(status=302, location="http://turning.test/again")(connection, path)

    monkeypatch.setitem(NUMBERS, "turning.test", ["1.1.1.1"])
    with web_server(answer) as web:
        address = f"http://media.test:{web.port}/"
        assert _refused(server, asked(video(address))) == (403, "url_not_allowed")
        assert len(web.asked) == 2  # request line and Host, once


def test_23_redirects_in_a_circle_end(server):
    with web_server(reply(status=302, location="/again")) as web:
        address = f"http://media.test:{web.port}/"
        assert _refused(server, asked(video(address))) == (422, "fetch_failed")


ANSWERS = {
    "gone": (reply(status=404), 422, "not_found"),
    "forbidden": (reply(status=403), 422, "fetch_failed"),
    "nonsense": (
        lambda connection, path: connection.sendall(b"hello\r\n\r\n"),
        422,
        "fetch_failed",
    ),
    "shorter than it says": (reply(b"x" * 10, length=1000), 422, "truncated"),
    "longer than allowed": (reply(b"", length=2 << 20), 413, "too_large"),
    "an error page": (reply(b"<html>no</html>"), 415, "not_media"),
}


@pytest.mark.parametrize(("answer", "status", "code"), ANSWERS.values(), ids=ANSWERS.keys())
def test_24_what_goes_wrong_upstream_is_told_apart(server, answer, status, code):
    with web_server(answer) as web:
        address = f"http://media.test:{web.port}/clip.mp4?token=secret"
        refused = server.post(asked(video(address)))
    assert (refused.status_code, refused.json()["error"]["code"]) == (status, code)
    assert "secret" not in refused.text
    assert str(server.service.settings.allowed_local_media_path.parent) not in refused.text


def test_24_an_endless_body_is_cut_off_and_leaves_no_file(server):
    with web_server(endless) as web:
        address = f"http://media.test:{web.port}/clip.mp4"
        assert _refused(server, asked(video(address))) == (413, "too_large")
    assert list(server.service.folder.glob("fetched-*")) == []


def endless(connection, path):
    connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    drip(b"x" * (1 << 16), every_seconds=0)(connection, path)


def test_24_a_video_behind_an_address_is_shown(server):
    with web_server(reply(EXAMPLE.read_bytes())) as web:
        address = f"http://media.test:{web.port}/clip.mp4?token=secret"
        answer = server.post(asked(video(address, num_frames=2))).json()
        again = server.post(asked(video(address, num_frames=2))).json()
        assert len(web.asked) == 2  # request line and Host, once: a follow-up does not fetch again
    assert answer["choices"] == again["choices"]
    assert answer["kinema"]["frames"][0]["source"] == f"http://media.test:{web.port}/clip.mp4"


def test_25_more_frames_than_one_request_may_hold(server):
    frames = "data:video/jpeg;base64," + ",".join(["AAAA"] * 10_000)
    assert _refused(server, asked(video(frames))) == (413, "too_large")


def test_25_a_body_of_two_gigabytes_is_refused_by_its_length(server):
    host, port = server.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port))) as connection:
        connection.sendall(
            b"POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Content-Length: 2147483648\r\n\r\n"
        )
        assert connection.recv(100).startswith(b"HTTP/1.1 413")


@pytest.mark.parametrize(
    "words", ["<video> <|im_end|>", "a\0b", "x" * 1_000_000, "\u202ertl", "=1+1"]
)
def test_27_words_stay_words(server, words):
    answer = server.post(asked(words=words, max_tokens=1000))
    assert answer.status_code == 200
    assert answer.json()["choices"][0]["message"]["content"] == words
    assert answer.json()["kinema"]["frames"] == []


def test_28_out_of_memory_is_503_for_that_request_alone():
    class Full(EchoEngine):
        def _answer(self, request, inbox):
            if request.conversation.messages[-1].text == "long":
                raise OutOfMemory("The device ran out of memory.", hint="Use fewer frames.")
            super()._answer(request, inbox)

    with serving(engine=Full()) as server:
        answer = server.post(asked(words="long"))
        assert (answer.status_code, answer.json()["error"]["code"]) == (503, "out_of_memory")
        assert int(answer.headers["Retry-After"]) >= 1
        assert server.post(asked(words="long", stream=True)).status_code == 503
        assert server.post(asked()).status_code == 200


@pytest.mark.parametrize("name", ["-rf.mp4", "a b.mp4", "🎬.mp4", "line\nbreak.mp4", "../../x", ""])
def test_30_every_file_name_works_and_none_becomes_a_path(server, name):
    files = {"file": (name or "x", EXAMPLE.read_bytes())}
    stored = httpx.post(f"{server.url}/v1/files", files=files).json()
    part = {"type": "video", "file_id": stored["id"], "num_frames": 1}
    assert server.post(asked(part)).status_code == 200
    folder = Path(server.service.folder)
    assert (folder / stored["id"]).is_file()


def test_30_uploads_in_parallel_are_all_stored_or_refused():
    with serving(max_requests=4) as server:
        statuses = []

        def upload():
            files = {"file": ("clip.mp4", EXAMPLE.read_bytes())}
            statuses.append(httpx.post(f"{server.url}/v1/files", files=files).status_code)

        threads = [threading.Thread(target=upload) for _ in range(24)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(statuses) <= {200, 429}
        assert statuses.count(200) == len(server.client.files.list().data) >= 1
        folder = server.service.folder
    assert not folder.exists()


def test_30_shutting_down_finishes_what_is_under_way():
    engine = Dripping()
    answers = []
    with serving(engine=engine) as server:
        caller = threading.Thread(target=lambda: answers.append(server.post(asked())))
        caller.start()
        assert engine.begun.wait(20)
        threading.Timer(0.2, engine.permits.release, (50,)).start()
    caller.join()
    assert answers[0].status_code == 200
    assert answers[0].json()["choices"][0]["message"]["content"] == "What happens?"


def test_30_a_slow_reader_holds_up_nobody_else(server):
    host, port = server.url.removeprefix("http://").split(":")
    body = b'{"model":"echo","stream":true,"messages":[{"role":"user","content":"%s"}],' % (
        b"word " * 20_000
    )
    body += b'"max_tokens":20000}'
    with socket.create_connection((host, int(port))) as slow:
        head = f"Host: x\r\nContent-Type: application/json\r\nContent-Length: {len(body)}"
        slow.sendall(f"POST /v1/chat/completions HTTP/1.1\r\n{head}\r\n\r\n".encode() + body)
        assert server.post(asked()).status_code == 200
    give_up_at = time.monotonic() + 20
    while server.service.admission.count and time.monotonic() < give_up_at:
        time.sleep(0.01)
    assert server.service.admission.count == 0
