"""Decoding steps that are compiled."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from transformers import CompileConfig

from kinema.engines import EngineSettings
from kinema.engines.hf import generation
from kinema.errors import ModelError
from kinema.messages import Conversation, Message, SamplingParams, TextPart, VideoPart
from kinema.prompt import decode, prepare
from kinema.tasks.models import find_model
from support.by_hand import clip
from support.driver import answer

PARAMS = SamplingParams(max_new_tokens=4, min_new_tokens=4)


def _answers(folder, *, compiled, questions=("why?", "who?")):
    """Token ids of the answers, in this thread: the compiler's settings belong to a thread."""
    model = find_model(str(folder))
    engine = model.open(EngineSettings(device="cpu", dtype="float32", compile=compiled))
    said, tokens = Conversation(), []
    for question in questions:
        media = () if tokens else (VideoPart(clip(1)),)
        said += Message("user", (*media, TextPart(question)))
        request = prepare(
            decode(said, model.family),
            family=model.family,
            checkpoint=model.checkpoint,
            params=PARAMS,
        )
        done = answer(engine, request)
        said += Message("assistant", (TextPart(done.text),))
        tokens.append(done.token_ids)
    engine.close()
    return tokens


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_captured_step_on_a_static_cache_gives_the_same_tokens(video_llava_folder, monkeypatch):
    # The graph runs as it was captured: two turns without the compiler's half a minute each.
    eager = partial(CompileConfig, backend="eager")
    monkeypatch.setattr(generation, "CompileConfig", eager)
    compiled = _answers(video_llava_folder, compiled=True)
    torch.compiler.reset()
    assert compiled == _answers(video_llava_folder, compiled=False)


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
    compiled = _answers(video_llava_folder, compiled=True, questions=["why?"])
    assert compiled == _answers(video_llava_folder, compiled=False, questions=["why?"])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_compiler_that_is_missing_is_named(video_llava_folder, inductor):
    with (
        inductor.patch({"cpp.cxx": (None, "no-such-compiler")}),
        pytest.raises(ModelError, match=r"compile did not work here: .*C\+\+ compiler") as caught,
    ):
        _answers(video_llava_folder, compiled=True)
    assert "apt install g++" in caught.value.hint
