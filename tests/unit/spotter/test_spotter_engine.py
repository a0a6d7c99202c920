"""The spotter as an engine: what it reports, streams, remembers, refuses, and costs."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

from kinema.engines import spotter
from kinema.engines.spotter import SpotterEngine
from kinema.errors import MissingCapability, MissingPackage, RequestRefused
from kinema.messages import ImagePart, SamplingParams, VideoPart
from kinema.models.spotter import network, threads
from kinema.tasks.chat import Answer, Chat
from support.clips import EXAMPLE
from support.spotting import frames_of

WHAT = "What happens in this video?"


@pytest.fixture(scope="module")
def film():
    return VideoPart(frames_of("four_things"))


def test_a_conversation_sees_the_same_frames_and_looks_at_each_once(monkeypatch, film):
    looked = []
    see = spotter.look
    monkeypatch.setattr(spotter, "look", lambda *a: looked.append(1) or see(*a))
    with Chat("spotter") as chat:
        first = chat.ask("Is there a daisy?", film)
        again = chat.ask("When do you see it?")
    assert len(looked) == 16
    assert str(again) == "I recognised a daisy from 1.7 to 2.8 s."
    record = first.to_dict()
    assert (record["model"], record["family"], record["engine"]) == ("spotter",) * 3
    assert record["frames"][0]["num_frames"] == 16
    assert record["usage"] == {"prompt_tokens": 23, "completion_tokens": 10, "visual_tokens": 16}


def test_streamed_pieces_are_the_answer(film):
    with Chat("spotter") as chat:
        *pieces, answer = chat.stream(WHAT, film)
    assert isinstance(answer, Answer)
    assert "".join(pieces) == answer.text
    assert len(pieces) > 10


def test_lengths_and_stop_strings_are_kept(film):
    with Chat("spotter", params=SamplingParams(max_new_tokens=4)) as chat:
        answer = chat.ask(WHAT, film)
    assert (answer.text, answer.completion.finish_reason) == ("I recognised an umbrella", "length")
    with Chat("spotter", params=SamplingParams(stop=(", then",))) as chat:
        answer = chat.ask(WHAT, film)
    assert answer.text == "I recognised an umbrella from 0.2 to 1.3 s"
    assert answer.completion.finish_reason == "stop"


def test_pictures_and_videos_stand_in_one_question(film):
    picture = ImagePart(film.source[:1])
    with Chat("spotter") as chat:
        said = str(chat.ask("Is there an umbrella?", film, picture))
    assert said.startswith(
        "Video 1: Yes: I recognised an umbrella from 0.2 to 1.3 s. Picture 1: Yes"
    )


@pytest.mark.parametrize(
    ("params", "error"),
    [
        (SamplingParams(json_schema="{}"), RequestRefused),
        (SamplingParams(logprobs=1), MissingCapability),
    ],
)
def test_what_it_does_not_do_is_refused(film, params, error):
    with Chat("spotter", params=params) as chat, pytest.raises(error):
        chat.ask(WHAT, film)


def test_black_white_and_noise_show_nothing():
    noise = np.random.default_rng(0).integers(0, 256, (180, 240, 3), dtype=np.uint8)
    frames = frames_of("four_things")[:2]
    for picture in (noise, np.zeros_like(noise), np.full_like(noise, 255)):
        still = type(frames)(np.repeat(picture[None], 2, axis=0), frames.seconds, frames.indices)
        with Chat("spotter") as chat:
            assert "nothing" in str(chat.ask(WHAT, VideoPart(still)))


def test_matrix_products_get_their_threads_back():
    if (found := threads._get_and_set()) is None:
        pytest.skip("NumPy was built with another library than OpenBLAS")
    get, _ = found
    before = get()
    with threads.one_thread():
        assert get() == 1
    assert get() == before


def test_missing_weights_are_named(monkeypatch):
    monkeypatch.setattr(network, "_PACKAGE", "efficientnet_lite0_that_is_not_here")
    with pytest.raises(MissingPackage, match="efficientnet-lite0-that-is-not-here"):
        SpotterEngine()


def test_the_whole_command_costs_five_seconds_at_most_and_imports_neither_torch_nor_transformers():
    code = (
        "import json, resource, sys\n"
        "from kinema.__main__ import main\n"
        "status = main(['chat', sys.argv[1], sys.argv[2], '--model', 'spotter', '--json'])\n"
        "used = resource.getrusage(resource.RUSAGE_SELF)\n"
        "heavy = {'torch', 'transformers', 'timm', 'torchvision'} & set(sys.modules)\n"
        "print(json.dumps([status, used.ru_utime + used.ru_stime, sorted(heavy)]))"
    )
    words = [sys.executable, "-c", code, str(EXAMPLE), "What happens?"]
    # As a user has it: nothing tells the matrix products how many threads to take.
    free = {k: v for k, v in os.environ.items() if not k.endswith("_NUM_THREADS")}
    done = subprocess.run(words, capture_output=True, text=True, check=True, env=free)
    record, facts = map(json.loads, done.stdout.splitlines())
    status, seconds, heavy = facts
    assert "umbrella" in record["answer"]
    assert (status, heavy) == (0, [])
    assert seconds <= 5
