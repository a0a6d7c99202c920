"""Weights in fewer bits: what ``--quantization`` means to transformers."""

from __future__ import annotations

from typing import Any

import torch
from transformers import BitsAndBytesConfig

from kinema.errors import ModelError
from kinema.lazy import require_packages

_PACKAGE = {"bnb": "bitsandbytes", "torchao": "torchao"}


def quantization_config(choice: str, compute_dtype: torch.dtype) -> Any:
    """The configuration object for ``from_pretrained``.

    Args:
        choice: ``bnb-4bit`` (nf4), ``bnb-8bit``, ``torchao-int8``, ``torchao-int4`` or
            ``torchao-fp8``, all weight-only.
        compute_dtype: number format that matrix products run in.

    Raises:
        MissingPackage: the library behind it is not installed.
    """
    require_packages(f"--quantization {choice}", [_PACKAGE[choice.partition("-")[0]]])
    if choice == "bnb-4bit":
        return BitsAndBytesConfig(
            load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=compute_dtype
        )
    if choice == "bnb-8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    import torchao.quantization as ao  # noqa: PLC0415  optional, asked for above
    from transformers import TorchAoConfig  # noqa: PLC0415  wants torchao when it is imported

    if choice == "torchao-int8":
        return TorchAoConfig(ao.Int8WeightOnlyConfig())
    if choice == "torchao-fp8":
        return TorchAoConfig(ao.Float8WeightOnlyConfig())
    if torch.cuda.is_available():
        return TorchAoConfig(ao.Int4WeightOnlyConfig())
    # The packed layout wants a GPU; this one computes the same four bits anywhere.
    four_bits: Any = torch.int4  # type: ignore[attr-defined]
    return TorchAoConfig(ao.IntxWeightOnlyConfig(weight_dtype=four_bits))


def refuse_saving_after_forward(model: Any) -> None:
    """Guard against a silent loss: bitsandbytes repacks 4-bit weights in their first CPU forward.

    What is saved after that loads without an error and answers differently.
    """
    save = model.save_pretrained
    ran = False

    def note(*_: Any) -> None:
        nonlocal ran
        ran = True

    def guarded(*args: Any, **kwargs: Any) -> Any:
        if ran:
            raise ModelError(
                "These 4-bit weights were repacked when the model first ran; saved now, "
                "they would load as other weights.",
                hint="Load the model again and save it before asking it anything.",
            )
        return save(*args, **kwargs)

    model.register_forward_pre_hook(note)
    model.save_pretrained = guarded
