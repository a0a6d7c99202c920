"""The transformers engine: any image-text-to-text checkpoint, on this machine."""

from __future__ import annotations

import importlib
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from transformers import AutoModelForImageTextToText, AutoProcessor, GenerationConfig
from transformers.utils import logging as transformers_logging

from kinema.engines.base import EngineSettings
from kinema.engines.device import pick_device
from kinema.engines.literals import LiteralTokens
from kinema.engines.streaming import stream_generation
from kinema.errors import ModelError, OutOfMemory
from kinema.families import Family
from kinema.messages import (
    Completion,
    Delta,
    Media,
    Request,
    SamplingParams,
    TokenLogprob,
    Usage,
)

Inputs = dict[str, Any]


class HFEngine:
    """Runs a checkpoint folder through ``AutoProcessor`` and ``generate``.

    Args:
        folder: a checkpoint in Hugging Face layout, with safetensors weights.
        family: the facts about it.
        settings: device and number format.

    Raises:
        ModelError: transformers cannot load the folder.
    """

    name = "hf"

    def __init__(self, folder: Path, *, family: Family, settings: EngineSettings) -> None:
        self._family = family
        self._device = pick_device(settings.device)
        if family.classes:
            importlib.import_module(family.classes)
        with _quiet_transformers():
            self._processor, self._model = _load(folder, settings, self._device)
        self._tokenizer = self._processor.tokenizer
        self._tokenizer.padding_side = "left"
        self._literals = LiteralTokens(self._tokenizer)
        self._last_inputs: tuple[Request, Inputs] | None = None
        self.context_length: int | None = _context_length(self._model.config)

    def count_tokens(self, request: Request) -> int:
        """Length of the processor's own output for this request."""
        return int(self._inputs(request)["input_ids"].shape[1])

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """One completion per request."""
        for request in requests:
            began = time.perf_counter()
            inputs = self._inputs(request)
            with _translated(), _seeded(request.params.seed):
                output = self._model.generate(**inputs, **self._options(request.params))
            yield self._completion(request, inputs, output, began)

    def stream(self, request: Request) -> Iterator[Delta]:
        """Text as it is generated; the last delta carries the completion."""
        began = time.perf_counter()
        inputs = self._inputs(request)

        def run(**more: Any) -> Any:
            with _translated(), _seeded(request.params.seed):
                return self._model.generate(**inputs, **self._options(request.params), **more)

        pieces = stream_generation(run, self._tokenizer, stop=request.params.stop)
        first: float | None = None
        for text in pieces:
            first = first or time.perf_counter() - began
            yield Delta(request.id, text)
        completion = self._completion(request, inputs, pieces.output, began, first)
        yield Delta(request.id, "", completion)

    def close(self) -> None:
        """Drop the weights."""
        self._last_inputs = None
        self._model = None
        if self._device.type == "cuda":
            torch.cuda.empty_cache()

    def _inputs(self, request: Request) -> Inputs:
        """The processor's tensors; kept for the last request, which is counted and then run."""
        if self._last_inputs is None or self._last_inputs[0] is not request:
            self._last_inputs = (request, self._process(request))
        return self._last_inputs[1]

    def _process(self, request: Request) -> Inputs:
        text = self._literals.reserve(request.prompt)
        images = [m.frames.pixels[0] for m in request.media if m.kind == "image"]
        videos = [m for m in request.media if m.kind == "video"]
        arguments: dict[str, Any] = {"text": [text], "return_tensors": "pt", "padding": True}
        if images:
            arguments["images"] = [images]
        if videos:
            arguments["videos"] = [m.frames.pixels for m in videos]
            arguments["video_metadata"] = [_metadata(m) for m in videos]
            arguments["do_sample_frames"] = False
        with _translated():
            batch = self._processor(**arguments)
        filled = self._literals.fill(dict(batch), request.prompt.literals)
        return {k: self._placed(v) for k, v in filled.items()}

    def _placed(self, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        dtype = self._model.dtype if value.is_floating_point() else None
        return value.to(self._device, dtype)

    def _options(self, params: SamplingParams) -> dict[str, Any]:
        options: dict[str, Any] = {
            "generation_config": _generation_config(self._model.generation_config, params),
        }
        if params.stop:
            options |= {"stop_strings": list(params.stop), "tokenizer": self._tokenizer}
        return options

    def _completion(
        self,
        request: Request,
        inputs: Inputs,
        output: Any,
        began: float,
        first: float | None = None,
    ) -> Completion:
        prompt_length = inputs["input_ids"].shape[1]
        ids = output.sequences[0, prompt_length:].tolist()
        text = self._tokenizer.decode(ids, skip_special_tokens=True)
        cut, stopped = _cut_at_stop(text, request.params.stop)
        ended = stopped or (bool(ids) and ids[-1] in self._end_ids())
        return Completion(
            request_id=request.id,
            text=cut.strip(),
            finish_reason="stop" if ended else "length",
            usage=Usage(prompt_length, len(ids), self._visual_tokens(inputs)),
            token_ids=tuple(ids),
            logprobs=self._logprobs(ids, output, request.params.logprobs),
            seconds=time.perf_counter() - began,
            first_token_seconds=first,
        )

    def _end_ids(self) -> list[int]:
        end = self._model.generation_config.eos_token_id
        return end if isinstance(end, list) else [end]

    def _visual_tokens(self, inputs: Inputs) -> int:
        """Placeholder positions of the expanded prompt."""
        config = self._model.config
        names = ("image_token_id", "video_token_id", "image_token_index", "video_token_index")
        visual = {getattr(config, name, None) for name in names} - {None}
        return sum(int((inputs["input_ids"] == token).sum()) for token in visual)

    def _logprobs(
        self, ids: list[int], output: Any, alternatives: int | None
    ) -> tuple[TokenLogprob, ...] | None:
        if alternatives is None:
            return None
        rows = [logits[0].float().log_softmax(-1) for logits in output.logits]
        return tuple(
            TokenLogprob(
                self._tokenizer.decode([token]),
                float(row[token]),
                tuple(self._top(row, alternatives)),
            )
            for token, row in zip(ids, rows, strict=True)
        )

    def _top(self, row: torch.Tensor, count: int) -> Iterator[tuple[str, float]]:
        values, tokens = row.topk(count)
        for value, token in zip(values.tolist(), tokens.tolist(), strict=True):
            yield self._tokenizer.decode([token]), value


def _load(folder: Path, settings: EngineSettings, device: torch.device) -> tuple[Any, Any]:
    try:
        processor = AutoProcessor.from_pretrained(folder, trust_remote_code=False)
        model = AutoModelForImageTextToText.from_pretrained(
            folder, dtype=settings.dtype, use_safetensors=True, trust_remote_code=False
        )
    except (OSError, ValueError, ImportError, KeyError) as problem:
        raise ModelError(
            f"transformers cannot load {folder.name}: {_first_line(problem)}",
            hint="Check that the download is complete and holds safetensors weights.",
        ) from problem
    return processor, model.to(device).eval()


def _first_line(problem: BaseException) -> str:
    return next(iter(str(problem).strip().splitlines()), type(problem).__name__)


def _context_length(config: Any) -> int | None:
    length = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(length) if length else None


def _metadata(media: Media) -> dict[str, Any]:
    """What processors want to know about the clock of a clip."""
    frames = media.frames
    rate = frames.source_fps or _rate(frames.seconds)
    total = frames.total_frames or int(frames.indices[-1]) + 1
    return {
        "total_num_frames": total,
        "fps": rate,
        "duration": frames.duration_seconds or total / rate,
        "frames_indices": frames.indices.tolist(),
        "height": frames.pixels.shape[1],
        "width": frames.pixels.shape[2],
    }


def _rate(seconds: Any) -> float:
    span = float(seconds[-1] - seconds[0])
    return (len(seconds) - 1) / span if span > 0 else 1.0


def _generation_config(own: GenerationConfig, params: SamplingParams) -> GenerationConfig:
    """The checkpoint's stop tokens with the caller's sampling, and nothing inherited in silence."""
    random = params.temperature > 0
    return GenerationConfig(
        bos_token_id=own.bos_token_id,
        eos_token_id=own.eos_token_id,
        pad_token_id=own.pad_token_id if own.pad_token_id is not None else _first(own.eos_token_id),
        max_new_tokens=params.max_new_tokens,
        min_new_tokens=params.min_new_tokens,
        repetition_penalty=params.repetition_penalty,
        do_sample=random,
        **(
            {"temperature": params.temperature, "top_p": params.top_p, "top_k": params.top_k}
            if random
            else {}
        ),
        return_dict_in_generate=True,
        output_logits=params.logprobs is not None,
    )


def _first(token: int | list[int] | None) -> int | None:
    return token[0] if isinstance(token, list) else token


def _cut_at_stop(text: str, stop: tuple[str, ...]) -> tuple[str, bool]:
    found = [at for at in (text.find(s) for s in stop) if at >= 0]
    return (text[: min(found)], True) if found else (text, False)


@dataclass
class _seeded:
    """Makes sampling repeatable without touching the caller's random state."""

    seed: int | None

    def __enter__(self) -> None:
        self._fork = torch.random.fork_rng(enabled=self.seed is not None)
        self._fork.__enter__()
        if self.seed is not None:
            torch.manual_seed(self.seed)

    def __exit__(self, *raised: Any) -> None:
        self._fork.__exit__(*raised)


class _translated:
    """Turns torch's and transformers' errors into ours."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, problem: Any, trace: Any) -> None:
        if isinstance(problem, torch.OutOfMemoryError):
            raise OutOfMemory(
                "The device ran out of memory.",
                hint="Use fewer frames, a smaller model, or --device cpu.",
            ) from problem
        if isinstance(problem, ValueError | TypeError | RuntimeError | IndexError):
            raise ModelError(
                f"The model refused the request: {_first_line(problem)}",
                hint="`kinema models` says what the family takes.",
            ) from problem


class _quiet_transformers:
    """Loading notes and bars of transformers stay off the user's terminal."""

    def __enter__(self) -> None:
        self._level = transformers_logging.get_verbosity()
        transformers_logging.set_verbosity_error()
        transformers_logging.disable_progress_bar()

    def __exit__(self, *raised: Any) -> None:
        transformers_logging.set_verbosity(self._level)
        transformers_logging.enable_progress_bar()
