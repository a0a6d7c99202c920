"""Errors of torch and transformers, each as the class that says whom to blame."""

from __future__ import annotations

import pytest
import torch

from kinema.engines.hf.errors import translated
from kinema.errors import EngineDied, ModelError, OutOfMemory, RequestRefused

NO_ROOM = "[enforce fail at alloc_cpu.cpp:127] DefaultCPUAllocator: can't allocate memory"


@pytest.mark.parametrize(
    ("raised", "ours"),
    [
        (torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB."), OutOfMemory),
        (RuntimeError(NO_ROOM), OutOfMemory),
        (RuntimeError("CUDA error: out of memory"), OutOfMemory),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling"), OutOfMemory),
        (MemoryError("Unable to allocate 32.0 GiB for an array"), OutOfMemory),
        (RuntimeError("CUDA error: device-side assert triggered"), EngineDied),
        (RuntimeError("CUDA error: an illegal memory access was encountered"), EngineDied),
        (torch.AcceleratorError("CUDA error: unspecified launch failure"), EngineDied),
        (RuntimeError("CUBLAS_STATUS_EXECUTION_FAILED when calling cublasSgemm"), EngineDied),
        (RuntimeError("cuDNN error: CUDNN_STATUS_EXECUTION_FAILED"), EngineDied),
        (RuntimeError("HIP error: unspecified launch failure"), EngineDied),
        (RuntimeError("The size of tensor a (3) must match tensor b (4)"), RequestRefused),
        (ValueError("too many images"), RequestRefused),
        (TypeError("unexpected keyword"), RequestRefused),
        (IndexError("index out of range in self"), RequestRefused),
    ],
    ids=str,
)
def test_each_has_its_class_and_its_cause(raised, ours):
    with pytest.raises(ModelError) as caught, translated():
        raise raised
    assert type(caught.value) is ours
    assert caught.value.__cause__ is raised


def test_memory_that_no_machine_has_is_out_of_memory():
    with pytest.raises(OutOfMemory), translated():
        torch.empty(1 << 55, dtype=torch.uint8)


@pytest.mark.parametrize("raised", [KeyError("layer"), AttributeError("eos"), KeyboardInterrupt()])
def test_what_nobody_names_comes_out_as_it_is(raised):
    with pytest.raises(type(raised)) as caught, translated():
        raise raised
    assert caught.value is raised


def test_errors_of_ours_pass():
    refused = RequestRefused("The prompt holds 2 <video>.")
    with pytest.raises(RequestRefused) as caught, translated():
        raise refused
    assert caught.value is refused
