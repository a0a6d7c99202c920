"""What goes between a program and the process that decodes for it.

A job goes out pickled, from the trusting side to the trusted. What comes back is JSON and, for
each array, the descriptor of a file without a name: a decoder that a hostile video has taken over
can send no objects, and one that dies leaves nothing behind.
"""

from __future__ import annotations

import json
import math
import mmap
import os
import pickle
import socket
import struct
import tempfile
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import DTypeLike, NDArray

from kinema.errors import KinemaError, MediaError, UsageError
from kinema.plain import Plain
from kinema.types import Frames
from kinema.video.cues import Subtitles
from kinema.video.info import SamplingPlan, VideoInfo
from kinema.video.shots import Shot
from kinema.video.sound import Sound
from kinema.video.timeline import Timeline

_LENGTH = struct.Struct("!Q")
_LARGEST_REPLY_BYTES = 64 << 20
_ARRAYS: Mapping[type[Any], Mapping[str, DTypeLike]] = {
    Frames: {"pixels": np.uint8, "seconds": np.float64, "indices": np.int64},
    Sound: {"samples": np.int16},
    Timeline: {"seconds": np.float64, "keyframes": np.uint8},
    VideoInfo: {},
    SamplingPlan: {},
    Subtitles: {},
}
"""What may come back, and which of its fields are arrays of which numbers."""


Call = Literal[
    "load_frames", "load_sound", "probe", "plan", "timeline", "find_shots", "read_subtitles"
]
Shots = tuple[Shot, ...]
Reply = Frames | Sound | VideoInfo | SamplingPlan | Subtitles | Timeline | Shots


@dataclass(frozen=True)
class Job:
    """One call of a function of :mod:`kinema.video`."""

    source: Any
    keywords: dict[str, Any]
    deadline_seconds: float
    call: Call = "load_frames"


def send_job(channel: socket.socket, job: Job, *, give_up_at: float) -> None:
    """Raises ``TimeoutError`` when the other side does not listen, ``OSError`` when it is gone."""
    body = pickle.dumps(job)
    channel.settimeout(max(0.001, give_up_at - time.monotonic()))
    channel.sendall(_LENGTH.pack(len(body)) + body)


def receive_job(channel: socket.socket) -> Job | None:
    """The next job, None when the other side has hung up."""
    try:
        (length,) = _LENGTH.unpack(_exactly(channel, _LENGTH.size))
        job = pickle.loads(_exactly(channel, length))
    except EOFError:
        return None
    assert isinstance(job, Job)
    return job


def send_reply(channel: socket.socket, result: Reply | KinemaError | None) -> None:
    """Answer with what was asked for, an error, or None for "ready"."""
    arrays: list[NDArray[Any]] = []
    if result is None:
        reply: dict[str, Any] = {}
    elif isinstance(result, KinemaError):
        message, hint = result.written
        reply = {"error": {"code": result.code, "message": message, "hint": hint}}
    elif isinstance(result, tuple):
        reply = {"shots": [shot.to_dict() for shot in result]}
    else:
        kind = type(result)
        arrays = [np.asarray(getattr(result, n), dtype) for n, dtype in _ARRAYS[kind].items()]
        if isinstance(result, Plain):
            values = result.to_dict()
        else:
            names = [f.name for f in fields(kind) if f.name not in _ARRAYS[kind]]
            values = {name: getattr(result, name) for name in names}
        shapes = [array.shape for array in arrays]
        reply = {"kind": kind.__name__, "values": values, "shapes": shapes}
    body = json.dumps(reply).encode()
    channel.sendall(_LENGTH.pack(len(body)) + body)
    for array in arrays:
        descriptor = _written(array)
        try:
            socket.send_fds(channel, [b"\0"], [descriptor])
        finally:
            os.close(descriptor)


def receive_reply(channel: socket.socket, *, give_up_at: float) -> Reply | KinemaError | None:
    """The other side's answer, believed only as far as it can be checked.

    Raises:
        TimeoutError: it did not come in time.
        EOFError: the other side died.
        ValueError: it makes no sense.
    """
    (length,) = _LENGTH.unpack(_exactly(channel, _LENGTH.size, give_up_at))
    if length > _LARGEST_REPLY_BYTES:
        raise ValueError("an answer of this length is no answer")
    reply = json.loads(_exactly(channel, length, give_up_at))
    if "error" in reply:
        return _error(**reply["error"])
    if "shots" in reply:
        return tuple(Shot(**shot) for shot in reply["shots"])
    if "kind" not in reply:
        return None
    kind = {kind.__name__: kind for kind in _ARRAYS}[reply["kind"]]
    if kind in (VideoInfo, SamplingPlan, Subtitles):
        told: Reply = kind.from_dict(reply["values"])
        return told
    values: dict[str, Any] = {
        n: tuple(v) if isinstance(v, list) else v for n, v in reply["values"].items()
    }
    for (name, dtype), shape in zip(_ARRAYS[kind].items(), reply["shapes"], strict=True):
        values[name] = _array(channel, shape, np.dtype(dtype), give_up_at)
    if kind is Timeline:
        values["keyframes"] = values["keyframes"] != 0
        _check_clock(values["seconds"], values["keyframes"], values["duration_seconds"])
    result: Reply = kind(**values)
    return result


def _error(code: str, message: str, hint: str) -> KinemaError:
    known = {kind.code: kind for kind in _kinds(MediaError)} | {UsageError.code: UsageError}
    return known.get(code, MediaError)(message, hint=hint)


def _kinds(kind: type[KinemaError]) -> Iterator[type[KinemaError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from _kinds(narrower)


def _check_clock(
    seconds: NDArray[np.float64], keyframes: NDArray[np.bool_], duration_seconds: float
) -> None:
    # NaN is no time, and no comparison with it is true.
    increases = len(seconds) and seconds[0] == 0 and (seconds[1:] > seconds[:-1]).all()
    if seconds.ndim != 1 or not increases or keyframes.shape != seconds.shape:
        raise ValueError("the times of a clock increase from 0")
    if not isinstance(duration_seconds, float):
        raise TypeError("a length of time is a number")


def _written(array: NDArray[Any]) -> int:
    """Descriptor of a file without a name that holds the array."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("kinema-frames")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    left = np.ascontiguousarray(array).reshape(-1).view(np.uint8).data
    while left:
        left = left[os.write(descriptor, left) :]
    return descriptor


def _array(
    channel: socket.socket, shape: list[int], dtype: np.dtype[Any], give_up_at: float
) -> NDArray[Any]:
    """The next array, copied: a mapping could be pulled away under the reader's feet.

    It lies in pages of its own, which are gone when the array is; the heap would keep holes of
    pictures between whatever lives longer.
    """
    channel.settimeout(max(0.001, give_up_at - time.monotonic()))
    _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    if len(descriptors) != 1:
        raise EOFError
    try:
        num_bytes = math.prod(shape) * dtype.itemsize
        if num_bytes != os.fstat(descriptors[0]).st_size:
            raise ValueError("the array has another shape")
        if num_bytes == 0:
            return np.empty(shape, dtype)
        pages = mmap.mmap(-1, num_bytes, flags=mmap.MAP_PRIVATE)
        target, position = memoryview(pages), 0
        while position < num_bytes:
            count = os.preadv(descriptors[0], [target[position:]], position)
            if count == 0:
                raise EOFError
            position += count
    finally:
        os.close(descriptors[0])
    return np.frombuffer(pages, dtype).reshape(shape)


def _exactly(channel: socket.socket, count: int, give_up_at: float | None = None) -> bytes:
    pieces = bytearray()
    while len(pieces) < count:
        if give_up_at is not None:
            channel.settimeout(max(0.001, give_up_at - time.monotonic()))
        piece = channel.recv(min(count - len(pieces), 1 << 20))
        if not piece:
            raise EOFError
        pieces += piece
    return bytes(pieces)
