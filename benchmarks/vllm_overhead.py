"""Our vLLM engine against calling vLLM directly: the same requests, in turns, one process.

    scripts/vllm_env.sh run ENV benchmarks/vllm_overhead.py

Both start from decoded frames and a rendered prompt. Prefix and media caches are emptied before
every run, so that each does all of its work.
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
from support.tiny_families import make_checkpoint

REQUESTS = 48
NEW_TOKENS = 32
RUNS = 7


def main() -> None:
    with tempfile.TemporaryDirectory() as scratch:
        folder = make_checkpoint("qwen2-vl", Path(scratch) / "model", width=128)
        model = find_model(str(folder), engine="vllm")
        settings = EngineSettings(device="cpu", dtype="float32", max_context=1024)
        engine = model.open(settings)
        seconds = _measure(model, engine)
        engine.close()
    medians = {name: round(median(values), 4) for name, values in seconds.items()}
    overhead = median([ours / direct for ours, direct in zip(*seconds.values(), strict=True)]) - 1
    write_result(
        "vllm_overhead",
        {
            "machine": machine() | {"vllm": sys.modules["vllm"].__version__},
            "model": "qwen2-vl, random, width 128",
            "requests": REQUESTS,
            "new_tokens": NEW_TOKENS,
            "runs": RUNS,
            "seconds": medians,
            "overhead_percent": round(100 * overhead, 2),
        },
    )


def _measure(model: Any, engine: Any) -> dict[str, list[float]]:
    requests = [_request(model, i) for i in range(REQUESTS)]
    llm = engine._llm
    prompts = [engine._maker.make(request) for request in requests]
    params = VLLMSamplingParams(temperature=0, max_tokens=NEW_TOKENS, min_tokens=NEW_TOKENS)
    answers: dict[str, list[tuple[int, ...]]] = {}

    def ours() -> None:
        done = {c.request_id: c.token_ids for c in engine.generate(requests)}
        answers["ours"] = [done[r.id] for r in requests]

    def direct() -> None:
        done = llm.generate(prompts, params, use_tqdm=False)
        answers["direct"] = [tuple(output.outputs[0].token_ids) for output in done]

    seconds: dict[str, list[float]] = {"ours": [], "direct": []}
    for run in range(RUNS + 1):
        for name, work in (("ours", ours), ("direct", direct)):
            llm.reset_prefix_cache()
            llm.reset_mm_cache()
            began = time.perf_counter()
            work()
            if run:
                seconds[name].append(time.perf_counter() - began)
    assert answers["ours"] == answers["direct"], "the answers differ"
    return seconds


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
