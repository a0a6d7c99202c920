"""What to lower when memory runs out."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from kinema.errors import OutOfMemory
from kinema.training.settings import TrainSettings

_HOST = "can't allocate memory"
"""How torch's CPU allocator says it, in a plain RuntimeError."""


@contextmanager
def spare_memory(settings: TrainSettings, *, uses_videos: bool) -> Iterator[None]:
    """A context in which running out of memory says which settings to lower, best first."""
    try:
        yield
    except (RuntimeError, MemoryError) as problem:
        is_host = _HOST in str(problem)
        if not isinstance(problem, torch.OutOfMemoryError | MemoryError) and not is_host:
            raise
        advice = "; ".join(advise(settings, uses_videos=uses_videos))
        raise OutOfMemory(
            "Memory ran out while training.", hint=f"In this order: {advice}."
        ) from problem


def advise(settings: TrainSettings, *, uses_videos: bool) -> Iterator[str]:
    """Settings that take less memory, those that change the result least first."""
    loop, stage = settings.loop, settings.stage.stage
    if loop.per_device_train_batch_size > 1:
        half = loop.per_device_train_batch_size // 2
        steps = loop.gradient_accumulation_steps * loop.per_device_train_batch_size // half
        yield f"--per-device-train-batch-size {half} --gradient-accumulation-steps {steps}"
    if not loop.gradient_checkpointing:
        yield "--gradient-checkpointing"
    if not (loop.bf16 or loop.fp16):
        yield "--bf16"
    if uses_videos:
        yield "`kinema features` first, then --features-folder: the tower leaves the loop"
        yield "fewer frames with --num-frames"
    if stage in ("full", "layers"):
        yield "--stage lora"
    elif stage == "lora":
        yield "--stage qlora"
    if not loop.fsdp:
        yield "torchrun with --fsdp on several GPUs"
    yield "a lower --model-max-length"
