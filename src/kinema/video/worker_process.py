"""The process that decodes for :class:`~kinema.video.worker.Workers`, one job after the other."""

from __future__ import annotations

import ctypes
import faulthandler
import gc
import os
import resource
import select
import socket
import sys
from collections.abc import Callable
from contextlib import suppress

from kinema.errors import DecodeFailed, KinemaError, TooLarge
from kinema.video.info import plan, probe, timeline
from kinema.video.reader import kept
from kinema.video.reading import load_frames
from kinema.video.shots import find_shots
from kinema.video.sound import load_sound
from kinema.video.subtitles import read_subtitles
from kinema.video.wire import Call, Job, Reply, receive_job, send_reply

_M_MMAP_THRESHOLD = -3  # malloc.h
_LARGE_BYTES = 128 << 10
_KEPT_READERS = 2
"""Most pieces of a film lie in one group of pictures or two, and each group has a thread."""
_KEEP_SECONDS = 5.0
"""That a film stays open while no job comes: it may be deleted meanwhile."""
GRACE_SECONDS = 5.0
"""Time after the deadline that the parent has for killing; then the process ends itself."""


def main(words: list[str]) -> None:
    """Serve the channel with the given descriptor under the given memory limit."""
    channel = socket.socket(fileno=int(words[0]))
    memory_bytes = int(words[1])
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if memory_bytes:
        resource.setrlimit(resource.RLIMIT_AS, (memory_bytes, memory_bytes))
    _keep_large_pieces_apart()
    kept.most = _KEPT_READERS
    # A parent that was killed waits for no answer, and leaves nothing to complain about.
    with suppress(ConnectionError, EOFError):
        _serve(channel)


def _serve(channel: socket.socket) -> None:
    send_reply(channel, None)
    with open(os.devnull, "w") as nowhere:
        while (job := _next_job(channel)) is not None:
            # Runs below Python, so it also ends a decoder that never lets Python run again.
            faulthandler.dump_traceback_later(
                job.deadline_seconds + GRACE_SECONDS, exit=True, file=nowhere
            )
            result = _result(job)
            faulthandler.cancel_dump_traceback_later()
            send_reply(channel, result)
            del result
            _give_back()


def _next_job(channel: socket.socket) -> Job | None:
    """The next job, None when the parent has hung up."""
    if not select.select([channel], [], [], _KEEP_SECONDS)[0]:
        kept.close()
        _give_back()
    return receive_job(channel)


def _keep_large_pieces_apart() -> None:
    """Have tables and pictures mapped and unmapped whole, so that they leave no holes behind.

    glibc stops doing so for sizes that were freed once; the index of a long film and the pictures
    of each job then lie between each other, and memory grows by more than both.
    """
    with suppress(OSError, AttributeError):  # only glibc can be asked to
        ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, _LARGE_BYTES)


def _give_back() -> None:
    """Return freed memory to the system: the next job may be hours away."""
    gc.collect()
    with suppress(OSError, AttributeError):  # only glibc can be asked to
        ctypes.CDLL(None).malloc_trim(0)


CALLS: dict[Call, Callable[..., Reply]] = {
    "load_frames": load_frames,
    "load_sound": load_sound,
    "probe": probe,
    "plan": plan,
    "timeline": timeline,
    "find_shots": find_shots,
    "read_subtitles": read_subtitles,
}


def _result(job: Job) -> Reply | KinemaError:
    try:
        return CALLS[job.call](job.source, **job.keywords)
    except KinemaError as error:
        return error
    except MemoryError:
        return TooLarge(
            "The video needs more memory than a worker has.",
            hint="Ask for fewer or smaller frames.",
        )
    except Exception as error:
        return DecodeFailed(
            f"The video could not be read ({type(error).__name__}).",
            hint="Convert it to MP4 and try again.",
        )


if __name__ == "__main__":
    main(sys.argv[1:])
