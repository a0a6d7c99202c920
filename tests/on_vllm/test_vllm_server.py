"""The engine openai against vLLM's own server: what it says is what the weights say."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from dataclasses import replace

import httpx
import pytest

pytest.importorskip("vllm")

from kinema.engines import EngineSettings
from kinema.errors import MissingCapability
from kinema.messages import Conversation, ImagePart, Message, SamplingParams, TextPart, VideoPart
from kinema.prompt import decode, prepare
from kinema.tasks.chat import Chat
from kinema.tasks.models import find_model
from support.by_hand import NEW_TOKENS, clip, through_jpeg
from support.tiny_families import make_checkpoint

PARAMS = SamplingParams(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)
HF = EngineSettings(device="cpu", dtype="float32", keep_conversations=0)
# A server starts in half a minute here: one family always, all when that is asked for.
EVERY = ["qwen2.5-vl", "qwen3-vl", "llava-onevision", "internvl", "videollama3", "smolvlm"]
SERVED = ["qwen2-vl", *(EVERY if os.environ.get("KINEMA_EVERY_FAMILY") else [])]


@pytest.fixture(scope="module", params=SERVED)
def served(request, tmp_path_factory):
    """(family's name, folder, engine openai on a server that runs the folder)."""
    folder = make_checkpoint(request.param, tmp_path_factory.mktemp("served"), width=128)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = (folder / "server.log").open("w")
    with subprocess.Popen(_command(folder, port), stdout=log, stderr=log) as process:
        try:
            url = _wait(process, port, folder)
            model = find_model(str(folder), engine="openai")
            engine = model.open(EngineSettings(base_url=url))
            yield request.param, folder, engine, url
            engine.close()
        finally:
            process.terminate()
    log.close()


def _command(folder, port):
    options = {
        "--model": folder,
        "--port": port,
        "--dtype": "float32",
        "--max-model-len": 2048,
        "--skip-mm-profiling": "",
        "--enforce-eager": "",
    }
    words = [str(word) for pair in options.items() for word in pair if word != ""]
    return [sys.executable, "-m", "vllm.entrypoints.openai.api_server", *words]


def _wait(process, port, folder):
    deadline = time.monotonic() + 600
    while time.monotonic() < deadline and process.poll() is None:
        try:
            httpx.get(f"http://127.0.0.1:{port}/health").raise_for_status()
        except httpx.HTTPError:
            time.sleep(0.5)
        else:
            return f"http://127.0.0.1:{port}/v1"
    raise AssertionError((folder / "server.log").read_text()[-3000:])


CASES = {
    "video": (VideoPart(clip(1, 3)), TextPart("what do you see?")),
    "image": (ImagePart(clip(2, 1)), TextPart("what do you see?")),
    "mixed": (ImagePart(clip(2, 1)), VideoPart(clip(1, 3)), TextPart("why?")),
}


def _request(family, checkpoint, messages, name):
    return prepare(
        decode(Conversation(messages), family),
        family=family,
        checkpoint=checkpoint,
        params=PARAMS,
        request_id=name,
    )


def _asked(parts):
    """The turn itself, and behind an earlier one."""
    first = Message("user", parts)
    return (first,), (first, Message("assistant", (TextPart("a rabbit"),)), _WHY)


_WHY = Message("user", (TextPart("why?"),))


def _by_hf(folder):
    """The answers of the weights to what the server is asked, by case."""
    model = find_model(str(folder), engine="hf")
    engine = model.open(HF)
    family = replace(model.family, takes_video=False, system="")
    requests = []
    for name, parts in CASES.items():
        as_sent = tuple(
            part if isinstance(part, TextPart) else replace(part, source=through_jpeg(part.source))
            for part in parts
        )
        once, twice = _asked(as_sent)
        requests.append(_request(family, model.checkpoint, once, name))
        requests.append(_request(family, model.checkpoint, twice, f"{name}, then"))
    answers = {c.request_id: c for c in engine.generate(requests)}
    assert {n: c.error for n, c in answers.items() if c.error} == {}
    engine.close()
    return {name: _whole(c.text) for name, c in answers.items()}


def _whole(text):
    """Without the character that the last token left unfinished; vLLM holds it back."""
    return text.rstrip("\ufffd")


def test_answers_are_those_of_the_weights(served, shown):
    name, folder, engine, _ = served
    model = find_model(str(folder), engine="openai")
    requests = []
    for case, parts in CASES.items():
        once, twice = _asked(parts)
        requests.append(_request(model.family, model.checkpoint, once, case))
        requests.append(_request(model.family, model.checkpoint, twice, f"{case}, then"))
    ours = {c.request_id: c.error or _whole(c.text) for c in engine.generate(requests)}
    assert ours == _by_hf(folder)
    shown(name, "openai", "video", "as timed images")
    shown(name, "openai", "image")
    shown(name, "openai", "mixed", "as timed images")
    shown(name, "openai", "batched")
    shown(name, "openai", "follow-up")


def test_a_stream_gives_the_same_words(served, shown):
    name, folder, engine, _ = served
    model = find_model(str(folder), engine="openai")
    request = _request(model.family, model.checkpoint, _asked(CASES["video"])[0], "0")
    (whole,) = engine.generate([request])
    *_, last = engine.stream(request)
    assert last.completion.text == whole.text
    assert last.completion.usage == whole.usage
    shown(name, "openai", "streamed")


def test_weights_of_a_server_are_not_quantised_from_here(served, shown):
    name, folder, _, url = served
    settings = EngineSettings(base_url=url, quantization="bnb-4bit")
    with pytest.raises(MissingCapability, match="'openai' does not do --quantization"):
        Chat(str(folder), engine="openai", settings=settings).open()
    shown(name, "openai", "quantised", "refused")
