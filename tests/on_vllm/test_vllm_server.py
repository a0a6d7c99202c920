"""The engine openai against vLLM's own server: what it says is what the weights say."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from contextlib import closing
from dataclasses import replace

import httpx
import pytest

pytest.importorskip("vllm")

from kinema.engines import EngineSettings
from kinema.errors import MissingCapability
from kinema.tasks.chat import Chat
from kinema.tasks.models import find_model
from support import served
from support.tiny_families import make_checkpoint

HF = EngineSettings(device="cpu", dtype="float32", keep_conversations=0)
# A server starts in half a minute here: one family always, all when that is asked for.
EVERY = ["qwen2.5-vl", "qwen3-vl", "llava-onevision", "internvl", "videollama3", "smolvlm"]
SERVED = ["qwen2-vl", *(EVERY if os.environ.get("KINEMA_EVERY_FAMILY") else [])]


@pytest.fixture(scope="module", params=SERVED)
def server(request, tmp_path_factory):
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


def _whole(answers):
    """Without the character that a last token left unfinished; vLLM holds it back."""
    return {name: text.rstrip("\ufffd") for name, text in answers.items()}


def _of_the_weights(folder):
    """What the engine hf says to what the server is asked."""
    model = find_model(str(folder), engine="hf")
    family = replace(model.family, takes_video=False, system="")
    with closing(model.open(HF)) as engine:
        requests = served.requests(family, model.checkpoint, served.as_sent)
        return _whole(served.answers(engine, requests))


def test_answers_are_those_of_the_weights(server, shown):
    name, folder, engine, _ = server
    model = find_model(str(folder), engine="openai")
    requests = served.requests(model.family, model.checkpoint)
    assert _whole(served.answers(engine, requests)) == _of_the_weights(folder)
    served.show_answers(shown, name)


def test_a_stream_gives_the_same_words(server, shown):
    name, folder, engine, _ = server
    model = find_model(str(folder), engine="openai")
    request = next(served.requests(model.family, model.checkpoint))
    served.assert_stream_says_the_same(engine, request)
    shown(name, "openai", "streamed")


def test_weights_of_a_server_are_not_quantised_from_here(server, shown):
    name, folder, _, url = server
    settings = EngineSettings(base_url=url, quantization="bnb-4bit")
    with pytest.raises(MissingCapability, match="'openai' does not do quantization"):
        Chat(str(folder), engine="openai", settings=settings).open()
    shown(name, "openai", "quantised", "refused")
