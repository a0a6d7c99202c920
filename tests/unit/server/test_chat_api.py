"""The chat API on the echo engine, through OpenAI's own client where that can say it."""

from __future__ import annotations

import base64
import io
import threading
import time

import httpx
import openai
import pytest
from PIL import Image

from kinema.engines.echo import EchoEngine
from support.clips import EXAMPLE, board
from support.serving import Dripping, asked, data_address, serving, video


@pytest.fixture(scope="module")
def server():
    with serving(allowed_local_media_path=EXAMPLE.parent, max_body_mib=1) as running:
        yield running


def test_a_video_in_the_request_is_shown_to_the_model(server):
    answer = server.client.chat.completions.create(**asked(video(data_address())))
    assert answer.choices[0].message.content.startswith("[video 8 frames 0.38–5.62 s] What")
    assert answer.choices[0].finish_reason == "stop"
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens
    assert answer.model_extra["kinema"]["frames"][0]["indices"][0] == 9


def test_a_stream_says_what_a_whole_answer_says(server):
    body = asked(video(str(EXAMPLE), num_frames=2))
    whole = server.client.chat.completions.create(**body)
    chunks = list(
        server.client.chat.completions.create(
            **body, stream=True, stream_options={"include_usage": True}
        )
    )
    text = "".join(c.choices[0].delta.content or "" for c in chunks if c.choices)
    assert text == whole.choices[0].message.content
    assert chunks[-2].choices[0].finish_reason == "stop"
    assert chunks[-1].usage == whole.usage
    assert chunks[-1].model_extra["kinema"]["frames"] == whole.model_extra["kinema"]["frames"]


def test_a_stream_ends_with_done(server):
    lines = server.post(asked(stream=True)).text.splitlines()
    assert lines[-2] == "data: [DONE]"


def test_n_answers_count_the_prompt_once(server):
    one = server.client.chat.completions.create(**asked())
    three = server.client.chat.completions.create(**asked(n=3))
    assert [choice.index for choice in three.choices] == [0, 1, 2]
    assert three.usage.prompt_tokens == one.usage.prompt_tokens
    assert three.usage.completion_tokens == 3 * one.usage.completion_tokens


def test_an_answer_that_is_cut_says_so(server):
    answer = server.client.chat.completions.create(**asked(words="one two three", max_tokens=2))
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == (
        "one two",
        "length",
    )


FORMS = {
    "vLLM": {"type": "video_url", "video_url": {"url": "PATH"}},
    "vLLM, sampling inside": {"type": "video_url", "video_url": {"url": "PATH", "num_frames": 3}},
    "short": {"type": "video_url", "video_url": "PATH"},
    "Qwen": {"type": "video", "video": "PATH"},
    "Hugging Face path": {"type": "video", "path": "PATH"},
    "Hugging Face url": {"type": "video", "url": "PATH"},
    "llama.cpp": {"type": "input_video", "input_video": {"url": "PATH"}},
    "OpenAI file": {"type": "file", "file": {"file_data": "PATH"}},
}


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS.keys())
def test_every_part_form_names_the_video(server, form):
    def filled(value):
        if isinstance(value, dict):
            return {k: filled(v) for k, v in value.items()}
        return str(EXAMPLE) if value == "PATH" else value

    inside = "num_frames" in str(form)
    part = filled(form) | ({} if inside else {"num_frames": 3})
    answer = server.post(asked(part)).json()
    assert answer["choices"][0]["message"]["content"].startswith("[video 3 frames")


@pytest.mark.parametrize(
    ("sampling", "seen"),
    [
        ({"fps": 1}, "[video 6 frames"),
        ({"start": 2, "end": "0:04", "num_frames": 2}, "[video 2 frames 2.50–3.50 s]"),
        ({"at": [1.5, 3.0]}, "[video 2 frames 1.50–3.00 s]"),
    ],
)
def test_each_part_has_its_own_frames(server, sampling, seen):
    answer = server.post(asked(video(str(EXAMPLE), **sampling))).json()
    assert answer["choices"][0]["message"]["content"].startswith(seen)


@pytest.mark.parametrize(
    "defaults",
    [
        {"media_io_kwargs": {"video": {"num_frames": 5}}},
        {"mm_processor_kwargs": {"num_frames": 5}},
    ],
)
def test_vllm_clients_may_set_frames_for_the_whole_request(server, defaults):
    answer = server.post(asked(video(str(EXAMPLE)), **defaults)).json()
    assert answer["choices"][0]["message"]["content"].startswith("[video 5 frames")


def test_an_image_is_an_image(server):
    file = io.BytesIO()
    Image.fromarray(board(3)).save(file, "PNG")
    address = "data:image/png;base64," + base64.b64encode(file.getvalue()).decode()
    picture = {"type": "image_url", "image_url": {"url": address}}
    answer = server.post(asked(picture)).json()
    assert answer["choices"][0]["message"]["content"].startswith("[image 1 frames")


REFUSED = {
    "no model": ({"messages": []}, 400, "malformed"),
    "not an object": ([1], 400, "malformed"),
    "another model": (asked() | {"model": "gpt-4o"}, 404, "model_not_found"),
    "unknown field": (asked(colour="red"), 400, "malformed"),
    "tools": (asked(tools=[{"type": "function"}]), 400, "malformed"),
    "JSON output": (asked(response_format={"type": "json_object"}), 400, "request_refused"),
    "no schema": (asked(response_format={"type": "json_schema"}), 400, "malformed"),
    "broken schema": (
        asked(
            response_format={"type": "json_schema", "json_schema": {"schema": {"type": "thing"}}}
        ),
        400,
        "usage",
    ),
    "endless schema": (
        asked(
            response_format={
                "type": "json_schema",
                "json_schema": {"schema": {"enum": ["x" * 70_000]}},
            }
        ),
        400,
        "usage",
    ),
    "no source": (asked({"type": "video"}), 400, "usage"),
    "two sources": (asked({"type": "video", "video": "a", "url": "b"}), 400, "usage"),
    "unknown upload": (asked({"type": "file", "file": {"file_id": "file-1"}}), 404, "not_found"),
    "fps and num_frames": (asked(video(str(EXAMPLE), fps=1, num_frames=2)), 400, "usage"),
    "fps 0": (asked(video(str(EXAMPLE), fps=0)), 400, "usage"),
    "fps that is huge": (asked(video(str(EXAMPLE), fps=1e9)), 200, None),
    "num_frames 0": (asked(video(str(EXAMPLE), num_frames=0)), 400, "malformed"),
    "start behind end": (asked(video(str(EXAMPLE), start=5, end=2)), 400, "usage"),
    "start that is no time": (asked(video(str(EXAMPLE), start="abc")), 400, "usage"),
    "range behind the end": (asked(video(str(EXAMPLE), start=60, end=70)), 400, "empty_range"),
    "file elsewhere": (asked(video("file:///etc/passwd")), 403, "path_not_allowed"),
    "file that is not there": (asked(video("/etc/nothing")), 403, "path_not_allowed"),
    "private address": (asked(video("http://127.0.0.1/a.mp4")), 403, "url_not_allowed"),
    "another scheme": (asked(video("gopher://example.com/")), 403, "url_not_allowed"),
    "damaged base64": (asked(video("data:video/mp4;base64,@@@@")), 400, "usage"),
    "wrong kind": (asked(video("data:text/html;base64,aGVsbG8=")), 400, "usage"),
    "text as video": (asked(video("data:video/mp4;base64,aGVsbG8=")), 415, "not_media"),
    "not media": (asked(video("data:video/mp4;base64,AAECAwQFBgcICQ==")), 415, "not_media"),
    "last word ours": (
        {"model": "echo", "messages": [{"role": "assistant", "content": "x"}]},
        400,
        "usage",
    ),
    "temperature": (asked(temperature=9), 400, "malformed"),
    "body too long": (asked(words="x" * (2 << 20)), 413, "too_large"),
}


@pytest.mark.parametrize(("body", "status", "code"), REFUSED.values(), ids=REFUSED.keys())
def test_what_cannot_be_answered_is_refused_in_openais_shape(server, body, status, code):
    answer = server.post(body)
    assert answer.status_code == status, answer.text
    if code is not None:
        error = answer.json()["error"]
        assert error["code"] == code
        assert set(error) == {"message", "type", "param", "code"}
        assert "Traceback" not in error["message"]


def test_a_refused_path_says_the_same_whether_it_exists(server):
    there, not_there = (server.post(asked(video(p))).text for p in ("/etc/passwd", "/etc/nothing"))
    assert there == not_there


def test_a_body_without_a_length_is_counted_as_it_comes(server):
    pieces = (b" " * (1 << 16) for _ in range(40))
    answer = httpx.post(f"{server.url}/v1/chat/completions", content=pieces)
    assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")


def test_an_uploaded_video_is_asked_about_by_its_id(server):
    with EXAMPLE.open("rb") as file:
        stored = server.client.files.create(file=file, purpose="vision")
    part = {"type": "video", "file_id": stored.id, "num_frames": 2}
    for _ in range(2):
        answer = server.post(asked(part)).json()
        assert answer["choices"][0]["message"]["content"].startswith("[video 2 frames")
    other = server.client.files.create(file=("other.mp4", b"x"), purpose="vision")
    assert [f.id for f in server.client.files.list(limit=1)] == [stored.id, other.id]
    assert server.client.files.content(stored.id).read() == EXAMPLE.read_bytes()
    assert server.client.files.delete(stored.id).deleted
    with pytest.raises(openai.NotFoundError):
        server.client.files.retrieve(stored.id)
    assert server.post(asked(part | {"start": 1})).status_code == 404


def test_an_upload_that_is_too_long_leaves_nothing(tmp_path):
    with serving(max_file_mib=1) as server:
        long = {"file": ("long.mp4", b"x" * (1 << 20) + b"x")}
        answer = httpx.post(f"{server.url}/v1/files", files=long)
        assert (answer.status_code, answer.json()["error"]["code"]) == (413, "too_large")
        assert server.client.files.list().data == []


def test_models_lists_the_one_that_is_served(server):
    assert [model.id for model in server.client.models.list()] == ["echo"]
    assert server.client.models.retrieve("echo").owned_by == "kinema"


def test_metrics_count_requests_and_tokens(server):
    def value(name):
        lines = httpx.get(f"{server.url}/metrics").text.splitlines()
        return sum(float(line.split()[-1]) for line in lines if line.startswith(name))

    name = 'kinema_requests_total{route="/v1/chat/completions",status="200"}'
    requests, tokens = value(name), value("kinema_completion_tokens_total")
    server.post(asked(words="three words here"))
    assert value(name) == requests + 1
    assert value("kinema_completion_tokens_total") == tokens + 3


ROUTES = [
    ("GET", "/v1/models"), ("GET", "/v1/models/echo"), ("GET", "/metrics"), ("GET", "/v1/files"),
    ("POST", "/v1/files"), ("GET", "/v1/files/file-1"), ("DELETE", "/v1/files/file-1"),
    ("POST", "/v1/chat/completions"), ("GET", "/docs"), ("GET", "/openapi.json"), ("GET", "/else"),
]  # fmt: skip


def test_every_route_but_health_wants_the_key():
    with serving(api_key="sesame") as server:
        for method, path in ROUTES:
            for headers in ({}, {"Authorization": "Bearer wrong"}, {"Authorization": "Basic !"}):
                answer = httpx.request(method, server.url + path, headers=headers)
                assert answer.status_code == 401, (method, path)
                assert answer.json()["error"]["code"] == "invalid_api_key"
        assert httpx.get(f"{server.url}/health").json() == {"status": "ok"}
        assert server.client.models.list().data[0].id == "echo"
        assert httpx.get(f"{server.url}/metrics", auth=("any", "sesame")).status_code == 200


def test_one_request_too_many_is_told_when_to_come_back():
    engine = Dripping()
    with serving(engine=engine, max_requests=2) as server:
        held = [threading.Thread(target=server.post, args=(asked(),)) for _ in range(2)]
        for thread in held:
            thread.start()
        while server.service.admission.count < 2:
            time.sleep(0.01)
        answer = server.post(asked())
        for _ in range(20):
            engine.permits.release()
        for thread in held:
            thread.join()
        assert answer.status_code == 429
        assert int(answer.headers["Retry-After"]) >= 1
        assert answer.json()["error"]["code"] == "rate_limit_exceeded"
        assert server.post(asked(words="")).status_code == 200


@pytest.mark.parametrize("stream", [True, False])
def test_a_caller_who_hangs_up_stops_the_model(stream):
    engine = Dripping()
    with serving(engine=engine) as server:
        engine.permits.release()
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{server.url}/v1/chat/completions",
                json=asked(words="a very long answer", stream=stream),
                timeout=httpx.Timeout(30, read=0.5),
            )
        give_up_at = time.monotonic() + 20
        while not engine.stopped and time.monotonic() < give_up_at:
            time.sleep(0.01)
        assert len(engine.stopped) == 1
        assert server.service.admission.count == 0


class Failing(EchoEngine):
    """Raises what is no error of ours when it is told to fail."""

    def _answer(self, request, inbox):
        if "fail" in request.conversation.messages[-1].text:
            raise RuntimeError("a secret of the engine")
        super()._answer(request, inbox)


@pytest.mark.parametrize("stream", [False, True])
def test_an_engine_that_fails_fails_one_request(stream):
    with serving(engine=Failing()) as server:
        answer = server.post(asked(words="fail", stream=stream))
        assert answer.status_code == 500
        assert answer.json()["error"]["message"].startswith("The engine failed.")
        assert "secret" not in answer.text
        assert server.post(asked()).status_code == 200
