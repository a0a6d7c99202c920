"""What the page lets in: its own requests, and no file or address on the way through Gradio."""

from __future__ import annotations

import httpx
import pytest

from kinema.server.page.talk import Look, Talk, Turn
from support.serving import serving
from support.web import reply, serve

PICKS = {"model": "echo", "temperature": 0.0, "top_p": 1.0, "max_tokens": 64, "seed": None}


@pytest.fixture(scope="module")
def server():
    with serving(private_media_hosts=("127.0.0.1",)) as running:
        yield running


def test_the_page_loads_nothing_from_elsewhere(server):
    answer = httpx.get(server.url)
    assert answer.status_code == 200
    assert "default-src 'self'" in answer.headers["content-security-policy"]


@pytest.mark.parametrize(
    "path",
    [
        "gradio_api/upload",
        "gradio_api/file=/etc/passwd",
        "gradio_api/proxy=http://127.0.0.1/",
        "gradio_api/run/predict",
        "gradio_api/call/ask",
        "gradio_api/process_recording",
        "gradio_api/vibe-edit",
        "gradio_api/stream/1",
        "gradio_api/runs",
        "monitoring",
        "login",
        "v1/nothing",
    ],
)
def test_other_routes_are_not_there(server, path):
    for method in ("GET", "POST"):
        answer = httpx.request(method, f"{server.url}/{path}")
        assert answer.status_code == 404
        assert answer.json()["error"]["code"] == "not_found"


def test_routes_of_the_api_keep_their_statuses(server):
    assert httpx.put(f"{server.url}/v1/models").status_code == 405


def test_a_file_among_the_values_is_refused_and_its_address_not_visited(server):
    with serve(reply(body=b"secret")) as other:
        address = f"http://127.0.0.1:{other.port}/clip.mp4"
        file = {"path": address, "url": address, "meta": {"_type": "gradio.FileData"}}
        for value in (file, [file], {"deep": {"er": file}}):
            body = {"data": [value, None], "fn_index": 0, "session_hash": "x", "trigger_id": 1}
            answer = httpx.post(f"{server.url}/gradio_api/queue/join", json=body)
            assert answer.status_code == 400
    assert other.asked == []


def test_a_body_that_is_no_json_is_refused(server):
    for body in (b"{", b"[" * 100_000, b"\xff"):
        answer = httpx.post(f"{server.url}/gradio_api/queue/join", content=body)
        assert answer.status_code == 400


def test_a_talk_shows_what_its_last_question_is_about_and_once():
    whole, part = Look("file-1"), Look("file-1", start="0:03")
    talk = Talk(
        (
            Turn("First?", whole, answer="One."),
            Turn("Second?", whole, answer="Two."),
            Turn("Third?", part, answer="Three."),
            Turn("Fourth?", part),
        )
    )
    kinds = [[part["type"] for part in content] for content in _as_lists(talk)]
    assert kinds == [["text"], ["text"], ["video", "text"], ["text"]]


def test_going_back_to_the_whole_video_shows_it_where_it_was():
    whole, part = Look("file-1"), Look("file-1", start="0:03")
    talk = Talk((Turn("A?", whole), Turn("B?", part), Turn("C?", whole)))
    assert [len(content) for content in _as_lists(talk)] == [2, 1, 1]


def _as_lists(talk: Talk) -> list:
    body = talk.body(PICKS).model_dump(exclude_none=True)
    said = [m for m in body["messages"] if m["role"] == "user"]
    return [m["content"] for m in said]
