"""What goes between a program and the process that decodes for it.

A job goes out pickled, from the trusting side to the trusted. What comes back is JSON and, for
pixels and clocks, the descriptor of a file without a name: a decoder that a hostile video has taken
over can send no objects, and one that dies leaves nothing behind.
"""

from __future__ import annotations

import base64
import json
import math
import mmap
import os
import pickle
import socket
import struct
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from kinema.errors import KinemaError, MediaError, UsageError
from kinema.types import Frames
from kinema.video.info import SamplingPlan, VideoInfo
from kinema.video.shots import Shot
from kinema.video.sound import Sound
from kinema.video.timeline import Timeline

_LENGTH = struct.Struct("!Q")
_LARGEST_REPLY_BYTES = 64 << 20
_CLOCKS = {"seconds": np.float64, "indices": np.int64}
_BYTES_A_TICK = 9
"""A frame's time and whether it is a key frame."""
_PLAIN = ("source", "total_frames", "duration_seconds", "source_fps")


Call = Literal["load_frames", "load_sound", "probe", "plan", "timeline", "find_shots"]
Shots = tuple[Shot, ...]
Reply = Frames | Sound | VideoInfo | SamplingPlan | Timeline | Shots


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
    body = json.dumps(_described(result)).encode()
    channel.sendall(_LENGTH.pack(len(body)) + body)
    if isinstance(result, Frames):
        _send_bytes(channel, result.pixels)
    elif isinstance(result, Timeline):
        _send_bytes(channel, _clock_bytes(result))


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
    if "shape" in reply:
        array = _array(channel, reply["shape"], give_up_at)
        return _frames(reply["frames"], array) if "frames" in reply else _timeline(reply, array)
    if "sound" in reply:
        samples = np.frombuffer(base64.b64decode(reply["sound"]["samples"]), "<i2")
        return Sound(samples, float(reply["sound"]["start_seconds"]))
    if "shots" in reply:
        return tuple(Shot(**shot) for shot in reply["shots"])
    if "info" in reply:
        return VideoInfo(**_with_tuples(reply["info"]))
    return SamplingPlan(**_with_tuples(reply["plan"])) if "plan" in reply else None


def _described(result: Reply | KinemaError | None) -> dict[str, Any]:
    match result:
        case None:
            return {}
        case KinemaError():
            return {"error": {"code": result.code, "message": str(result), "hint": result.hint}}
        case tuple():
            return {"shots": [shot.to_dict() for shot in result]}
        case Sound():
            samples = base64.b64encode(result.samples.astype("<i2").tobytes()).decode()
            return {"sound": {"samples": samples, "start_seconds": result.start_seconds}}
        case VideoInfo() | SamplingPlan():
            name = "info" if isinstance(result, VideoInfo) else "plan"
            return {name: result.to_dict()}
        case Timeline() | Frames():
            return _described_array(result)


def _described_array(result: Timeline | Frames) -> dict[str, Any]:
    """What stands beside the array that is sent after it."""
    if isinstance(result, Timeline):
        length, duration_seconds = len(result), result.duration_seconds
        return {"shape": (_BYTES_A_TICK * length,), "duration_seconds": duration_seconds}
    frames: dict[str, Any] = {name: getattr(result, name) for name in _PLAIN}
    frames |= {name: getattr(result, name).tolist() for name in _CLOCKS}
    return {"frames": frames | {"warnings": result.warnings}, "shape": result.pixels.shape}


def _with_tuples(values: dict[str, Any]) -> dict[str, Any]:
    return {name: tuple(v) if isinstance(v, list) else v for name, v in values.items()}


def _error(code: str, message: str, hint: str) -> KinemaError:
    known = {kind.code: kind for kind in _kinds(MediaError)} | {UsageError.code: UsageError}
    return known.get(code, MediaError)(message, hint=hint)


def _kinds(kind: type[KinemaError]) -> Iterator[type[KinemaError]]:
    yield kind
    for narrower in kind.__subclasses__():
        yield from _kinds(narrower)


def _frames(values: dict[str, Any], pixels: NDArray[np.uint8]) -> Frames:
    return Frames(
        pixels=pixels,
        seconds=np.array(values["seconds"], dtype=np.float64),
        indices=np.array(values["indices"], dtype=np.int64),
        warnings=tuple(map(str, values["warnings"])),
        **{name: values[name] for name in _PLAIN},
    )


def _clock_bytes(timeline: Timeline) -> NDArray[np.uint8]:
    """uint8[9 * N]: the float64 times of a clock, then a byte a frame for key frames."""
    return np.concatenate([timeline.seconds.view(np.uint8), timeline.keyframes.view(np.uint8)])


def _timeline(values: dict[str, Any], clock: NDArray[np.uint8]) -> Timeline:
    num_frames = clock.size // _BYTES_A_TICK
    seconds = clock[: 8 * num_frames].view(np.float64)
    # NaN is no time, and no comparison with it is true.
    if not num_frames or seconds[0] != 0 or not (seconds[1:] > seconds[:-1]).all():
        raise ValueError("the times of a clock increase from 0")
    return Timeline(seconds, clock[8 * num_frames :] != 0, float(values["duration_seconds"]))


def _send_bytes(channel: socket.socket, array: NDArray[np.uint8]) -> None:
    descriptor = _written(array)
    try:
        socket.send_fds(channel, [b"\0"], [descriptor])
    finally:
        os.close(descriptor)


def _written(array: NDArray[np.uint8]) -> int:
    """Descriptor of a file without a name that holds the array."""
    if hasattr(os, "memfd_create"):
        descriptor = os.memfd_create("kinema-frames")
    else:
        with tempfile.TemporaryFile() as file:
            descriptor = os.dup(file.fileno())
    left = np.ascontiguousarray(array).data.cast("B")
    while left:
        left = left[os.write(descriptor, left) :]
    return descriptor


def _array(channel: socket.socket, shape: list[int], give_up_at: float) -> NDArray[np.uint8]:
    """uint8 of this shape, copied: a mapping could be pulled away under the reader's feet.

    It lies in pages of its own, which are gone when the array is; the heap would keep holes of
    pictures between whatever lives longer.
    """
    channel.settimeout(max(0.001, give_up_at - time.monotonic()))
    _, descriptors, _, _ = socket.recv_fds(channel, 1, 1)
    if len(descriptors) != 1:
        raise EOFError
    try:
        if math.prod(shape) != os.fstat(descriptors[0]).st_size:
            raise ValueError("the array has another shape")
        pages = mmap.mmap(-1, math.prod(shape), flags=mmap.MAP_PRIVATE)
        _fill(memoryview(pages), descriptors[0])
    finally:
        os.close(descriptors[0])
    return np.frombuffer(pages, dtype=np.uint8).reshape(shape)


def _fill(target: memoryview, descriptor: int) -> None:
    position = 0
    while position < len(target):
        count = os.preadv(descriptor, [target[position:]], position)
        if count == 0:
            raise EOFError
        position += count


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
