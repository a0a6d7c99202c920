"""Time to the first token of question 2 on the same video: ours, plain transformers, the floor.

    PYTHONPATH=tests python benchmarks/followup.py [--vllm ENV]

Tiny and real-shaped models with random weights; ENV is what scripts/vllm_env.sh made.

- plain: the whole history through processor and generate again, as transformers is used by hand;
- ours: a chat session that kept its keys and values, from the question to the first token;
- floor: the model alone reads the new words on a cache that holds the rest.

The real shapes are those of LLaVA-OneVision-0.5B and of Video-LLaVA-7B with fewer layers, so that
they fit a small machine: widths, heads, image sizes and tokens a frame are the real ones.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from common import machine, median, write_result
from kinema.engines import EngineSettings
from kinema.messages import SamplingParams, VideoPart
from kinema.tasks.chat import Chat
from kinema.types import Frames
from shapes import onevision_shape, video_llava_shape
from support.tiny_families import make_checkpoint

QUESTIONS = ("what do you see in this video?", "Why is this funny?", "Is there a rabbit?")
ONE = SamplingParams(max_new_tokens=1, min_new_tokens=1)
RUNS = 5


def clip(num_frames: int, side: int) -> Frames:
    noise = np.random.default_rng(0)
    return Frames(
        pixels=noise.integers(0, 256, (num_frames, side, side, 3), dtype=np.uint8),
        seconds=np.arange(num_frames, dtype=np.float64),
        indices=np.arange(num_frames, dtype=np.int64),
        source_fps=1.0,
    )


def measure(folder: Path, frames: Frames) -> dict[str, Any]:
    """Seconds to the first token of question 2, each way, in turns."""
    settings = EngineSettings(device="cpu", dtype="float32")
    plain = _Plain(folder)
    seconds: dict[str, list[float]] = {"plain": [], "ours": [], "floor": []}
    with Chat(str(folder), params=ONE, settings=settings) as session:
        first = session.ask(QUESTIONS[0], VideoPart(frames))
        begun = copy.copy(session.conversation)
        visual = first.completion.usage.visual_tokens
        for run in range(RUNS + 1):
            session.conversation = begun
            question = QUESTIONS[1 + run % 2]
            began = time.perf_counter()
            answer = session.ask(question)
            ours = time.perf_counter() - began
            theirs, tokens = plain.first_token(_history(session, question), frames)
            assert tokens == list(answer.completion.token_ids), "the answers differ"
            floor = plain.floor(_history(session, question), first.completion.usage.prompt_tokens)
            if run:
                for name, value in (("ours", ours), ("plain", theirs), ("floor", floor)):
                    seconds[name].append(value)
    return {"visual_tokens": visual, **_ratios(seconds)}


def _history(session: Chat, question: str) -> str:
    """The prompt that the last answer was given to, rendered."""
    asked = session.conversation.messages[:-1]
    return session._prepare(type(session.conversation)(asked)).prompt.text


def _ratios(seconds: dict[str, list[float]]) -> dict[str, Any]:
    medians = {name: median(values) for name, values in seconds.items()}
    return {
        "seconds": {name: round(value, 4) for name, value in medians.items()},
        "plain_over_ours": round(medians["plain"] / medians["ours"], 1),
        "ours_over_floor": round(medians["ours"] / medians["floor"], 2),
    }


class _Plain:
    """transformers by hand: processor and generate for every question."""

    def __init__(self, folder: Path) -> None:
        self.processor = AutoProcessor.from_pretrained(folder)
        self.model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval()
        self._read: tuple[torch.Tensor, Any] | None = None

    def first_token(self, text: str, frames: Frames) -> tuple[float, list[int]]:
        began = time.perf_counter()
        inputs = self.processor(text=[text], videos=[frames.pixels], return_tensors="pt")
        output = self.model.generate(
            **inputs,
            do_sample=False,
            max_new_tokens=1,
            min_new_tokens=1,
            return_dict_in_generate=True,
        )
        seconds = time.perf_counter() - began
        self._read = inputs["input_ids"], output.past_key_values
        return seconds, output.sequences[0, inputs["input_ids"].shape[1] :].tolist()

    @torch.inference_mode()
    def floor(self, text: str, read: int) -> float:
        """The new words alone, on a cache cut to what question 1 had left."""
        ids, cache = self._read
        cache.crop(read - cache.get_seq_length())
        began = time.perf_counter()
        self.model(input_ids=ids[:, read:], past_key_values=cache, logits_to_keep=1)
        return time.perf_counter() - began


def vllm_first_token(env: str, folder: Path, num_frames: int, side: int) -> dict[str, Any]:
    """vLLM's own time to the first token of question 2, measured in its environment."""
    script = Path(__file__).with_name("followup_vllm.py")
    runner = Path(__file__).parents[1] / "scripts" / "vllm_env.sh"
    words = [runner, "run", env, script, folder, str(num_frames), str(side)]
    done = subprocess.run([*map(str, words)], capture_output=True, text=True, check=True)
    return dict(json.loads(done.stdout.splitlines()[-1]))


SHAPES = {
    "tiny llava-onevision": (8, 56, lambda f: make_checkpoint("llava-onevision", f, width=128)),
    "LLaVA-OneVision-0.5B shape, 4 of 24 layers": (8, 384, lambda f: onevision_shape(f, 4)),
    "Video-LLaVA-7B shape, 2 of 32 layers": (8, 224, lambda f: video_llava_shape(f, 2)),
}
"""Frames, side in pixels and maker of each model."""


def main() -> None:
    env = sys.argv[sys.argv.index("--vllm") + 1] if "--vllm" in sys.argv else None
    results: dict[str, Any] = {}
    for name, (num_frames, side, make) in SHAPES.items():
        with tempfile.TemporaryDirectory() as scratch:
            folder = make(Path(scratch) / "model")
            results[name] = measure(folder, clip(num_frames, side))
            if env and "onevision" in name.lower():
                theirs = vllm_first_token(env, folder, num_frames, side)
                ratio = theirs["seconds"] / results[name]["seconds"]["ours"]
                results[name] |= {"vllm": theirs, "vllm_over_ours": round(ratio, 2)}
        print(name, results[name], file=sys.stderr, flush=True)
    write_result("followup", {"machine": machine(), "runs": RUNS, "results": results})


if __name__ == "__main__":
    main()
