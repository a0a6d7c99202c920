"""Errors of torch and transformers, translated into ours."""

from __future__ import annotations

from typing import Any

import torch

from kinema.errors import ModelError, OutOfMemory

_COMPILER = ("torch._dynamo", "torch._inductor")


class translated:
    """A context in which torch's and transformers' errors come out as :class:`KinemaError`."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, problem: Any, trace: Any) -> None:
        if isinstance(problem, torch.OutOfMemoryError):
            raise OutOfMemory(
                "The device ran out of memory, also after one try with less.",
                hint="Use fewer frames, --quantization bnb-4bit, a smaller model or --device cpu.",
            ) from problem
        if kind is not None and _is_of_compiler(kind):
            raise ModelError(
                f"--compile did not work here: {first_line(problem)}",
                hint="It needs a C++ compiler (apt install g++). Or leave --compile out.",
            ) from problem
        if isinstance(problem, ValueError | TypeError | RuntimeError | IndexError):
            raise ModelError(
                f"The model refused the request: {first_line(problem)}",
                hint="`kinema models` says what the family takes.",
            ) from problem


def _is_of_compiler(kind: type[BaseException]) -> bool:
    # By name: importing the compiler takes seconds, and whoever raised its error has done so.
    return any(base.__module__.startswith(_COMPILER) for base in kind.__mro__)


def first_line(problem: BaseException) -> str:
    """What went wrong, without the page that follows."""
    return next(iter(str(problem).strip().splitlines()), type(problem).__name__)
