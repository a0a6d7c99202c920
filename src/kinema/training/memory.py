"""What to lower when memory runs out."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch

from kinema.errors import OutOfMemory
from kinema.training.settings import TrainSettings

_HOST = "can't allocate memory"
"""How torch's CPU allocator says it, in a plain RuntimeError."""


class spare_memory:
    """A context in which running out of memory says which settings to lower, best first."""

    def __init__(self, settings: TrainSettings, *, uses_videos: bool) -> None:
        self._settings = settings
        self._uses_videos = uses_videos

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, problem: Any, trace: Any) -> None:
        is_host = isinstance(problem, RuntimeError) and _HOST in str(problem)
        if isinstance(problem, torch.OutOfMemoryError | MemoryError) or is_host:
            advice = advise(self._settings, uses_videos=self._uses_videos)
            raise OutOfMemory(
                "Memory ran out while training.", hint="In this order: " + "; ".join(advice) + "."
            ) from problem


def advise(settings: TrainSettings, *, uses_videos: bool) -> list[str]:
    """Settings that take less memory, those that change the result least first."""
    return list(_advice(settings, uses_videos))


def _advice(settings: TrainSettings, uses_videos: bool) -> Iterator[str]:
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
