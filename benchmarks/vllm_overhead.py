"""Our vLLM engine against calling vLLM directly: the same requests, in turns, one process.

    scripts/vllm_env.sh run ENV benchmarks/vllm_overhead.py

Both start from decoded frames and a rendered prompt. Prefix and media caches are emptied before
every run, so that each does all of its work. CPU seconds stand beside wall seconds, because other
programs of a machine disturb them less; vLLM runs in this process.
"""

from __future__ import annotations

import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from vllm import SamplingParams as VLLMSamplingParams

from common import machine, median, write_result
from kinema.engines import EngineSettings
from kinema.messages import Conversation, Message, SamplingParams, TextPart, VideoPart
from kinema.prompt import decode, prepare
from kinema.tasks.models import find_model
from support.by_hand import clip
from support.driver import generate
from support.tiny_families import make_checkpoint

REQUESTS = 48
NEW_TOKENS = 32
RUNS = 21


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_checkpoint("qwen2-vl", Path(scratch) / "model", width=128)
        model = find_model(str(folder), engine="vllm")
        settings = EngineSettings(device="cpu", dtype="float32", max_context=1024)
        engine = model.open(settings)
        clocks = _measure(model, engine)
        engine.close()
    write_result(
        "vllm_overhead",
        {
            "machine": machine() | {"vllm": sys.modules["vllm"].__version__},
            "model": "qwen2-vl, random, width 128",
            "requests": REQUESTS,
            "new_tokens": NEW_TOKENS,
            "runs": RUNS,
            **{clock: _compared(seconds) for clock, seconds in clocks.items()},
        },
    )


def _compared(seconds: dict[str, list[float]]) -> dict[str, float]:
    medians = {name: round(median(values), 4) for name, values in seconds.items()}
    percent = 100 * (medians["ours"] / medians["direct"] - 1)
    return medians | {"overhead_percent": round(percent, 2)}


def _measure(model: Any, engine: Any) -> dict[str, dict[str, list[float]]]:
    requests = [_request(model, i) for i in range(REQUESTS)]
    llm = engine._llm
    prompts = [engine._maker.make(request) for request in requests]
    params = VLLMSamplingParams(temperature=0, max_tokens=NEW_TOKENS, min_tokens=NEW_TOKENS)
    answers: dict[str, list[tuple[int, ...]]] = {}

    def ours() -> None:
        done = {c.request_id: c.token_ids for c in generate(engine, requests)}
        answers["ours"] = [done[r.id] for r in requests]

    def direct() -> None:
        done = llm.generate(prompts, params, use_tqdm=False)
        answers["direct"] = [tuple(output.outputs[0].token_ids) for output in done]

    wall: dict[str, list[float]] = {"ours": [], "direct": []}
    cpu: dict[str, list[float]] = {"ours": [], "direct": []}
    for run in range(RUNS + 1):
        for name, work in (("ours", ours), ("direct", direct)):
            engine.release()
            began, worked = time.perf_counter(), time.process_time()
            work()
            if run:
                wall[name].append(time.perf_counter() - began)
                cpu[name].append(time.process_time() - worked)
    assert answers["ours"] == answers["direct"], "the answers differ"
    return {"wall_seconds": wall, "cpu_seconds": cpu}


def _request(model: Any, number: int) -> Any:
    said = Message("user", (VideoPart(clip(number)), TextPart("what do you see?")))
    return prepare(
        decode(Conversation((said,)), model.family),
        family=model.family,
        checkpoint=model.checkpoint,
        params=SamplingParams(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS),
        request_id=str(number),
    )


if __name__ == "__main__":
    main()
