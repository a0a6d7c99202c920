"""Tensor parallel under torchrun: every process holds a slice of each layer, the first one leads.

The leader reads media, writes answers and says what is generated; the others generate the same at
the same time, which is what the slices need, and throw it away.
"""

from __future__ import annotations

import secrets
from dataclasses import replace
from typing import Any

import torch.distributed

from kinema.engines.base import rank, world_size
from kinema.engines.hf.logits import SEEDS
from kinema.engines.settings import HFSettings
from kinema.errors import MissingCapability, UsageError
from kinema.messages import SamplingParams


class ProcessGroup:
    """The processes of one torchrun, seen from one of them."""

    @property
    def leads(self) -> bool:
        """True in the process that talks to the user."""
        return rank() == 0

    def broadcast(self, call: Any) -> None:
        """From the leader to all others: a call to run too, None when it was the last."""
        torch.distributed.broadcast_object_list([call], src=0)

    def receive(self) -> Any:
        """What the leader broadcasts; waits for it."""
        received: list[Any] = [None]
        torch.distributed.broadcast_object_list(received, src=0)
        return received[0]

    def leave(self) -> None:
        """Destroy the process group; the leader ends the others' waiting first."""
        if not torch.distributed.is_initialized():
            return
        if self.leads:
            self.broadcast(None)
        torch.distributed.destroy_process_group()


def find_process_group(settings: HFSettings) -> ProcessGroup | None:
    """The process group of this process, None when it works alone.

    Raises:
        UsageError: the number of processes is not the number of slices that was asked for.
        MissingCapability: a setting that slices cannot have.
    """
    size, wanted = world_size(), settings.tensor_parallel
    if size == 1 and wanted == 1:
        return None
    if wanted not in (1, size):
        raise UsageError(
            f"--tensor-parallel is {wanted} and there are {size} processes.",
            hint=f"Start with: torchrun --nproc-per-node {wanted} -m kinema …",
        )
    for name in ("device_map", "quantization", "adapter"):
        if getattr(settings, name):
            flag = "--" + name.replace("_", "-")
            raise MissingCapability(
                f"{flag} does not go together with tensor parallel.", hint=f"Leave {flag} out."
            )
    return ProcessGroup()


def agreed(params: SamplingParams) -> SamplingParams:
    """The parameters with a seed, so that every process draws the same tokens."""
    return params if params.seed is not None else replace(params, seed=secrets.randbelow(SEEDS))
