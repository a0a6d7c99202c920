"""The captioning demo's module, for graphs of BMF (Babit Multimedia Framework).

    video.module("llm_caption", option, kinema.bmf_caption.FOLDER, "bmf_caption.llm_caption")

``option`` is the demo's own: model, backend, batch_size, result_path, multithreading, max_threads,
pass_through. Protocol of Python modules: BMF's ``python_sdk/module.py`` and ``timestamp.py``.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from kinema.errors import UnknownName
from kinema.lazy import load
from kinema.tasks.caption.stage import Captioner
from kinema.tasks.models import DEFAULT_MODEL

if TYPE_CHECKING:
    _Module = object
else:
    try:
        from bmf import Module as _Module
    except ImportError:  # BMF is not installed, or its FFmpeg is missing
        _Module = object

FOLDER = str(Path(__file__).parent)
"""Where BMF finds this file."""
OPTIONS = (
    *("model", "backend", "batch_size", "result_path", "multithreading", "max_threads"),
    "pass_through",
)
_EOF, _DONE = sys.maxsize - 3, sys.maxsize
_OK = 0
_MICROSECONDS = 1_000_000
_THREADS = 2
"""The demo's number, where it is to have several."""


class llm_caption(_Module):
    """Describes the frames that go through a node of a graph."""

    def __init__(self, node: Any = None, option: Mapping[str, Any] | None = None) -> None:
        given = dict(option or {})
        for name in given:
            if name not in OPTIONS:
                raise UnknownName("option of the captioning module", name, OPTIONS)
        super().__init__(*(() if _Module is object else (node, given)))
        self._passes = bool(given.get("pass_through", False))
        threads = given.get("max_threads", _THREADS) if given.get("multithreading") else None
        self._captioner = Captioner(
            given.get("model") or DEFAULT_MODEL,
            engine=given.get("backend"),
            batch_size=given.get("batch_size", 4),
            result_path=given.get("result_path", "result.json"),
            max_threads=threads,
        )

    def process(self, task: Any) -> int:
        """Take what has arrived; at the end of the stream write the result and end the task."""
        frames = task.get_inputs()[0]
        outputs = task.get_outputs()
        while not frames.empty():
            packet = frames.get()
            if packet.timestamp == _EOF:
                self._captioner.finish()
                for queue in outputs.values():
                    queue.put(packet)
                task.timestamp = _DONE
                break
            if (frame := _video_frame(packet)) is None:
                continue
            if self._passes and 0 in outputs:
                outputs[0].put(packet)
            self._captioner.add(packet.timestamp / _MICROSECONDS, _pixels(frame))
        return _OK

    def reset(self) -> None:
        """Another stream begins; the model stays."""
        self._captioner.drop()

    def close(self) -> None:
        """Give the engine's memory back."""
        self._captioner.close()


def _video_frame(packet: Any) -> Any:
    """The picture in a packet, None where it holds sound or something else."""
    kind = load("bmf:VideoFrame")  # whoever hands out packets has it
    return packet.get(kind) if packet.is_(kind) else None


def _pixels(frame: Any) -> NDArray[np.uint8]:
    """uint8[H, W, 3] of a frame in any format."""
    hmp = load("bmf:hmp")
    shown = frame.reformat(hmp.PixelInfo(hmp.kPF_RGB24))
    return np.asarray(shown.frame().plane(0).numpy())
