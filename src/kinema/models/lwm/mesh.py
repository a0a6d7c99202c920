"""The device mesh ``dp,fsdp,tp,sp``: how it is written, which weights it cuts, what fits.

``dp`` and ``fsdp`` share out the batch, ``fsdp`` also the weights, ``tp`` heads and the wide
middle, ``sp`` the length of a prompt. With one device there is no mesh at all.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental import mesh_utils
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec
from numpy.typing import NDArray

from kinema.errors import UsageError
from kinema.models.lwm.config import LWMConfig
from kinema.models.lwm.llama import decoder_shapes

AXES = ("dp", "fsdp", "tp", "sp")

_WIDE = ("fsdp", "sp")
_RULES: tuple[tuple[str, tuple[str | tuple[str, ...], ...]], ...] = (
    (r"transformer/(wte|vte)/embedding$", ("tp", _WIDE)),
    (r"attention/(wq|wk|wv)/kernel$", (_WIDE, "tp")),
    (r"attention/wo/kernel$", ("tp", _WIDE)),
    (r"feed_forward/(w1|w3)/kernel$", (_WIDE, "tp")),
    (r"feed_forward/w2/kernel$", ("tp", _WIDE)),
    (r"(lm_head|vision_head)/kernel$", (_WIDE, "tp")),
)
"""Mesh axes of a tensor's last two dimensions; what no rule names is on every device."""


def make_mesh(text: str, *, devices: Sequence[jax.Device] | None = None) -> Mesh | None:
    """Build the mesh that ``1,1,-1,1`` or ``tp:-1,dp:1,fsdp:1,sp:1`` asks for.

    One dimension may be -1, which takes the devices that are left. A leading ``!`` keeps the
    devices in the order they are listed, instead of the order that suits their wiring.

    Returns:
        None when there is one device only.

    Raises:
        UsageError: the text cannot be read, or its product is not the number of devices.
    """
    devices = jax.devices() if devices is None else devices
    sizes = _parse(text.removeprefix("!"), text)
    known = math.prod(size for size in sizes if size != -1)
    filled = tuple(len(devices) // known if size == -1 else size for size in sizes)
    if math.prod(filled) != len(devices):
        raise UsageError(
            f"The mesh {text!r} wants {known} devices{' or a multiple' if -1 in sizes else ''} "
            f"and there are {len(devices)}.",
            hint=f"Use 1,1,-1,1, or four numbers whose product is {len(devices)}.",
        )
    if len(devices) == 1:
        return None
    if text.startswith("!"):
        grid = np.array(devices).reshape(filled)
    else:
        grid = mesh_utils.create_device_mesh(filled, devices=devices)
    return Mesh(grid, AXES, axis_types=(AxisType.Auto,) * len(AXES))


def _parse(dims: str, text: str) -> list[int]:
    hint = "Write dp,fsdp,tp,sp as four numbers, one of which may be -1: 1,1,-1,1."
    parts = [part.strip() for part in dims.split(",")]
    if all(":" in part for part in parts):
        named = dict(part.split(":", 1) for part in parts)
        if set(named) != set(AXES) or len(parts) != len(AXES):
            raise UsageError(
                f"The mesh {text!r} does not name each of dp, fsdp, tp, sp.", hint=hint
            )
        parts = [named[axis] for axis in AXES]
    try:
        sizes = [int(part) for part in parts]
    except ValueError:
        raise UsageError(f"The mesh {text!r} is not made of numbers.", hint=hint) from None
    if len(sizes) != len(AXES):
        raise UsageError(f"The mesh {text!r} has {len(sizes)} dimensions, not 4.", hint=hint)
    if any(size < 1 and size != -1 for size in sizes) or sizes.count(-1) > 1:
        raise UsageError(
            f"The mesh {text!r} has a dimension below 1, or more than one -1.", hint=hint
        )
    return sizes


def partition(name: str, num_dims: int) -> PartitionSpec:
    """Which mesh axes cut which dimensions of a tensor; leading layer axes stay whole."""
    for pattern, axes in _RULES:
        if re.search(pattern, name):
            return PartitionSpec(*(None,) * (num_dims - len(axes)), *axes)
    return PartitionSpec()


def check_model(mesh: Mesh | None, config: LWMConfig) -> None:
    """Refuse a mesh that cannot cut this model.

    Raises:
        UsageError: names the rule, the number it does not divide, and what would fit.
    """
    if mesh is None:
        return
    heads = config.num_attention_heads
    _check_divides("tp", mesh.shape["tp"], f"the {heads} attention heads", heads)
    for name, shape in decoder_shapes(config).items():
        for size, axes in zip(shape, partition(name, len(shape)), strict=False):
            if axes is not None:
                names = (axes,) if isinstance(axes, str) else axes
                parts = math.prod(mesh.shape[axis] for axis in names)
                _check_divides(" × ".join(names), parts, f"dimension {size} of {name}", size)


def batch_multiple(mesh: Mesh | None) -> int:
    """A batch must be a multiple of this."""
    return mesh.shape["dp"] * mesh.shape["fsdp"] if mesh else 1


def _check_divides(rule: str, parts: int, what: str, size: int) -> None:
    if size % parts:
        fits = ", ".join(str(n) for n in range(1, size + 1) if size % n == 0 and n <= 4 * parts)
        raise UsageError(
            f"The mesh has {rule} = {parts}, which does not divide {what}.",
            hint=f"{rule} may be {fits}.",
        )


def sharding(mesh: Mesh | None, spec: PartitionSpec) -> jax.sharding.Sharding:
    """Where an array goes: cut as the spec says, or whole on the default device."""
    if mesh is None:
        return jnp.zeros(()).sharding
    return NamedSharding(mesh, spec)


def on_all(mesh: Mesh | None, values: Mapping[str, NDArray[Any]]) -> dict[str, jax.Array]:
    """Copies of host arrays on every device, also when the mesh spans several hosts."""
    place = sharding(mesh, PartitionSpec())
    return {
        name: jax.make_array_from_callback(value.shape, place, value.__getitem__)
        for name, value in values.items()
    }
