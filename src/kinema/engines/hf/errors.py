"""Errors of torch and transformers, translated into ours."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from kinema.engines.failures import first_line
from kinema.errors import EngineDied, KinemaError, ModelError, OutOfMemory, RequestRefused

_COMPILER = ("torch._dynamo", "torch._inductor")
_NO_MEMORY = ("out of memory", "can't allocate memory", "not enough memory", "alloc_failed")
"""What torch writes of memory, in errors that have no class of their own: on a CPU, in cuBLAS."""
_DEVICE_LOST = (
    *("cuda error", "device-side assert", "nccl error", "cublas_status", "cudnn_status"),
    *("cudnn error", "cusolver error", "cufft_", "hip error", "illegal memory access"),
    *("unspecified launch failure", "misaligned address", "mps backend"),
)
"""What is written after which a CUDA context answers every call with the same error."""


@contextmanager
def translated() -> Iterator[None]:
    """A context in which torch's and transformers' errors come out as :class:`KinemaError`.

    What no model says of a request, such as a ``KeyError``, comes out as it is.
    """
    try:
        yield
    except Exception as problem:
        if (ours := _ours(problem)) is None:
            raise
        raise ours from problem


def _ours(problem: BaseException) -> KinemaError | None:
    if is_out_of_memory(problem):
        return OutOfMemory(
            "The device ran out of memory.",
            hint="Use fewer frames, --quantization bnb-4bit, a smaller model or --device cpu.",
        )
    if is_device_lost(problem):
        return EngineDied(
            f"The device failed: {first_line(problem)}",
            hint="Start again; with CUDA_LAUNCH_BLOCKING=1 the error names the place.",
        )
    # By name: importing the compiler takes seconds, and whoever raised its error has done so.
    if any(base.__module__.startswith(_COMPILER) for base in type(problem).__mro__):
        return ModelError(
            f"--compile did not work here: {first_line(problem)}",
            hint="It needs a C++ compiler (apt install g++). Or leave --compile out.",
        )
    if isinstance(problem, ValueError | TypeError | RuntimeError | IndexError):
        return RequestRefused(
            f"The model refused the request: {first_line(problem) or type(problem).__name__}",
            hint="`kinema models` says what the family takes.",
        )
    return None


def is_device_lost(problem: BaseException) -> bool:
    """Whether the device fails, and will go on failing in this process."""
    text = str(problem).lower()
    return isinstance(problem, torch.AcceleratorError) or (
        isinstance(problem, RuntimeError) and any(words in text for words in _DEVICE_LOST)
    )


def is_out_of_memory(problem: BaseException) -> bool:
    """Whether the device, or this machine, has no memory left."""
    if isinstance(problem, MemoryError | torch.OutOfMemoryError):
        return True
    text = str(problem).lower()
    return isinstance(problem, RuntimeError) and any(words in text for words in _NO_MEMORY)
