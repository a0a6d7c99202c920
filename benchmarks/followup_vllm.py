"""vLLM's time to the first token of question 2 with prefix caching; run by followup.py.

scripts/vllm_env.sh run ENV benchmarks/followup_vllm.py FOLDER FRAMES SIDE
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from statistics import median

import numpy as np
from vllm import LLM, SamplingParams

from kinema.engines.vllm.folder import readable_folder
from kinema.families import FAMILIES

RUNS = 5
QUESTIONS = ("Why is this funny?", "Is there a rabbit?")


def main(folder: str, num_frames: int, side: int) -> None:
    llm = LLM(
        str(readable_folder(Path(folder), FAMILIES["llava-onevision"])),
        dtype="float32",
        enforce_eager=True,
        max_model_len=4096,
        limit_mm_per_prompt={"video": 1},
        enable_prefix_caching=True,
        block_size=32,
        skip_mm_profiling=True,
        disable_log_stats=False,
    )
    noise = np.random.default_rng(0)
    frames = noise.integers(0, 256, (num_frames, side, side, 3), dtype=np.uint8)
    one = SamplingParams(temperature=0, max_tokens=1, min_tokens=1)
    first = "<|im_start|>user <video>\nwhat do you see in this video?<|im_end|>"
    first += "<|im_start|>assistant\n"
    seconds, cached = [], 0

    def ask(prompt: str) -> float:
        nonlocal cached
        began = time.perf_counter()
        request = {"prompt": prompt, "multi_modal_data": {"video": [frames]}}
        (output,) = llm.generate([request], one, use_tqdm=False)
        cached = output.num_cached_tokens
        return time.perf_counter() - began

    ask(first)
    for run in range(RUNS + 1):
        question = f"{QUESTIONS[run % 2]} {run}"
        tail = f" a rabbit<|im_end|><|im_start|>user {question}<|im_end|><|im_start|>assistant\n"
        taken = ask(first + tail)
        if run:
            seconds.append(taken)
    print(json.dumps({"seconds": round(median(seconds), 4), "cached_tokens": cached}))


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
