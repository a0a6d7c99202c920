"""Bodies made up from the server's own description: whatever is sent, the server does not fail.

``KINEMA_FUZZ=1000`` sends a thousand to each route; a few are sent otherwise.
"""

from __future__ import annotations

import os

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case

from support.clips import EXAMPLE
from support.serving import serving

EXAMPLES = int(os.environ.get("KINEMA_FUZZ", "15"))
ROUTES = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/files"),
    ("GET", "/v1/files"),
    ("GET", "/v1/files/{file_id}"),
    ("GET", "/v1/files/{file_id}/content"),
    ("DELETE", "/v1/files/{file_id}"),
    ("POST", "/v1/videos/captions"),
    ("GET", "/v1/videos/captions"),
    ("GET", "/v1/videos/captions/{job_id}"),
    ("GET", "/v1/videos/captions/{job_id}/content"),
    ("POST", "/v1/videos/captions/{job_id}/cancel"),
    ("GET", "/v1/models"),
    ("GET", "/v1/models/{model}"),
    ("GET", "/health"),
    ("GET", "/metrics"),
]
NOT_OPENAI = {"/health", "/metrics"}


@pytest.fixture(scope="module")
def server():
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def upload(server):
    with EXAMPLE.open("rb") as file:
        return server.client.files.create(file=file, purpose="vision").id


def test_every_route_is_tried(server):
    paths = httpx.get(f"{server.url}/openapi.json").json()["paths"]
    assert {(m.upper(), path) for path, methods in paths.items() for m in methods} == set(ROUTES)


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_request_makes_the_server_fail(server, upload, method, path):
    schema = schemathesis.openapi.from_url(f"{server.url}/openapi.json")

    @settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(case=schema[path][method].as_strategy())
    def send(case: Case) -> None:
        if isinstance(case.body, dict):  # another model is refused before anything is looked at
            case.body["model"] = "echo"
            if "captions" in path and "video_url" not in case.body:
                case.body["file_id"] = upload
        answer = case.call(base_url=server.url, timeout=60)
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400 and path not in NOT_OPENAI:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}

    send()
