"""Coloured timelines of action segments: the prediction over the truth."""

from __future__ import annotations

import colorsys
from collections.abc import Sequence

from PIL import Image, ImageDraw

from kinema.datasets.segments import runs

_MARGIN_PIXELS = 8
_BAR_PIXELS = 28
_CAPTION_PIXELS = 76
_LINE_PIXELS = 16
_GOLDEN_TURN = 0.618034


def colour_of(index: int) -> tuple[int, int, int]:
    """RGB of the ``index``-th label; neighbours differ clearly."""
    hue = (index * _GOLDEN_TURN) % 1.0
    r, g, b = colorsys.hsv_to_rgb(hue, 0.45 + 0.4 * (index % 2), 0.95 - 0.25 * (index // 2 % 2))
    return round(r * 255), round(g * 255), round(b * 255)


def draw_timeline(
    prediction: Sequence[str], truth: Sequence[str], *, title: str = "", width: int = 960
) -> Image.Image:
    """Two bars, one label a frame, and a legend of the labels that occur.

    Labels have the same colour in both bars, given in the order of their first appearance in the
    truth, then in the prediction. Frames whose label is empty stay white.
    """
    names = list(filter(None, dict.fromkeys([*truth, *prediction])))
    colours = {name: colour_of(i) for i, name in enumerate(names)}
    legend = _legend_lines(names, width - 2 * _MARGIN_PIXELS)
    bars_end = _LINE_PIXELS + 2 * (_BAR_PIXELS + _MARGIN_PIXELS) + _MARGIN_PIXELS
    image = Image.new("RGB", (width, bars_end + len(legend) * _LINE_PIXELS + 8), "white")
    draw = ImageDraw.Draw(image)
    draw.text((_MARGIN_PIXELS, 3), f"{title}  {len(truth)} frames".strip(), fill="black")
    bar_left, bar_right = _MARGIN_PIXELS + _CAPTION_PIXELS, width - _MARGIN_PIXELS
    for row, (caption, labels) in enumerate((("prediction", prediction), ("truth", truth))):
        top = _LINE_PIXELS + _MARGIN_PIXELS + row * (_BAR_PIXELS + _MARGIN_PIXELS)
        draw.text((_MARGIN_PIXELS, top + 8), caption, fill="black")
        scale = (bar_right - bar_left) / max(1, len(labels))
        for segment in runs(labels):
            start = bar_left + round(segment.start * scale)
            # A segment of one frame of a long video still gets its pixel.
            end = max(start, bar_left + round(segment.end * scale) - 1)
            fill = colours.get(segment.label, "white")
            draw.rectangle((start, top, end, top + _BAR_PIXELS), fill=fill)
        draw.rectangle((bar_left, top, bar_right, top + _BAR_PIXELS), outline="grey")
    for line, entries in enumerate(legend):
        top = bars_end + line * _LINE_PIXELS
        for left, name in entries:
            draw.rectangle((left, top + 2, left + 10, top + 12), fill=colours[name])
            draw.text((left + 14, top), name.encode("ascii", "replace").decode(), fill="black")
    return image


def _legend_lines(names: Sequence[str], width: int) -> list[list[tuple[int, str]]]:
    """Names with their left edges, broken into lines."""
    lines: list[list[tuple[int, str]]] = [[]]
    left = _MARGIN_PIXELS
    for name in names:
        needed = 24 + 6 * len(name)
        if lines[-1] and left + needed > width:
            lines.append([])
            left = _MARGIN_PIXELS
        lines[-1].append((left, name))
        left += needed
    return lines
