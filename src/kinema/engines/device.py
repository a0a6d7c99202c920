"""Where a model can run on this machine."""

from __future__ import annotations

import os

import torch


def pick_device(choice: str = "auto") -> torch.device:
    """The device called ``choice``; for "auto" a GPU when there is one."""
    if choice != "auto":
        return torch.device(choice)
    if torch.cuda.is_available():
        return torch.device("cuda")
    return torch.device("mps" if torch.backends.mps.is_available() else "cpu")


def count_devices() -> tuple[str, int]:
    """What each process of a sliced model can have: GPUs of this machine, or without any its cores.

    Returns:
        What they are, and how many.
    """
    if torch.cuda.is_available():
        return "GPUs", torch.cuda.device_count()
    return "cores and no GPU", os.cpu_count() or 1


def describe_device() -> str:
    """The picked device in words: ``NVIDIA H100 80GB HBM3 (79.1 GiB)`` or ``cpu (2 threads)``."""
    device = pick_device()
    if device.type == "cuda":
        facts = torch.cuda.get_device_properties(device)
        return f"{facts.name} ({facts.total_memory / 2**30:.1f} GiB)"
    if device.type == "mps":
        return "Apple GPU"
    return f"cpu ({torch.get_num_threads()} threads), no GPU"
