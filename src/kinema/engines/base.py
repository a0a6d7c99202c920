"""How the program meets a backend: small protocols over shared values.

An engine is blind. It never opens a file, chooses a time or knows a chat template; it gets
requests whose frames are decoded and whose prompt is rendered.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from kinema.errors import KinemaError, MissingCapability
from kinema.messages import Completion, Delta, Request
from kinema.models.lwm.prompt import FrameEnds, Layout

Device = Literal["auto", "cpu", "cuda", "mps"]
DType = Literal["auto", "float32", "bfloat16", "float16"]
Attention = Literal["auto", "sdpa", "flash_attention_2", "eager"]
Quantization = Literal["bnb-4bit", "bnb-8bit", "torchao-int8", "torchao-int4", "torchao-fp8"]


@dataclass(frozen=True, kw_only=True)
class EngineSettings:
    """How weights are loaded."""

    device: Device = "auto"
    """Where the model runs; auto takes a GPU when there is one."""
    dtype: DType = "auto"
    """Number format of the weights; auto keeps the checkpoint's own."""
    device_map: str | None = None
    """Spread the weights over devices (hf): auto, balanced, sequential or a device."""
    attn: Attention = "auto"
    """Attention implementation (hf); auto leaves the choice to transformers."""
    quantization: Quantization | None = None
    """Weights in fewer bits (hf)."""
    adapter: str | None = None
    """Folder of LoRA weights that PEFT saved (hf)."""
    compile: bool = False
    """Compile the decoding step (hf): a minute of preparation, then faster."""
    cache: str | None = None
    """Keep vision features in this folder, so that a later session skips the encoder (hf)."""
    batch_size: int = 8
    """Requests that run together at most (hf)."""
    keep_conversations: int = 1
    """Conversations whose keys and values stay in memory, so follow-ups are quick (hf)."""
    tensor_parallel: int = 1
    """Split each layer over this many GPUs (vllm), or over the processes of torchrun (hf)."""
    pipeline_parallel: int = 1
    """Split the layers into this many groups, each on its GPUs (vllm)."""
    gpu_memory: float = 0.9
    """Share of a GPU's memory that vLLM may take (vllm)."""
    max_context: int | None = None
    """Tokens for prompt and answer together, when less than the model's own (vllm)."""
    base_url: str | None = None
    """Address of the server (openai), ending in /v1; OPENAI_BASE_URL when not given."""
    served_model: str | None = None
    """What the server calls the model (openai); --model when not given."""
    concurrency: int = 8
    """Requests on their way to a server at once (openai)."""
    trust_remote_code: bool = False
    """Run Python files that the checkpoint brings."""
    verify: bool = False
    """Compare each weight file with its published checksum before loading."""
    mesh: str = "1,1,-1,1"
    """Engine lwm: devices as dp,fsdp,tp,sp; -1 takes what is left, ! in front keeps their order."""
    layout: Layout = "trained"
    """Engine lwm: one beginning-of-sequence token as trained, or five as the last release."""
    frame_ends: FrameEnds = "trained"
    """Engine lwm: inner frames end as trained (8192), or as the release did (8193)."""


def rank() -> int:
    """Which process of a torchrun this is; 0 leads, and works alone where there are no others."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


_DEFAULTS = EngineSettings()


_ONLY_ON = {
    "quantization": ("hf",),
    "adapter": ("hf",),
    "attn": ("hf",),
    "device_map": ("hf",),
    "cache": ("hf",),
    "compile": ("hf", "vllm"),
    "tensor_parallel": ("vllm",),
    "pipeline_parallel": ("vllm",),
    "max_context": ("vllm",),
    "base_url": ("openai",),
    "mesh": ("lwm",),
}
"""Settings that would change the outcome, and the engines that know them."""


def check_settings(settings: EngineSettings, engine: str) -> None:
    """Refuse what an engine would otherwise leave aside in silence.

    Raises:
        MissingCapability: a setting was given that this engine does not have.
    """
    for name, able in _ONLY_ON.items():
        if engine not in able and getattr(settings, name) != getattr(_DEFAULTS, name):
            flag = f"--{name.replace('_', '-')} {getattr(settings, name)}"
            raise MissingCapability(
                f"The engine {engine!r} does not do {flag.removesuffix(' True')}.",
                hint=f"Engines that do: {', '.join(able)}. Or leave the setting away.",
            )


def failed(request: Request, problem: KinemaError) -> Completion:
    """The completion of a request that could not be run."""
    error = " ".join(filter(None, (str(problem), problem.hint)))
    return Completion(request.id, "", "error", error=error, error_code=problem.code)


class Engine(Protocol):
    """What every engine has."""

    name: str
    context_length: int | None
    """Tokens for prompt and answer together; None when the engine has no limit."""

    def count_tokens(self, request: Request) -> int:
        """Prompt tokens of a request, words and pictures, without running the model."""
        ...

    def close(self) -> None:
        """Give memory, threads and processes back."""
        ...


@runtime_checkable
class Generates(Engine, Protocol):
    """Answers requests."""

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Completions in the order they get ready, each with its request's id."""
        ...


@runtime_checkable
class Streams(Engine, Protocol):
    """Answers one request piece by piece."""

    def stream(self, request: Request) -> Iterator[Delta]:
        """Pieces of the answer; the last one carries the completion.

        Closing the iterator early stops the model.
        """
        ...


@runtime_checkable
class Follows(Engine, Protocol):
    """Holds a slice of a model whose first process is elsewhere."""

    def follow(self) -> None:
        """Run what the first process runs, until it closes its engine."""
        ...


class Inbox(Protocol):
    """Requests of many callers that wait for an engine."""

    def take(
        self,
        most: int,
        *,
        alike: Callable[[Request], object] = lambda request: None,
        beside: Sequence[Request] = (),
    ) -> list[Request]:
        """Up to ``most`` waiting requests, without waiting for more.

        Those for which ``alike`` says the same as for the first; the others stay. With requests
        that run already, ``beside``, those that are like them and have no other before them:
        who waits for these to end is not overtaken.
        """
        ...

    def is_cancelled(self, request_id: str) -> bool:
        """Whether nobody waits for this answer any more."""
        ...


@runtime_checkable
class Serves(Engine, Protocol):
    """Answers many callers at once, piece by piece."""

    def serve(self, inbox: Inbox) -> Iterator[Delta]:
        """Pieces of the answers to what waits, mixed, until nothing is left.

        The last delta of each request carries its completion, also when it failed. A request that
        was cancelled gets no more.
        """
        ...


class OneByOne:
    """Any engine as one that serves: a request after the other."""

    def __init__(self, engine: Generates) -> None:
        self._engine = engine

    def serve(self, inbox: Inbox) -> Iterator[Delta]:
        """See :class:`Serves`."""
        while requests := inbox.take(1):
            try:
                yield from self._answer(requests[0], inbox)
            except KinemaError as problem:
                yield Delta(requests[0].id, "", failed(requests[0], problem))

    def _answer(self, request: Request, inbox: Inbox) -> Iterator[Delta]:
        if not isinstance(self._engine, Streams):
            for completion in self._engine.generate([request]):
                yield Delta(request.id, completion.text, completion)
            return
        with closing(self._engine.stream(request)) as deltas:  # type: ignore[type-var]
            for delta in deltas:
                if inbox.is_cancelled(request.id):
                    return
                yield delta
