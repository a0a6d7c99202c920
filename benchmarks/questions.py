"""Eight questions over four videos on a Video-LLaVA-7B shape: tokens a second, ours and plain.

    PYTHONPATH=tests python benchmarks/questions.py                          # on a CPU, 2 layers
    PYTHONPATH=tests python benchmarks/questions.py --device cuda --layers 32 --dtype bfloat16

- ours: the hf engine, given all questions at once; each video is read once;
- plain: transformers by hand, processor and generate a question;
- plain_batch: transformers by hand, one left-padded batch of all questions.

Weights are random; widths, heads, image sizes and tokens a frame are the real ones. All take
turns. Before anything is timed, the tokens of the three are compared.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from common import machine, median, timed, write_result
from kinema import prompt as prompts
from kinema.engines import EngineSettings
from kinema.messages import Conversation, Message, Request, SamplingParams, TextPart, VideoPart
from kinema.tasks.models import find_model
from kinema.types import Frames
from shapes import video_llava_shape
from support.driver import generate

QUESTIONS = ("Why is this funny?", "what do you see in this video?")
VIDEOS, FRAMES, SIDE = 4, 8, 224


def main() -> None:
    options = _parser().parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "model"
        video_llava_shape(folder, options.layers)
        result = measure(folder, options)
    name = "questions" if options.device == "cpu" else f"questions_{options.device}"
    write_result(name, {"machine": machine(), **vars(options), **result})


def measure(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Seconds and tokens a second of each way, and the ratios of medians."""
    tokens = options.new_tokens
    params = SamplingParams(max_new_tokens=tokens, min_new_tokens=tokens)
    model = find_model(str(folder), engine="hf")
    requests = ask(model, params)
    plain = Plain(folder, requests, options)
    with torch.inference_mode():
        engine = model.open(EngineSettings(device=options.device, dtype=options.dtype))
        ways = {
            "ours": lambda: in_order(generate(engine, requests)),
            "plain": plain.one_by_one,
            "plain_batch": plain.together,
        }
        same = agreeing(ways["ours"](), plain.one_by_one())
        seconds = {name: median(runs) for name, runs in timed(ways, runs=options.runs).items()}
        engine.close()
    return {
        "questions": len(requests),
        "videos": VIDEOS,
        "prompt_tokens": plain.longest,
        "answers_equal_to_plain": same,
        "seconds": {name: round(value, 3) for name, value in seconds.items()},
        "tokens_per_second": {
            name: round(tokens * len(requests) / value, 2) for name, value in seconds.items()
        },
        "ours_over_plain": round(seconds["plain"] / seconds["ours"], 2),
        "ours_over_plain_batch": round(seconds["plain_batch"] / seconds["ours"], 2),
    }


def ask(model: Any, params: SamplingParams) -> list[Request]:
    """Both questions about each video."""
    made = []
    for seed in range(VIDEOS):
        shown = VideoPart(clip(seed))
        for words in QUESTIONS:
            said = Conversation((Message("user", (shown, TextPart(words))),))
            made.append(
                prompts.prepare(
                    prompts.decode(said, model.family),
                    family=model.family,
                    checkpoint=model.checkpoint,
                    params=params,
                    request_id=f"{seed} {words}",
                )
            )
    return made


def clip(seed: int) -> Frames:
    noise = np.random.default_rng(seed)
    return Frames(
        pixels=noise.integers(0, 256, (FRAMES, SIDE, SIDE, 3), dtype=np.uint8),
        seconds=np.arange(FRAMES, dtype=np.float64),
        indices=np.arange(FRAMES, dtype=np.int64),
        source_fps=1.0,
    )


def in_order(completions: Any) -> list[list[int]]:
    """Token ids by request, sorted by its name."""
    done = {c.request_id: list(c.token_ids) for c in completions}
    return [done[name] for name in sorted(done)]


def agreeing(ours: list[list[int]], theirs: list[list[int]]) -> int:
    """How many answers are the same; random weights in 16 bits may round to other tokens."""
    return sum(a == b for a, b in zip(ours, theirs, strict=True))


class Plain:
    """transformers by hand on the same prompts and frames."""

    def __init__(self, folder: Path, requests: list[Request], options: argparse.Namespace) -> None:
        self._requests = sorted(requests, key=lambda request: request.id)
        self._device, self._tokens = options.device, options.new_tokens
        self._processor = AutoProcessor.from_pretrained(folder)
        self._processor.tokenizer.padding_side = "left"
        model = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=getattr(torch, options.dtype)
        )
        self._model = model.to(options.device).eval()
        self.longest = 0

    def one_by_one(self) -> list[list[int]]:
        return [self._generate([request])[0] for request in self._requests]

    def together(self) -> list[list[int]]:
        return self._generate(self._requests)

    def _generate(self, requests: list[Request]) -> list[list[int]]:
        inputs = self._processor(
            text=[request.prompt.text for request in requests],
            videos=[request.media[0].frames.pixels for request in requests],
            padding=True,
            return_tensors="pt",
        ).to(self._device, self._model.dtype)
        length = inputs["input_ids"].shape[1]
        self.longest = max(self.longest, length)
        output = self._model.generate(
            **inputs, do_sample=False, max_new_tokens=self._tokens, min_new_tokens=self._tokens
        )
        ids: list[list[int]] = output[:, length:].tolist()
        return ids


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", default="float32")
    parser.add_argument("--layers", type=int, default=2, help="Of 32.")
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--runs", type=int, default=3)
    return parser


if __name__ == "__main__":
    main()
