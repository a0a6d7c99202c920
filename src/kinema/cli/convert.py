"""``kinema models convert``: released files of other makers into safetensors."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kinema.cli.output import put, put_record
from kinema.lazy import Row, Table

CONVERTERS = Table(
    "checkpoint format",
    {
        "lwm": Row(
            "kinema.tasks.lwm:convert",
            needs=("jax", "flax", "sentencepiece"),
            install="pip install 'kinema[lwm]'",
            summary="Large World Model",
        )
    },
)
"""Formats that become folders of ours."""


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    """What the files do not tell, and how the result is shown."""

    vqgan: Path | None = None
    """The VQGAN, where it does not lie beside the params."""
    tokenizer: Path | None = None
    """tokenizer.model, where it does not lie beside the params."""
    llama_config: str = ""
    """A standard size (7b), json::PATH or pickle::PATH; read off the checkpoint when empty."""
    update_llama_config: str = ""
    """dict(theta=50000000, ...), read as literals and never evaluated."""
    json: bool = False
    """Print one JSON record."""


def convert(
    kind: str,
    source: str,
    target: Path,
    /,
    *,
    options: Annotated[ConvertOptions, Parameter(name="*")] = ConvertOptions(),
) -> None:
    """Convert a checkpoint to safetensors, one tensor at a time.

    Examples:
      kinema models convert lwm LWM-Chat-1M-Jax converted
      kinema models convert lwm trainstate_params::run/streaming_train_state converted

    Args:
        kind: Whose format it is: lwm (Large World Model).
        source: The checkpoint's folder, or type::PATH of its params.
        target: A folder that does not exist yet or is empty.
    """
    counts = CONVERTERS.load(kind)(
        source,
        target,
        vqgan=options.vqgan,
        tokenizer=options.tokenizer,
        llama_config=options.llama_config,
        update_llama_config=options.update_llama_config,
    )
    if options.json:
        put_record({"target": str(target), "tensors": counts})
    else:
        parts = " and ".join(f"{count} tensors in {name}" for name, count in counts.items())
        put(f"{target}: {parts}")
