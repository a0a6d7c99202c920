"""Decoding steps that are compiled."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from transformers import CompileConfig

from kinema.engines import EngineSettings
from kinema.engines.hf import generation
from kinema.errors import ModelError
from kinema.messages import SamplingParams, VideoPart
from kinema.tasks.chat import Chat
from support.by_hand import clip

PARAMS = SamplingParams(max_new_tokens=4, min_new_tokens=4)


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
