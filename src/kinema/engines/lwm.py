"""The JAX engine of the Large World Model: one CPU, one GPU or a mesh of devices."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from kinema.engines.base import Device, DType, EngineSettings
from kinema.errors import MissingCapability, ModelError, OutOfMemory
from kinema.families import Family
from kinema.messages import Completion, Delta, Request, SamplingParams, Usage
from kinema.models.lwm.chat import LWM, Style, load_lwm
from kinema.models.lwm.checkpoint import Files, find_files
from kinema.models.lwm.config import LWMConfig
from kinema.models.lwm.prompt import LaidOut

BATCH_ROWS = 8
"""Requests that share a batch."""
TOKENS_PER_PIECE = 8
"""Tokens of one streamed piece, and between two looks for a stop string."""


class LWMEngine:
    """Answers with a released checkpoint (params, vqgan, tokenizer.model) or a converted one.

    Args:
        source: the checkpoint's folder, or its single files.
        family: not needed; the files say everything.
        settings: number format, device, mesh, prompt layout and frame ends.
        config: sizes, where the files do not tell them.

    Raises:
        ModelNotFound: a file is missing.
        ModelError: a file is damaged, or they do not belong together.
        UsageError: the mesh does not fit.
    """

    name = "lwm"

    def __init__(
        self,
        source: Path | Files,
        *,
        family: Family | None = None,
        settings: EngineSettings | None = None,
        config: LWMConfig | None = None,
    ) -> None:
        settings = settings or EngineSettings()
        files = source if isinstance(source, Files) else find_files(source)
        with _translated():
            self._model: LWM = load_lwm(
                files,
                config=config,
                mesh=settings.mesh,
                devices=_devices(settings.device),
                dtype=_dtype(settings.dtype),
                style=Style(layout=settings.layout, frame_ends=settings.frame_ends),
            )
        self.context_length: int | None = self._model.decoder.config.max_sequence_length

    @property
    def model(self) -> LWM:
        """The loaded model."""
        return self._model

    def count_tokens(self, request: Request) -> int:
        """Words of the prompt and, for each frame, its codes and the id that closes it."""
        return self._model.num_tokens(request.prompt, [len(m.frames) for m in request.media])

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """One completion per request; up to eight requests share a batch."""
        waiting = iter(requests)
        while batch := list(islice(waiting, BATCH_ROWS)):
            yield from self._batch(batch)

    def stream(self, request: Request) -> Iterator[Delta]:
        """Text a few tokens at a time; the last delta carries the completion."""
        began, first, sent = time.perf_counter(), None, ""
        (laid,) = self._lay_out([request])
        ids: list[int] = []
        with _translated():
            for (ids,) in self._model.answer([laid], [request.params], every=TOKENS_PER_PIECE):
                text, stopped = self._text(ids, request.params)
                # A stop string may have begun, and a character may be half written.
                ready = text if stopped else text[: _settled(text, request.params.stop)]
                if ready.startswith(sent) and len(ready) > len(sent):
                    first = first or time.perf_counter() - began
                    yield Delta(request.id, ready[len(sent) :])
                    sent = ready
                if stopped:
                    break
        completion = self._completion(request, laid, ids, began, first)
        yield Delta(request.id, completion.text.removeprefix(sent), completion)

    def close(self) -> None:
        """Drop the weights."""
        del self._model

    def _batch(self, requests: Sequence[Request]) -> Iterator[Completion]:
        began = time.perf_counter()
        laid, params = self._lay_out(requests), [request.params for request in requests]
        every = TOKENS_PER_PIECE if any(p.stop for p in params) else None
        answers: list[list[int]] = []
        with _translated():
            for answers in self._model.answer(laid, params, every=every):
                if all(self._text(ids, p)[1] for ids, p in zip(answers, params, strict=True)):
                    break
        for request, prompt, ids in zip(requests, laid, answers, strict=True):
            yield self._completion(request, prompt, ids, began)

    def _lay_out(self, requests: Sequence[Request]) -> list[LaidOut]:
        for request in requests:
            _check_params(request.params)
        clips = [[m.frames.pixels for m in request.media] for request in requests]
        with _translated():
            laid = self._model.lay_out([request.prompt for request in requests], clips)
        for request, prompt in zip(requests, laid, strict=True):
            num_frames = sum(len(m.frames) for m in request.media)
            self._model.check_length(prompt, request.params, num_frames)
        return laid

    def _text(self, ids: Sequence[int], params: SamplingParams) -> tuple[str, bool]:
        """The answer's words, and whether a stop string ended them."""
        text = self._model.tokenizer.decode(ids).lstrip()
        cuts = [at for stop in params.stop if (at := text.find(stop)) >= 0]
        return (text[: min(cuts)], True) if cuts else (text, False)

    def _completion(
        self,
        request: Request,
        prompt: LaidOut,
        ids: list[int],
        began: float,
        first: float | None = None,
    ) -> Completion:
        text, stopped = self._text(ids, request.params)
        ended = stopped or (bool(ids) and ids[-1] == self._model.tokenizer.eos_id)
        return Completion(
            request_id=request.id,
            text=text.rstrip(),
            finish_reason="stop" if ended else "length",
            usage=Usage(len(prompt), len(ids), int(prompt.is_vision.sum())),
            token_ids=tuple(ids),
            seconds=time.perf_counter() - began,
            first_token_seconds=first,
        )


def _settled(text: str, stops: Sequence[str]) -> int:
    """How much of a growing text cannot change or be cut any more."""
    held = len(text) - len(text.rstrip("\ufffd").rstrip())
    for stop in stops:
        begun = (n for n in range(len(stop) - 1, 0, -1) if text.endswith(stop[:n]))
        held = max(held, next(begun, 0))
    return len(text) - held


def _check_params(params: SamplingParams) -> None:
    asked = {
        "--repetition-penalty": params.repetition_penalty != 1,
        "--logprobs": params.logprobs is not None,
        "--schema": params.json_schema is not None,
    }
    for flag in (flag for flag, given in asked.items() if given):
        raise MissingCapability(
            f"The engine 'lwm' does not do {flag}.",
            hint="Leave it out; temperature, top-k, top-p, seed, stop and lengths are there.",
        )


def _devices(device: Device) -> list[jax.Device]:
    if device == "auto":
        return jax.devices()
    try:
        devices = jax.devices({"cuda": "gpu", "mps": "METAL"}.get(device, device))
    except RuntimeError:
        raise ModelError(
            f"JAX finds no {device!r} device here; it has {jax.default_backend()}.",
            hint="Use --device auto, or install JAX for your device: pip install 'jax[cuda13]'.",
        ) from None
    jax.config.update("jax_default_device", devices[0])
    return devices


def _dtype(dtype: DType) -> np.dtype[Any]:
    """What "auto" means: a CPU is slow in bfloat16, everything else is made for it."""
    if dtype == "auto":
        dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
    return jnp.dtype(dtype)


@contextmanager
def _translated() -> Iterator[None]:
    """JAX reports every fault of a device as one class; the text says which it was."""
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error) and "out of memory" not in str(error).lower():
            raise
        raise OutOfMemory(
            "The device ran out of memory.",
            hint="Use fewer frames, --dtype bfloat16, or more devices: --mesh 1,1,-1,1.",
        ) from error
