"""Caption jobs over HTTP, on the echo engine."""

from __future__ import annotations

import threading
import time

import httpx
import pytest

from kinema.engines.echo import EchoEngine
from support.clips import EXAMPLE
from support.serving import serving
from support.web import reply, serve


@pytest.fixture(scope="module")
def server():
    with serving(private_media_hosts=("127.0.0.1",)) as running:
        yield running


def _upload(server) -> str:
    with EXAMPLE.open("rb") as file:
        return server.client.files.create(file=file, purpose="vision").id


def _start(server, **fields) -> httpx.Response:
    return httpx.post(f"{server.url}/v1/videos/captions", json={"model": "echo"} | fields)


def _look(server, job_id: str, more: str = "") -> httpx.Response:
    return httpx.get(f"{server.url}/v1/videos/captions/{job_id}{more}")


def _ended(server, job_id: str) -> dict:
    while (job := _look(server, job_id).json())["status"] in ("queued", "in_progress"):
        time.sleep(0.02)
    return job


def test_a_job_describes_the_whole_video(server):
    started = _start(server, file_id=_upload(server), window=2)
    assert started.status_code == 200
    assert started.json()["status"] in ("queued", "in_progress")
    job = _ended(server, started.json()["id"])
    assert job["status"] == "completed"
    assert [c["start_seconds"] for c in job["result"]["captions"]] == [0, 2, 4]
    assert job["result"]["captions"][1]["text"].startswith("[video 2 frames 2.00–3.00 s]")
    assert job["num_answers"] >= 3


def test_a_job_names_the_file_as_its_sender_did_and_no_path_of_ours(server):
    job_id = _start(server, file_id=_upload(server)).json()["id"]
    _ended(server, job_id)
    text = _look(server, job_id).text
    assert '"source":"four_things.mp4"' in text
    assert "kinema-serve-" not in text


@pytest.mark.parametrize(
    ("name", "kind", "begins"),
    [
        ("srt", "application/x-subrip", "1\n00:00:00,000 --> 00:00:04,000\n"),
        ("vtt", "text/vtt", "WEBVTT"),
        ("chapters", "text/vtt", "WEBVTT"),
        ("ffmetadata", "text/plain", ";FFMETADATA1"),
        ("json", "application/json", "{"),
    ],
)
def test_a_result_is_had_as_a_file(server, name, kind, begins):
    job_id = _start(server, file_id=_upload(server)).json()["id"]
    _ended(server, job_id)
    answer = _look(server, job_id, f"/content?format={name}")
    assert answer.headers["content-type"].startswith(kind)
    assert answer.headers["content-disposition"].startswith("attachment; filename*=UTF-8''four_")
    assert answer.text.startswith(begins)


def test_an_address_is_fetched_through_the_gate(server):
    with serve(reply(body=EXAMPLE.read_bytes())) as other:
        started = _start(server, video_url=f"http://127.0.0.1:{other.port}/clip.mp4")
        assert _ended(server, started.json()["id"])["status"] == "completed"
    assert _start(server, video_url="http://10.0.0.1/clip.mp4").status_code == 403


def test_a_video_that_cannot_be_read_fails_the_job_and_says_why(server):
    stored = server.client.files.create(file=("odd.mp4", b"no video" * 100), purpose="vision")
    job = _ended(server, _start(server, file_id=stored.id).json()["id"])
    assert job["status"] == "failed"
    assert job["error"]["code"] == "not_media"
    assert "odd.mp4" in job["error"]["message"]
    assert _look(server, job["id"], "/content").status_code == 400


def test_bad_requests_are_refused(server):
    file_id = _upload(server)
    assert _start(server).status_code == 400
    assert _start(server, file_id=file_id, video_url="https://x.org/a.mp4").status_code == 400
    assert _start(server, file_id="file-000000000000000000000000").status_code == 404
    assert _start(server, file_id=file_id, style="baroque").status_code == 400
    assert _start(server, file_id=file_id, model="gpt").status_code == 404
    assert _start(server, file_id=file_id, fps=0).status_code == 400
    assert _look(server, "captions-1").status_code == 404


class Held(EchoEngine):
    """Answers when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.begun = threading.Event()
        self.let = threading.Event()

    def _answer(self, request, inbox):
        self.begun.set()
        self.let.wait(30)
        super()._answer(request, inbox)


def test_cancelling_ends_a_job_that_runs_and_one_that_waits():
    engine = Held()
    with serving(engine=engine) as server:
        file_id = _upload(server)
        first, second = (_start(server, file_id=file_id).json()["id"] for _ in range(2))
        assert engine.begun.wait(30)
        for job_id in (second, first):
            httpx.post(f"{server.url}/v1/videos/captions/{job_id}/cancel")
        assert _look(server, second).json()["status"] == "cancelled"
        assert _ended(server, first)["status"] == "cancelled"
        assert server.service.captions.get(first).record is None
        engine.let.set()
        third = _start(server, file_id=file_id).json()["id"]
        assert _ended(server, third)["status"] == "completed"
        listed = httpx.get(f"{server.url}/v1/videos/captions").json()["data"]
        assert [job["id"] for job in listed] == [first, second, third]


def test_too_many_jobs_are_told_to_come_back():
    engine = Held()
    with serving(engine=engine) as server:
        file_id = _upload(server)
        answers = [_start(server, file_id=file_id) for _ in range(17)]
        assert [a.status_code for a in answers] == [200] * 16 + [429]
        assert answers[-1].headers["retry-after"] == "30"
        engine.let.set()


def test_questions_get_their_turn_while_a_job_runs():
    engine = Held()
    with serving(engine=engine) as server:
        job_id = _start(server, file_id=_upload(server), window=1).json()["id"]
        assert engine.begun.wait(30)
        engine.let.set()
        said = [{"role": "user", "content": "Are you there?"}]
        answer = server.client.chat.completions.create(model="echo", messages=said)
        assert answer.choices[0].message.content == "Are you there?"
        assert _ended(server, job_id)["status"] == "completed"
