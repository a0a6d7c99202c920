"""How engines are opened: a class for each engine, composed of the groups that it shares.

A field stands in the class of every engine that does what it says. :class:`EngineSettings` is all
of them together: what a command or a Python caller gives before the engine is known.
"""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeVar

from kinema.config import choices_of
from kinema.errors import MissingCapability, UnknownName
from kinema.models.lwm.prompt import FrameEnds, Layout
from kinema.ranges import Ranges, require_ranges

Device = Literal["auto", "cpu", "cuda", "mps"]
DType = Literal["auto", "float32", "bfloat16", "float16"]
Attention = Literal["auto", "sdpa", "flash_attention_2", "eager"]
Quantization = Literal["bnb-4bit", "bnb-8bit", "torchao-int8", "torchao-int4", "torchao-fp8"]

T = TypeVar("T")


def undecisive(default: T, reason: str) -> T:
    """A field that decides no answer of a model, and why.

    Every field without this mark is part of the keys under which answers are kept, so that a new
    setting counts until somebody has thought about it; see :mod:`kinema.tasks.deciding`.
    """
    marked: T = field(default=default, metadata={"decides": False, "reason": reason})
    return marked


_COUNTS = ("tensor_parallel", "pipeline_parallel", "max_context", "batch_size", "concurrency")
_RANGES: Ranges = {
    **dict.fromkeys(_COUNTS, (lambda count: count >= 1, "1 or more")),
    "keep_conversations": (lambda count: count >= 0, "0 or more"),
    "gpu_memory": (lambda share: 0 < share <= 1, "above 0 and at most 1"),
}


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What the settings of all engines have in common: they are checked when they are made.

    Raises:
        UsageError: a value is outside of its range.
        UnknownName: a value is not among those that its field allows.
    """

    def __post_init__(self) -> None:
        for name, words in choices_of(type(self)).items():
            if (value := getattr(self, name)) is not None and value not in words:
                raise UnknownName(name, str(value), words)
        require_ranges(self, _RANGES)


@dataclass(frozen=True, kw_only=True)
class Placed(Settings):
    """A model that runs on this machine."""

    device: Device = undecisive("auto", "where the model runs; dtype is a setting of its own")
    """Where the model runs; auto takes a GPU when there is one."""


@dataclass(frozen=True, kw_only=True)
class Batched(Settings):
    """Requests that begin together."""

    batch_size: int = undecisive(8, "which requests share a batch; each is answered as if alone")
    """Requests that run together at most."""


@dataclass(frozen=True, kw_only=True)
class Weights(Placed):
    """Weights in a number format of their own."""

    dtype: DType = "auto"
    """Number format of the weights; auto keeps the checkpoint's own."""


@dataclass(frozen=True, kw_only=True)
class TorchWeights(Weights):
    """Weights in Hugging Face layout, run by torch."""

    trust_remote_code: bool = False
    """Run Python files that the checkpoint brings."""
    verify: bool = undecisive(False, "whether files are compared with their checksums first")
    """Compare each weight file with its published checksum before loading."""
    compile: bool = False
    """Compile the decoding step: a minute of preparation, then faster."""
    tensor_parallel: int = undecisive(1, "how many devices share a layer")
    """Split each layer over this many GPUs; with hf, over processes, torchrun's or our own."""


@dataclass(frozen=True, kw_only=True)
class Context(Settings):
    """A context that may be shorter than the model's own."""

    max_context: int | None = None
    """Tokens for prompt and answer together, when less than the model's own."""


@dataclass(frozen=True, kw_only=True)
class HFSettings(Batched, TorchWeights):
    """Of the engine hf."""

    device_map: str | None = undecisive(None, "where the layers lie")
    """Spread the weights over devices: auto, balanced, sequential or a device."""
    attn: Attention = "auto"
    """Attention implementation; auto leaves the choice to transformers."""
    quantization: Quantization | None = None
    """Weights in fewer bits."""
    adapter: str | None = None
    """Folder of LoRA weights that PEFT saved."""
    generation_config: bool = False
    """Sample as the checkpoint's generation_config.json recommends, where nothing else is said."""
    cache: str | None = undecisive(None, "features that the same encoder would make again")
    """Keep vision features in this folder, so that a later session skips the encoder."""
    keep_conversations: int = undecisive(1, "keys and values that would be computed again")
    """Conversations whose KV cache stays in memory, so follow-ups are quick."""


@dataclass(frozen=True, kw_only=True)
class VLLMSettings(Context, TorchWeights):
    """Of the engine vllm."""

    pipeline_parallel: int = undecisive(1, "how many devices share the layers")
    """Split the layers into this many groups, each on its GPUs."""
    gpu_memory: float = undecisive(0.9, "how many requests fit beside each other")
    """Share of a GPU's memory that vLLM may take, above 0 and at most 1."""


@dataclass(frozen=True, kw_only=True)
class OpenAISettings(Context):
    """Of the engine openai; max_context is the context of a server that does not say it."""

    base_url: str | None = None
    """Address of the server, ending in /v1; OPENAI_BASE_URL when not given."""
    served_model: str | None = None
    """What the server calls the model; --model when not given."""
    api_key_env: str = undecisive("OPENAI_API_KEY", "who pays for the answers")
    """Environment variable that holds the server's key."""
    concurrency: int = undecisive(8, "how many requests are on their way at once")
    """Requests on their way to a server at once."""


@dataclass(frozen=True, kw_only=True)
class LWMSettings(Weights):
    """Of the engine lwm."""

    mesh: str = undecisive("1,1,-1,1", "how devices share the work")
    """Devices as dp,fsdp,tp,sp; -1 takes what is left, ! in front keeps their order."""
    layout: Layout = "trained"
    """One beginning-of-sequence token as trained, or five as the last release."""
    frame_ends: FrameEnds = "trained"
    """Inner frames end as trained (8192), or as the release did (8193)."""


@dataclass(frozen=True, kw_only=True)
class EchoSettings(Settings):
    """Of the engine echo, which has nothing to set."""


@dataclass(frozen=True, kw_only=True)
class SpotterSettings(Batched, Placed):
    """Of the engine spotter, which runs on a CPU."""


@dataclass(frozen=True, kw_only=True)
class EngineSettings(LWMSettings, OpenAISettings, VLLMSettings, HFSettings):
    """How weights are loaded, whichever engine it will be; each takes what it knows."""


SETTINGS: dict[str, type[Settings]] = {
    "hf": HFSettings,
    "vllm": VLLMSettings,
    "openai": OpenAISettings,
    "lwm": LWMSettings,
    "spotter": SpotterSettings,
    "echo": EchoSettings,
}
"""The class of each engine."""


def engines_with(name: str) -> tuple[str, ...]:
    """The engines that have a setting."""
    return tuple(e for e, kind in SETTINGS.items() if name in {f.name for f in fields(kind)})


def narrow(settings: Settings, engine: str) -> Any:
    """The settings of one engine.

    Args:
        settings: of all engines, or of this one.
        engine: its name.

    Returns:
        A value of the engine's own class.

    Raises:
        MissingCapability: a setting that the engine would leave aside in silence was changed.
    """
    own = {f.name for f in fields(SETTINGS[engine])}
    for f in fields(settings):
        value = getattr(settings, f.name)
        if f.name not in own and value != f.default:
            flag = f"--{f.name.replace('_', '-')} {value}".removesuffix(" True")
            raise MissingCapability(
                f"The engine {engine!r} does not do {flag}.",
                hint=f"Engines that do: {', '.join(engines_with(f.name))}. "
                "Or leave the setting away.",
            )
    given = {f.name: getattr(settings, f.name) for f in fields(settings) if f.name in own}
    return SETTINGS[engine](**given)
