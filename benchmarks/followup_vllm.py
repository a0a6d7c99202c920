"""vLLM's time to the first token with prefix caching; followup.py starts it and asks.

scripts/vllm_env.sh run ENV benchmarks/followup_vllm.py FOLDER FRAMES SIDE

Reads a prompt a line (JSON strings) and prints the seconds of each.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path

import numpy as np
from vllm import LLM, SamplingParams

from kinema.engines.vllm.folder import readable_folder
from kinema.families import FAMILIES


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
    one = SamplingParams(temperature=0, max_tokens=1)
    for line in sys.stdin:
        request = {"prompt": json.loads(line), "multi_modal_data": {"video": [frames]}}
        began = time.perf_counter()
        llm.generate([request], one, use_tqdm=False)
        print(json.dumps({"vllm": time.perf_counter() - began}), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
