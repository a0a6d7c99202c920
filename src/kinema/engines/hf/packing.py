"""Linear layers of a language model on a CPU, their weights laid out once for oneDNN.

A follow-up multiplies a few rows with every weight. torch's own routine lays each weight out
anew for that, every time; with weights that lie ready it takes about two thirds of the time.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torch.nn.functional import pad

_FEWEST_WEIGHTS = 1 << 19
"""Smaller layers stay as they are: they fit a core's cache and gain little."""
_ROWS = 32
"""Rows of the products that the layout is made for."""
_FEWEST_ROWS = 4
"""oneDNN takes a third longer for the one row of a generated token than for four of this layout."""


class PackedLinear(nn.Module):
    """``x @ weight.T + bias`` of a float32 layer, for inference on a CPU."""

    def __init__(self, linear: nn.Linear) -> None:
        super().__init__()
        self.bias = linear.bias
        dense = linear.weight.detach()
        self._packed: torch.Tensor = torch.ops.mkldnn._reorder_linear_weight(dense, _ROWS)

    @property
    def weight(self) -> torch.Tensor:
        """``float32[out, in]`` as oneDNN keeps it."""
        return self._packed

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """``float32[..., in]`` to ``float32[..., out]``."""
        rows = x.reshape(-1, x.shape[-1])
        filled = pad(rows, (0, 0, 0, max(0, _FEWEST_ROWS - len(rows))))
        product = _product(filled, self._packed, self.bias)[: len(rows)]
        return product.reshape(*x.shape[:-1], product.shape[-1])

    def _save_to_state_dict(self, destination: Any, prefix: str, keep_vars: bool) -> None:
        super()._save_to_state_dict(destination, prefix, keep_vars)
        destination[f"{prefix}weight"] = self._packed.to_dense()


class DirectLinear(nn.Linear):
    """The same product on a head's weights that stay as they are, as the input's table is them.

    For one row, torch's routine takes a quarter longer than oneDNN's.
    """

    def __init__(self, linear: nn.Linear) -> None:
        nn.Module.__init__(self)
        self.in_features, self.out_features = linear.in_features, linear.out_features
        self.weight, self.bias = linear.weight, linear.bias

    def forward(self, input: torch.Tensor) -> torch.Tensor:
        """``float32[..., in]`` to ``float32[..., out]``."""
        return _product(input, self.weight, self.bias)


def _product(x: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None) -> torch.Tensor:
    result: torch.Tensor = torch.ops.mkldnn._linear_pointwise(x, weight, bias, "none", [], "")
    return result


def pack_linears(model: Any) -> None:
    """Replace the large float32 layers of the model's decoder, and its head, on a CPU."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return
    shared = model.get_input_embeddings().weight
    head = model.get_output_embeddings()
    decoder = set(model.get_decoder().modules())
    for module in list(model.modules()):
        for name, layer in list(module.named_children()):
            if (module in decoder or layer is head) and _is_worth_it(layer):
                stays = layer.weight is shared
                setattr(module, name, (DirectLinear if stays else PackedLinear)(layer))


def _is_worth_it(layer: nn.Module) -> bool:
    # Exactly this class: others, of fewer bits or with an adapter, do more than a product.
    if type(layer) is not nn.Linear or type(layer.weight) is not nn.Parameter:
        return False
    weight = layer.weight
    is_plain = weight.device.type == "cpu" and weight.dtype == torch.float32
    return is_plain and weight.numel() >= _FEWEST_WEIGHTS
