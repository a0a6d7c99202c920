"""Time to the first token of question 2 on the same video: ours, plain transformers, the floor.

    OMP_NUM_THREADS=1 PYTHONPATH=tests python benchmarks/followup.py [--vllm ENV] [--only NAME]

Real shapes with random weights; ENV is what scripts/vllm_env.sh made. --only measures the models
whose names begin so and keeps the results of the others.

- plain: the whole history through processor and generate again, as transformers is used by hand;
- ours: a chat session that kept its KV cache, from the question to the first token;
- floor: the model alone reads the new words on a cache that holds the rest;
- vllm: vLLM with prefix caching, given the same prompts, in a process of its own.

All take turns, question by question. The real shapes are those of LLaVA-OneVision-0.5B and of
Video-LLaVA-7B with fewer layers, so that they fit a small machine: widths, heads, image sizes and
tokens a frame are the real ones.
"""

from __future__ import annotations

import copy
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from common import machine, median, write_result
from kinema import prompt as prompts
from kinema.engines import EngineSettings
from kinema.messages import Conversation, SamplingParams, VideoPart
from kinema.tasks.chat import Chat
from kinema.tasks.models import Model
from kinema.types import Frames
from shapes import onevision_shape, video_llava_shape

QUESTION = "what do you see in this video?"
FOLLOW_UPS = ("Why is this funny?", "Is there a rabbit?")
ONE = SamplingParams(max_new_tokens=1)
RUNS = 5
RESULT = Path(__file__).parent / "results" / "followup.json"


@dataclass(frozen=True)
class Shape:
    """One model and the clip it is asked about."""

    num_frames: int
    side: int
    make: Callable[[Path], Path]
    """Writes the checkpoint and returns its folder."""
    on_vllm: bool = False


SHAPES = {
    "LLaVA-OneVision-0.5B shape, 4 of 24 layers": Shape(
        8, 384, lambda folder: onevision_shape(folder, 4), on_vllm=True
    ),
    "Video-LLaVA-7B shape, 2 of 32 layers": Shape(
        8, 224, lambda folder: video_llava_shape(folder, 2)
    ),
}


def main() -> None:
    env = _option("--vllm")
    only = _option("--only")
    results = dict(json.loads(RESULT.read_text())["results"]) if only else {}
    for name, shape in SHAPES.items():
        if only is None or name.startswith(only):
            with tempfile.TemporaryDirectory() as scratch:
                results[name] = measure(shape, str(shape.make(Path(scratch) / "model")), env)
            print(name, results[name], file=sys.stderr, flush=True)
    write_result("followup", {"machine": machine(), "runs": RUNS, "results": results})


def _option(name: str) -> str | None:
    return sys.argv[sys.argv.index(name) + 1] if name in sys.argv else None


def clip(num_frames: int, side: int) -> Frames:
    noise = np.random.default_rng(0)
    return Frames(
        pixels=noise.integers(0, 256, (num_frames, side, side, 3), dtype=np.uint8),
        seconds=np.arange(num_frames, dtype=np.float64),
        indices=np.arange(num_frames, dtype=np.int64),
        source_fps=1.0,
    )


def measure(shape: Shape, name: str, env: str | None) -> dict[str, Any]:
    """Seconds to the first token of question 2, each way, in turns."""
    frames = clip(shape.num_frames, shape.side)
    settings = EngineSettings(device="cpu", dtype="float32")
    rows: list[dict[str, float]] = []
    with (
        Chat(name, params=ONE, settings=settings) as session,
        _vllm(env if shape.on_vllm else None, name, shape) as ask_vllm,
    ):
        plain = _Plain(session.model)
        first = session.ask(QUESTION, VideoPart(frames))
        ask_vllm(_last_prompt(session))
        begun = copy.copy(session.conversation)
        for run in range(RUNS + 1):  # the first round warms caches
            session.conversation = begun
            began = time.perf_counter()
            answer = session.ask(f"{run}: {FOLLOW_UPS[run % 2]}")
            seconds = {"ours": time.perf_counter() - began}
            prompt = _last_prompt(session)
            seconds |= ask_vllm(prompt)
            seconds["plain"], tokens = plain.first_token(prompt, frames)
            assert tokens == list(answer.completion.token_ids), "the answers differ"
            seconds["floor"] = plain.floor(first.completion.usage.prompt_tokens)
            rows.append(seconds)
    facts = {
        "visual_tokens": first.completion.usage.visual_tokens,
        "threads": torch.get_num_threads(),
    }
    return facts | _ratios(rows[1:])


def _last_prompt(session: Chat) -> str:
    """The prompt that the last answer was given to, rendered."""
    asked = session.conversation.messages[:-1]
    model = session.model
    request = prompts.prepare(
        Conversation(asked), family=model.family, checkpoint=model.checkpoint, params=ONE
    )
    return request.prompt.text


def _ratios(rows: list[dict[str, float]]) -> dict[str, Any]:
    medians = {name: median([row[name] for row in rows]) for name in rows[0]}
    ours = medians["ours"]
    ratios = {
        "plain_over_ours": round(medians["plain"] / ours, 1),
        "ours_over_floor": round(ours / medians["floor"], 2),
    }
    if "vllm" in medians:
        ratios["vllm_over_ours"] = round(medians["vllm"] / ours, 2)
    return {"seconds": {name: round(value, 4) for name, value in medians.items()}, **ratios}


class _Plain:
    """transformers by hand: processor and generate for every question."""

    def __init__(self, model: Model) -> None:
        folder = model.checkpoint.folder
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
            return_dict_in_generate=True,
        )
        seconds = time.perf_counter() - began
        self._read = inputs["input_ids"], output.past_key_values
        return seconds, output.sequences[0, inputs["input_ids"].shape[1] :].tolist()

    @torch.inference_mode()
    def floor(self, read: int) -> float:
        """The new words alone, on a cache cut to what question 1 had left."""
        ids, cache = self._read
        cache.crop(read - cache.get_seq_length())
        began = time.perf_counter()
        self.model(input_ids=ids[:, read:], past_key_values=cache, logits_to_keep=1)
        return time.perf_counter() - began


@contextmanager
def _vllm(
    env: str | None, folder: str, shape: Shape
) -> Iterator[Callable[[str], dict[str, float]]]:
    """A function that gives vLLM's seconds for a prompt; nothing when there is no vLLM."""
    if env is None:
        yield lambda prompt: {}
        return
    script = Path(__file__).with_name("followup_vllm.py")
    runner = Path(__file__).parents[1] / "scripts" / "vllm_env.sh"
    words = [runner, "run", env, script, folder, shape.num_frames, shape.side]
    pipes: Any = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with subprocess.Popen(list(map(str, words)), **pipes) as process:

        def ask(prompt: str) -> dict[str, float]:
            process.stdin.write(json.dumps(prompt) + "\n")
            process.stdin.flush()
            lines = iter(process.stdout.readline, "")
            return next(dict(json.loads(line)) for line in lines if line.startswith('{"vllm"'))

        yield ask
        process.stdin.close()


if __name__ == "__main__":
    main()
