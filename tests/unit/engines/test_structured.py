"""Answers that must be JSON of a schema: held to it while they are written, checked afterwards."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest

from kinema.chat_json import write_params
from kinema.engines import EngineSettings
from kinema.errors import ModelError, UsageError
from kinema.messages import Conversation, Message, SamplingParams, TextPart, VideoPart
from kinema.prompt import decode, prepare
from kinema.structured import follow_schema, read_schema
from kinema.tasks.models import find_model
from support.driver import answer, generate, stream
from support.schemas import SCHEMA
from support.tiny_families import make_checkpoint


@pytest.fixture(scope="module")
def hf(tmp_path_factory):
    folder = make_checkpoint("qwen2-vl", tmp_path_factory.mktemp("qwen2-vl"))
    model = find_model(str(folder))
    engine = model.open(EngineSettings(device="cpu"))
    yield SimpleNamespace(model=model, engine=engine)
    engine.close()


def request(hf, frames, name="0", **params):
    said = Conversation((Message("user", (VideoPart(frames), TextPart("describe it"))),))
    return prepare(
        decode(said, hf.model.family),
        family=hf.model.family,
        checkpoint=hf.model.checkpoint,
        params=SamplingParams(max_new_tokens=200, **params),
        request_id=name,
    )


@pytest.mark.parametrize("sampling", [{}, {"temperature": 1.5, "seed": 3}])
def test_a_model_of_random_weights_writes_what_the_schema_says(hf, frames, sampling):
    schema = read_schema(json.dumps(SCHEMA))
    done = answer(hf.engine, request(hf, frames, json_schema=schema, **sampling))
    assert done.finish_reason == "stop"
    assert list(follow_schema(done.text, schema)) == ["people", "mood", "objects"]


def test_each_row_of_a_batch_is_held_to_the_schema_and_equals_the_answer_alone(hf, frames):
    schema = read_schema(json.dumps(SCHEMA))
    asked = [request(hf, frames[: 2 + i], str(i), json_schema=schema) for i in range(3)]
    together = {done.request_id: done.text for done in generate(hf.engine, asked)}
    alone = [answer(hf.engine, one).text for one in asked]
    assert [together[one.id] for one in asked] == alone
    assert all(follow_schema(text, schema) for text in alone)


def test_streamed_json_is_whole(hf, frames):
    schema = read_schema('{"type": "boolean"}')
    *pieces, last = stream(hf.engine, request(hf, frames, json_schema=schema))
    assert "".join(pieces) == last.text
    assert last.text in ("true", "false")


def test_a_schema_that_no_grammar_can_say_is_refused(hf, frames):
    schema = read_schema('{"type": "array", "uniqueItems": true}')
    with pytest.raises(UsageError, match="uniqueItems"):
        answer(hf.engine, request(hf, frames, json_schema=schema))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("{", "no JSON"),
        ("[1]", "must be an object"),
        ('{"type": "text"}', "is not valid"),
        ('{"$ref": "http://example.com/schema"}', "example.com"),
    ],
)
def test_what_is_no_schema_is_refused(text, said):
    with pytest.raises(UsageError, match=said):
        read_schema(text)


@pytest.mark.parametrize(
    ("text", "said"), [('{"people": 1', "no whole JSON"), ('{"people": 10}', "does not follow")]
)
def test_an_answer_that_does_not_follow_is_named(text, said):
    with pytest.raises(ModelError, match=said):
        follow_schema(text, read_schema(json.dumps(SCHEMA)))


def test_servers_get_the_schema_as_response_format():
    schema = read_schema(json.dumps(SCHEMA))
    body = write_params(SamplingParams(json_schema=schema))
    assert body["response_format"]["type"] == "json_schema"
    assert body["response_format"]["json_schema"]["schema"] == SCHEMA
    assert "response_format" not in write_params(SamplingParams())
