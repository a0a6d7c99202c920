"""The status of every error that kinema raises: part of the contract, so each is written down."""

from __future__ import annotations

import inspect

import pytest

from kinema import errors
from kinema.errors import KinemaError, ModelError
from kinema.server.errors import body_of, error_response, for_strangers, status_of

EXPECTED = {
    "KinemaError": 500, "UsageError": 400, "UnknownName": 400,
    "MediaError": 422, "MediaNotFound": 422, "NotAFile": 400, "NotMedia": 415,
    "NoVideoStream": 422, "Truncated": 422, "NoFrames": 422, "EmptyRange": 400, "TooLarge": 413,
    "DecodeFailed": 422, "DecodeDeadline": 504, "DecoderCrashed": 422, "PathNotAllowed": 403,
    "UrlNotAllowed": 403, "FetchFailed": 422, "SourceChanged": 422, "NoSubtitles": 422,
    "ModelError": 500, "ModelNotFound": 500, "UnsafeModel": 500, "MissingPackage": 500,
    "MissingCapability": 400, "MediumRefused": 400, "AccessRefused": 502,
    "RequestRefused": 400, "SchemaMisfit": 422, "BrokenLogits": 500, "RequestFailed": 500,
    "ContextTooLong": 400,
    "OutOfMemory": 503, "EngineDied": 503, "EngineUnreachable": 502,
    "Busy": 429, "PartialFailure": 500, "Unfinished": 500,
}  # fmt: skip
MORE = {
    "UnknownName": ("model", "a", ["b"]),
    "ContextTooLong": {"needed": 5, "available": 4, "largest_num_frames": None},
}


def _classes() -> dict[str, type[KinemaError]]:
    found = inspect.getmembers(errors, inspect.isclass)
    return {name: kind for name, kind in found if issubclass(kind, KinemaError)}


def _made(kind: type[KinemaError]) -> KinemaError:
    given = MORE.get(kind.__name__, ("said",))
    return kind(**given) if isinstance(given, dict) else kind(*given)


def test_every_error_has_its_status():
    assert {name: status_of(_made(kind)) for name, kind in _classes().items()} == EXPECTED


@pytest.mark.parametrize("name", [n for n, status in EXPECTED.items() if status in (429, 503)])
def test_what_may_pass_says_when_to_ask_again(name):
    answer = error_response(_made(_classes()[name]))
    assert int(answer.headers["Retry-After"]) >= 1


def test_what_is_wrong_with_the_key_of_another_server_is_no_fault_of_the_caller():
    body = body_of(errors.AccessRefused("The key is not accepted.", hint="Set OPENAI_API_KEY."))
    assert body["error"] == {
        "message": "The key is not accepted. Set OPENAI_API_KEY.",
        "type": "server_error",
        "param": None,
        "code": "access_refused",
    }


def test_words_that_are_not_ours_are_not_told_to_strangers():
    ours = ModelError("The template is broken.")
    assert for_strangers(ours) is ours
    foreign = ModelError("The engine failed. RuntimeError: a secret")
    foreign.__cause__ = RuntimeError("a secret")
    assert "secret" not in for_strangers(foreign).sentence
    assert "secret" not in for_strangers(RuntimeError("a secret")).sentence
