"""Small data sets of filmed actions in the exact layouts of Breakfast and 50Salads.

    python examples/small_actions.py FOLDER

writes ``FOLDER/BreakfastII_15fps_qvga_sync`` and ``FOLDER/50salads``. The videos are drawn: a label
is a colour, so that what is done can be seen.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import av
import numpy as np
from numpy.typing import NDArray

BREAKFAST = "BreakfastII_15fps_qvga_sync"
TEA = (("SIL", 10), ("take_cup", 15), ("add_teabag", 20), ("pour_water", 10), ("SIL", 5))
MILK = (("walk_in", 5), ("SIL", 5), ("pour_milk", 30), ("walk_out", 5))
SALAD = (("action_start", 10), ("cut_tomato", 25), ("add_oil", 15), ("action_end", 10))

Steps = Sequence[tuple[str, int]]
"""Labels with how many frames each lasts."""


def colour(label: str) -> tuple[int, int, int]:
    """RGB of a label; SIL is grey."""
    if label == "SIL":
        return (110, 110, 110)
    seed = sum(ord(letter) * (place + 7) for place, letter in enumerate(label))
    return (seed * 37 % 256, seed * 91 % 256, seed * 53 % 256)


def draw(steps: Steps, *, height: int, width: int) -> list[NDArray[np.uint8]]:
    """A disc in the label's colour that goes round."""
    labels = [label for label, count in steps for _ in range(count)]
    rows, columns = np.mgrid[:height, :width]
    pictures = []
    for index, label in enumerate(labels):
        angle = index / 10
        y, x = height / 2 + height / 5 * np.sin(angle), width / 2 + width / 5 * np.cos(angle)
        inside = (rows - y) ** 2 + (columns - x) ** 2 < (height / 4) ** 2
        picture = np.full((height, width, 3), 30, dtype=np.uint8)
        picture[inside] = colour(label)
        pictures.append(picture)
    return pictures


def label_lines(steps: Steps, *, dash: str = "-", end: str = " ") -> str:
    """Lines as ``.avi.labels`` has them: from 1, each end the next start, the last one N."""
    lines, start = [], 1
    total = sum(count for _, count in steps)
    for label, count in steps:
        stop = min(start + count, total)
        lines.append(f"{start}{dash}{stop} {label}{end}\n")
        start += count
    return "".join(lines)


def film(path: Path, steps: Steps, *, fps: int = 15, height: int = 60, width: int = 80) -> None:
    """An AVI of the steps."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with av.open(str(path), "w") as output:
        stream = output.add_stream("mpeg4", rate=fps)
        stream.height, stream.width, stream.pix_fmt = height, width, "yuv420p"
        for picture in draw(steps, height=height, width=width):
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))


def make_breakfast(
    root: Path,
    persons: Sequence[str] = ("P03", "P16"),
    activities: Mapping[str, Steps] | None = None,
) -> Path:
    """Two cameras and a stereo pair a recording; one stereo channel alone has labels."""
    for person in persons:
        for activity, steps in (activities or {"tea": TEA, "milk": MILK}).items():
            for camera, ending in (("cam01", ""), ("stereo", "_ch0"), ("stereo", "_ch1")):
                video = root / BREAKFAST / person / camera / f"{person}_{activity}{ending}.avi"
                film(video, steps)
                if ending != "_ch1":
                    video.with_name(f"{video.name}.labels").write_text(label_lines(steps))
    return root / BREAKFAST


def make_salads(root: Path, persons: Sequence[str] = ("01", "02", "03", "04", "05")) -> Path:
    """The videos of some persons, twice each, and the fork's ground truth."""
    (root / "timestampGT2").mkdir(parents=True)
    for person in persons:
        for take in (1, 2):
            name = f"rgb-{person}-{take}"
            film(root / "rgb" / f"{name}.avi", SALAD, fps=30)
            lines = label_lines(SALAD, dash=" - ", end="").replace("_", " ")
            (root / "timestampGT2" / name).write_text(lines)
    return root


if __name__ == "__main__":
    target = Path(sys.argv[1])
    make_breakfast(target)
    make_salads(target / "50salads")
