"""High dynamic range to the 8-bit RGB of an ordinary screen.

Light below the knee keeps its brightness, so faces and rooms look as they do in an ordinary video;
brighter light is rolled off instead of clipped. Formulas: ITU-R BT.2100 (PQ, HLG), BT.2087 (the
change of primaries), BT.2408 (reference white 203 cd/m²), BT.1886 (the screen's gamma 2.4).
"""

from __future__ import annotations

from functools import lru_cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Transfer = Literal["pq", "hlg"]

_REFERENCE_WHITE_NITS = 203.0
_HLG_PEAK_NITS = 1000.0
_HLG_SYSTEM_GAMMA = 1.2
_KNEE = 0.75
_BT2020_TO_BT709 = np.array(
    [[1.6605, -0.5876, -0.0728], [-0.1246, 1.1329, -0.0083], [-0.0182, -0.1006, 1.1187]],
    dtype=np.float32,
)
_BT2020_LUMINANCE = np.array([0.2627, 0.6780, 0.0593], dtype=np.float32)


def to_sdr(rgb: NDArray[np.uint16], transfer: Transfer, *, wide: bool = True) -> NDArray[np.uint8]:
    """uint16[H, W, 3] in BT.2020 code values to uint8[H, W, 3] for an ordinary screen.

    Args:
        wide: the primaries are BT.2020's; False leaves the primaries alone.
    """
    light = _screen_light(rgb, transfer) / _REFERENCE_WHITE_NITS
    peak = light.max(axis=-1, keepdims=True)
    light *= _roll_off(peak) / np.maximum(peak, 1e-6)
    if wide:
        light = light @ _BT2020_TO_BT709.T
    signal = np.clip(light, 0, 1) ** np.float32(1 / 2.4)
    picture: NDArray[np.uint8] = (signal * 255 + 0.5).astype(np.uint8)
    return picture


def _roll_off(light: NDArray[np.float32]) -> NDArray[np.float32]:
    """The identity below the knee, then smoothly towards 1."""
    room = 1 - _KNEE
    bent = _KNEE + room * (1 - np.exp(-(light - _KNEE) / room))
    return np.where(light > _KNEE, bent, light)


def _screen_light(rgb: NDArray[np.uint16], transfer: Transfer) -> NDArray[np.float32]:
    """float32[H, W, 3], cd/m² that a reference screen shows."""
    if transfer == "pq":
        return _pq_table()[rgb]
    scene = _hlg_table()[rgb]
    luminance = np.maximum(scene @ _BT2020_LUMINANCE, 1e-6)[..., None]
    shown: NDArray[np.float32] = _HLG_PEAK_NITS * luminance ** (_HLG_SYSTEM_GAMMA - 1) * scene
    return shown


@lru_cache(maxsize=1)
def _pq_table() -> NDArray[np.float32]:
    """float32[65536], cd/m² of each code value."""
    root = np.linspace(0, 1, 1 << 16) ** (1 / 78.84375)
    ratio = np.maximum(root - 0.8359375, 0) / (18.8515625 - 18.6875 * root)
    return (10_000 * ratio ** (1 / 0.1593017578125)).astype(np.float32)


@lru_cache(maxsize=1)
def _hlg_table() -> NDArray[np.float32]:
    """float32[65536], scene light between 0 and 1 of each code value."""
    code = np.linspace(0, 1, 1 << 16)
    bright = (np.exp((code - 0.55991073) / 0.17883277) + 0.28466892) / 12
    return np.where(code <= 0.5, code**2 / 3, bright).astype(np.float32)
