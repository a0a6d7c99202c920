"""The engine openai against kinema's own server: every family answers as its weights do."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest

from kinema.engines import EngineSettings
from kinema.errors import MissingCapability
from kinema.messages import Conversation, ImagePart, Message, SamplingParams, TextPart, VideoPart
from kinema.prompt import decode, prepare
from kinema.server.backend import Backend
from kinema.tasks.chat import Chat
from kinema.tasks.models import find_model
from support.by_hand import NEW_TOKENS, clip, through_jpeg
from support.serving import serving
from support.tiny_families import HF_FAMILIES

PARAMS = SamplingParams(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)
CPU = EngineSettings(device="cpu", dtype="float32")
CASES = {
    "video": (VideoPart(clip(1, 3)), TextPart("what do you see?")),
    "image": (ImagePart(clip(2, 1)), TextPart("what do you see?")),
    "mixed": (ImagePart(clip(2, 1)), VideoPart(clip(1, 3)), TextPart("why?")),
}
FAMILIES = [name for name in HF_FAMILIES if not name.endswith("-hybrid")]


@pytest.fixture(scope="module")
def address(family_folder):
    """Of one server that has a small checkpoint of every family."""
    found = {name: find_model(str(family_folder(name)), engine="hf") for name in FAMILIES}
    backends = [Backend(model, model.open(CPU), name=name) for name, model in found.items()]
    with serving(more=backends) as running:
        yield f"{running.url}/v1"


@pytest.fixture
def ask(address):
    """Opens the engine openai on one of the server's models: (model, engine)."""
    opened = []

    def open_one(name):
        model = find_model(name, engine="openai")
        opened.append(model.open(EngineSettings(base_url=address)))
        return model, opened[-1]

    yield open_one
    for engine in opened:
        engine.close()


def _requests(family, checkpoint, change=lambda part: part):
    """Every case as a first turn, and as an earlier one."""
    for name, parts in CASES.items():
        first = Message("user", tuple(map(change, parts)))
        answered = Message("assistant", (TextPart("a rabbit"),))
        turns = (first, answered, Message("user", (TextPart("why?"),)))
        for messages, request_id in ((turns[:1], name), (turns, f"{name}, then")):
            yield prepare(
                decode(Conversation(messages), family),
                family=family,
                checkpoint=checkpoint,
                params=PARAMS,
                request_id=request_id,
            )


def _sent(part):
    """The part as the server gets it."""
    return part if isinstance(part, TextPart) else replace(part, source=through_jpeg(part.source))


def _answers(engine, requests):
    return {c.request_id: c.error or c.text for c in engine.generate(requests)}


@pytest.mark.parametrize("name", FAMILIES)
def test_answers_are_those_of_the_weights(ask, family_engine, shown, name):
    model, engine = ask(name)
    ours = _answers(engine, _requests(model.family, model.checkpoint))
    behind, weights = family_engine(name)
    as_images = replace(behind.family, takes_video=False)
    requests = _requests(as_images, behind.checkpoint, _sent)
    assert ours == _answers(weights, requests)
    shown(name, "openai", "video", "as timed images")
    shown(name, "openai", "image")
    shown(name, "openai", "mixed", "as timed images")
    shown(name, "openai", "batched")
    shown(name, "openai", "follow-up")


@pytest.mark.parametrize("name", FAMILIES)
def test_a_stream_gives_the_same_words(ask, shown, name):
    model, engine = ask(name)
    request = next(_requests(model.family, model.checkpoint))
    (whole,) = engine.generate([request])
    *pieces, last = engine.stream(request)
    assert "".join(piece.text for piece in pieces).strip() == last.completion.text == whole.text
    assert last.completion.usage == whole.usage
    shown(name, "openai", "streamed")


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_of_a_server_are_not_quantised_from_here(address, shown, name):
    settings = EngineSettings(base_url=address, quantization="bnb-4bit")
    with (
        closing(Chat(name, engine="openai", settings=settings)) as session,
        pytest.raises(MissingCapability, match="'openai' does not do --quantization"),
    ):
        session.open()
    shown(name, "openai", "quantised", "refused")
