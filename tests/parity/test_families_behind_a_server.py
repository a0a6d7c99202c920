"""The engine openai against kinema's own server: every family answers as its weights do."""

from __future__ import annotations

from contextlib import closing
from dataclasses import replace

import pytest

from kinema.engines import EngineSettings
from kinema.errors import MissingCapability
from kinema.server.backend import Backend
from kinema.tasks.chat import Chat
from kinema.tasks.models import find_model
from support import served
from support.serving import serving
from support.tiny_families import HF_FAMILIES

CPU = EngineSettings(device="cpu", dtype="float32")
FAMILIES = [name for name in HF_FAMILIES if not name.endswith("-hybrid")]


@pytest.fixture(scope="module")
def address(family_folder):
    """Of one server that has a small checkpoint of every family."""
    found = {name: find_model(str(family_folder(name)), engine="hf") for name in FAMILIES}
    backends = [Backend(model, model.scheduler(CPU), name=name) for name, model in found.items()]
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


@pytest.mark.parametrize("name", FAMILIES)
def test_answers_are_those_of_the_weights(ask, family_engine, shown, name):
    model, engine = ask(name)
    ours = served.answers(engine, served.requests(model.family, model.checkpoint))
    behind, weights = family_engine(name)
    as_images = replace(behind.family, takes_video=False)
    requests = served.requests(as_images, behind.checkpoint, served.as_sent)
    assert ours == served.answers(weights, requests)
    served.show_answers(shown, name)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_stream_gives_the_same_words(ask, shown, name):
    model, engine = ask(name)
    request = next(served.requests(model.family, model.checkpoint))
    served.assert_stream_says_the_same(engine, request)
    shown(name, "openai", "streamed")


@pytest.mark.parametrize("name", FAMILIES)
def test_weights_of_a_server_are_not_quantised_from_here(address, shown, name):
    settings = EngineSettings(base_url=address, quantization="bnb-4bit")
    with (
        closing(Chat(name, engine="openai", settings=settings)) as session,
        pytest.raises(MissingCapability, match="'openai' does not do quantization"),
    ):
        session.open()
    shown(name, "openai", "quantised", "refused")
