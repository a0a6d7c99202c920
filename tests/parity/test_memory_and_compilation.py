"""A device that is too small, and decoding steps that are compiled."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from transformers import CompileConfig

from kinema.engines import EngineSettings
from kinema.engines.hf import generation
from kinema.errors import ModelError, OutOfMemory
from kinema.messages import Conversation, Message, SamplingParams, TextPart, VideoPart
from kinema.prompt import decode, prepare
from kinema.tasks.chat import Chat
from kinema.tasks.models import find_model
from support.by_hand import clip

PARAMS = SamplingParams(max_new_tokens=4, min_new_tokens=4)
CPU = EngineSettings(device="cpu", dtype="float32")


@pytest.fixture
def small(video_llava_folder, monkeypatch):
    """(requests, engine, limit): ``generate`` runs out of memory above ``limit["rows"]`` rows."""
    model = find_model(str(video_llava_folder))
    engine = model.open(CPU)
    limit = {"rows": 8, "failures": 0}
    enough = engine.model.generate

    def generate(**arguments):
        if len(arguments["input_ids"]) > limit["rows"]:
            limit["failures"] += 1
            raise torch.OutOfMemoryError("CUDA out of memory.")
        return enough(**arguments)

    monkeypatch.setattr(engine.model, "generate", generate)
    requests = [
        prepare(
            decode(
                Conversation((Message("user", (VideoPart(clip(i)), TextPart("why?"))),)),
                model.family,
            ),
            family=model.family,
            checkpoint=model.checkpoint,
            params=PARAMS,
            request_id=str(i),
        )
        for i in range(4)
    ]
    yield requests, engine, limit
    engine.close()


def _tokens(engine, requests):
    return {c.request_id: c.token_ids for c in generate(engine, requests)}


def test_a_batch_that_does_not_fit_runs_in_halves(small):
    requests, engine, limit = small
    whole = _tokens(engine, requests)
    limit["rows"] = 2
    assert _tokens(engine, requests) == whole
    assert limit["failures"] == 1


def test_after_one_smaller_try_comes_advice(small):
    requests, engine, limit = small
    limit["rows"] = 0
    for run in (
        lambda: _tokens(engine, requests),
        lambda: _tokens(engine, requests[:1]),
        lambda: list(stream(engine, requests[0])),
    ):
        limit["failures"] = 0
        with pytest.raises(OutOfMemory) as caught:
            run()
        assert "--quantization" in caught.value.hint
        assert limit["failures"] == 2


def _talk(folder, *, compiled, questions=("why?", "who?")):
    """Token ids of the answers; the video is given with the first question."""
    settings = EngineSettings(device="cpu", dtype="float32", compile=compiled)
    with Chat(str(folder), params=PARAMS, settings=settings) as session:
        first, *others = questions
        answers = [session.ask(first, VideoPart(clip(1))), *map(session.ask, others)]
        return [answer.completion.token_ids for answer in answers]


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_captured_step_on_a_static_cache_gives_the_same_tokens(video_llava_folder, monkeypatch):
    # The graph runs as it was captured: two turns without the compiler's half a minute each.
    eager = partial(CompileConfig, backend="eager")
    monkeypatch.setattr(generation, "CompileConfig", eager)
    compiled = _talk(video_llava_folder, compiled=True)
    torch.compiler.reset()
    assert compiled == _talk(video_llava_folder, compiled=False)


@pytest.fixture
def inductor():
    """The compiler's settings; what it makes is thrown away, and it starts no workers."""
    from torch._inductor import config
    from torch._inductor.utils import fresh_cache

    with fresh_cache(), config.patch(compile_threads=1):
        yield config
    torch.compiler.reset()


@pytest.mark.slow
@pytest.mark.needs_program("g++")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiled_step_gives_the_same_tokens(video_llava_folder, inductor):
    compiled = _talk(video_llava_folder, compiled=True, questions=["why?"])
    assert compiled == _talk(video_llava_folder, compiled=False, questions=["why?"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiler_that_is_missing_is_named(video_llava_folder, inductor):
    with (
        inductor.patch({"cpp.cxx": (None, "no-such-compiler")}),
        pytest.raises(ModelError, match=r"--compile did not work here: .*C\+\+ compiler.*g\+\+"),
    ):
        _talk(video_llava_folder, compiled=True)
