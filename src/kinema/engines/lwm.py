"""The JAX engine of the Large World Model: one CPU, one GPU or a mesh of devices."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import jax
import jax.numpy as jnp

from kinema.engines.base import Inbox
from kinema.engines.settings import Device, LWMSettings
from kinema.errors import ContextTooLong, KinemaError, MissingCapability, ModelError, OutOfMemory
from kinema.families import Family
from kinema.messages import Completion, Request, SamplingParams, Usage
from kinema.models.lwm.chat import LWM, Style, load_lwm
from kinema.models.lwm.checkpoint import Files, find_files
from kinema.models.lwm.config import LWMConfig
from kinema.models.lwm.prompt import LaidOut

BATCH_ROWS = 8
"""Requests that share a batch, at most."""
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
    batch_size: int | None = BATCH_ROWS

    def __init__(
        self,
        source: Path | Files,
        *,
        family: Family | None = None,
        settings: LWMSettings | None = None,
        config: LWMConfig | None = None,
    ) -> None:
        settings = settings or LWMSettings()
        files = source if isinstance(source, Files) else find_files(source)
        with _translated():
            devices, dtype = _devices(settings.device), settings.dtype
            if dtype == "auto":  # a CPU is slow in bfloat16, everything else is made for it
                dtype = "float32" if jax.default_backend() == "cpu" else "bfloat16"
            self.model: LWM = load_lwm(
                files,
                config=config,
                mesh=settings.mesh,
                devices=devices,
                dtype=jnp.dtype(dtype),
                style=Style(layout=settings.layout, frame_ends=settings.frame_ends),
            )
        self.context_length: int | None = self.model.decoder.config.max_sequence_length

    def count_tokens(self, request: Request) -> int:
        """Words of the prompt and, for each frame, its codes and the id that closes it."""
        return self.model.num_tokens(request.prompt, [len(m.frames) for m in request.media])

    def pick(self, waiting: Sequence[Request], running: Sequence[Request]) -> list[Request]:
        """Up to eight, in order of arrival; their sampling parameters may differ."""
        return [] if running else list(waiting[:BATCH_ROWS])

    def serve(self, inbox: Inbox) -> None:
        """See :class:`kinema.engines.base.Engine`.

        Raises:
            OutOfMemory: the device has too little for this batch.
        """
        while taken := inbox.take():
            fine = [request for request in taken if self._accepts(request, inbox)]
            for batch in self._batches(fine):
                self._answer(batch, inbox)

    def release(self) -> None:
        """Nothing is kept."""

    def close(self) -> None:
        """Drop the weights."""
        del self.model

    def _accepts(self, request: Request, inbox: Inbox) -> bool:
        """Whether a request can run; one that cannot has failed."""
        try:
            _check_params(request.params)
            needed = self.count_tokens(request) + request.params.max_new_tokens
            if self.context_length is not None and needed > self.context_length:
                shown = sum(len(m.frames) for m in request.media)
                largest = self.model.frames_that_fit(needed - self.context_length, shown)
                raise ContextTooLong(
                    needed=needed, available=self.context_length, largest_num_frames=largest
                )
        except KinemaError as problem:
            inbox.fail(request.id, problem)
            return False
        return True

    def _batches(self, requests: Sequence[Request]) -> list[list[Request]]:
        """Requests that fit the context side by side.

        All rows of a batch are as long as the longest prompt and have room for the longest answer.
        """
        available = self.model.decoder.config.max_sequence_length
        batches: list[list[Request]] = []
        for request in requests:
            for batch in batches:
                rows = [*batch, request]
                longest = max(map(self.count_tokens, rows))
                if longest + max(r.params.max_new_tokens for r in rows) <= available:
                    batch.append(request)
                    break
            else:
                batches.append([request])
        return batches

    def _answer(self, requests: Sequence[Request], inbox: Inbox) -> None:
        """Run a batch; each row's pieces and completion go out as soon as they are known."""
        began = time.perf_counter()
        params = [request.params for request in requests]
        is_watched = any(p.stop for p in params) or any(inbox.is_streamed(r.id) for r in requests)
        with _translated():
            clips = [[m.frames.pixels for m in request.media] for request in requests]
            laid = self.model.lay_out([request.prompt for request in requests], clips)
            rows = [_Row(*row) for row in zip(requests, laid, strict=True)]
            every = TOKENS_PER_PIECE if is_watched else None
            for answers in self.model.answer(laid, params, every=every):
                for row, ids in zip(rows, answers, strict=True):
                    if not row.is_over:
                        self._extend(row, ids, inbox, began)
                if all(row.is_over for row in rows):
                    return

    def _extend(self, row: _Row, ids: list[int], inbox: Inbox, began: float) -> None:
        """Take in all ids that a row has so far, and say what is new."""
        request = row.request
        if inbox.is_cancelled(request.id):
            row.is_over = True
            return
        text, is_stopped = request.params.cut_at_stop(self.model.tokenizer.decode(ids).lstrip())
        has_ended = is_stopped or (bool(ids) and ids[-1] == self.model.tokenizer.eos_id)
        row.is_over = has_ended or len(ids) == request.params.max_new_tokens
        if inbox.is_streamed(request.id):
            ready = text.rstrip()
            if not row.is_over:  # a stop string may have begun, a character may be half written
                whole = text.rstrip("\ufffd").rstrip()
                ready = whole[: len(text) - request.params.num_held_back(text)]
            if ready.startswith(row.sent) and len(ready) > len(row.sent):
                row.first = row.first or time.perf_counter() - began
                inbox.write(request.id, ready[len(row.sent) :])
                row.sent = ready
        if row.is_over:
            inbox.complete(
                Completion(
                    request_id=request.id,
                    text=text.rstrip(),
                    finish_reason="stop" if has_ended else "length",
                    usage=Usage(len(row.laid), len(ids), int(row.laid.is_vision.sum())),
                    token_ids=tuple(ids),
                    seconds=time.perf_counter() - began,
                    first_token_seconds=row.first,
                )
            )


@dataclass
class _Row:
    """A request in a batch, and what was handed over of its answer."""

    request: Request
    laid: LaidOut
    sent: str = ""
    first: float | None = None
    is_over: bool = False


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
