"""How the program meets a backend: small protocols over shared values.

An engine is blind. It never opens a file, chooses a time or knows a chat template; it gets
requests whose frames are decoded and whose prompt is rendered.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

from kinema.errors import KinemaError, MissingCapability
from kinema.messages import Completion, Request
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
    api_key_env: str = "OPENAI_API_KEY"
    """Environment variable that holds the server's key (openai)."""
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
    "tensor_parallel": ("hf", "vllm"),
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


class Inbox(Protocol):
    """The scheduler as an engine sees it: where requests come from and where answers go."""

    def take(self, running: Sequence[Request] = ()) -> list[Request]:
        """Requests to begin now, chosen by the engine's own ``pick``; empty when there are none.

        Each of them is known to fit the model's context.

        Args:
            running: what was taken earlier and has not ended, for engines that add to it.
        """
        ...

    def is_cancelled(self, request_id: str) -> bool:
        """Whether nobody waits for this answer any more; the engine may drop the request."""
        ...

    def is_streamed(self, request_id: str) -> bool:
        """Whether somebody reads the answer while it is written."""
        ...

    def write(self, request_id: str, text: str) -> None:
        """Hand over a piece of a streamed answer."""
        ...

    def complete(self, completion: Completion) -> None:
        """A request has its answer."""
        ...

    def fail(self, request_id: str, problem: KinemaError) -> None:
        """This request alone has no answer; the others go on."""
        ...


class Engine(Protocol):
    """A backend that runs a model. Everything but ``name`` is used by one thread alone.

    An engine raises what happened to it as it is; it keeps no policy for errors. What runs again,
    and with how many others, is decided by :class:`kinema.engines.scheduler.Scheduler`.
    """

    name: str
    context_length: int | None
    """Tokens for prompt and answer together; None when the engine has no limit."""
    batch_size: int | None
    """Requests that begin together at most; None when new ones may join those that run."""

    def count_tokens(self, request: Request) -> int:
        """Prompt tokens of a request, words and pictures, without running the model.

        A request that is counted is usually served next: what was made for counting may be kept.
        """
        ...

    def pick(self, waiting: Sequence[Request], running: Sequence[Request]) -> list[Request]:
        """Which of ``waiting`` begin next, beside what runs, and in which order.

        Args:
            waiting: in the order in which they came; the first one must not starve.
            running: empty for engines that begin batches when nothing runs.
        """
        ...

    def serve(self, inbox: Inbox) -> None:
        """Answer what ``inbox`` hands out until it hands out nothing more.

        Raises:
            KinemaError: every request that was taken and has not ended is without an answer.
        """
        ...

    def release(self) -> None:
        """Free what is kept to make later requests quick: prepared inputs, the prefix cache."""
        ...

    def close(self) -> None:
        """Give memory, threads and processes back."""
        ...


@runtime_checkable
class Follows(Engine, Protocol):
    """Holds a slice of a model whose first process is elsewhere."""

    def follow(self) -> None:
        """Run what the first process runs, until it closes its engine."""
        ...
