"""Histograms of a data file as one picture."""

from __future__ import annotations

from pathlib import Path

from PIL import Image, ImageDraw

from kinema.tasks.data.stats import DataStats, Histogram

_WIDTH, _ROW, _MARGIN, _LABEL_ROW = 720, 150, 12, 14
_MOST_LABELS = 60
_BAR = (70, 120, 190)


def save_plot(stats: DataStats, path: Path) -> None:
    """Write a picture: a panel a histogram, then a bar a label."""
    labels = list(stats.labels.items())[:_MOST_LABELS]
    height = _ROW * len(stats.histograms) + _LABEL_ROW * (len(labels) + 2)
    image = Image.new("RGB", (_WIDTH, height), "white")
    draw = ImageDraw.Draw(image)
    for place, histogram in enumerate(stats.histograms):
        _draw_histogram(draw, histogram, top=place * _ROW)
    top = _ROW * len(stats.histograms)
    most = max((count for _, count in labels), default=1)
    for place, (label, count) in enumerate(labels):
        _draw_label(draw, label, count, most, top=top + _LABEL_ROW * place)
    image.save(path, "PNG")


def _draw_histogram(draw: ImageDraw.ImageDraw, histogram: Histogram, *, top: int) -> None:
    title = f"{histogram.title}: median {histogram.median:g}"
    draw.text((_MARGIN, top + 2), title, fill="black")
    base, room = top + _ROW - 24, _ROW - 48
    width = (_WIDTH - 2 * _MARGIN) // len(histogram.counts)
    most = max(histogram.counts)
    for place, count in enumerate(histogram.counts):
        left = _MARGIN + place * width
        if count:
            draw.rectangle(
                (left, base - max(1, room * count // most), left + width - 3, base), fill=_BAR
            )
        draw.text((left, base + 4), f"{histogram.edges[place]:.3g}", fill="grey")


def _draw_label(draw: ImageDraw.ImageDraw, label: str, count: int, most: int, *, top: int) -> None:
    draw.text((_MARGIN, top), label.encode("ascii", "replace").decode(), fill="black")
    right = 200 + (_WIDTH - 280) * count // most
    draw.rectangle((200, top + 2, max(201, right), top + 11), fill=_BAR)
    draw.text((right + 6, top), str(count), fill="grey")
