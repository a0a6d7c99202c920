"""Bodies made up from the server's own description: whatever is sent, the server does not fail.

``KINEMA_FUZZ=1000`` sends a thousand of them to each route; a few are sent otherwise.
"""

from __future__ import annotations

import os

import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis import Case

from support.serving import serving

EXAMPLES = int(os.environ.get("KINEMA_FUZZ", "15"))
ROUTES = [
    ("POST", "/v1/chat/completions"),
    ("POST", "/v1/files"),
    ("GET", "/v1/files"),
    ("GET", "/v1/files/{file_id}"),
    ("DELETE", "/v1/files/{file_id}"),
    ("GET", "/v1/models/{model}"),
]


@pytest.fixture(scope="module")
def server():
    with serving() as running:
        yield running


@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_no_request_makes_the_server_fail(server, method, path):
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
        answer = case.call(base_url=server.url)
        assert answer.status_code < 500, answer.text
        if answer.status_code >= 400:
            assert set(answer.json()["error"]) == {"message", "type", "param", "code"}

    send()
