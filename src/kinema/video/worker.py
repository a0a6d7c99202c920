"""Reading videos in processes that can be killed: a hang or a crash costs one file and no more."""

from __future__ import annotations

import hashlib
import logging
import queue
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections import Counter
from pathlib import Path
from typing import Any, Self, TypeVar

from kinema.errors import DecodeDeadline, DecoderCrashed, KinemaError, UsageError
from kinema.types import Frames, FrameSampling, PictureFolder, Source
from kinema.video.access import LOCAL, Access
from kinema.video.cues import Subtitles
from kinema.video.decoder import DecoderName, Size
from kinema.video.info import SamplingPlan, VideoInfo
from kinema.video.pictures import is_array
from kinema.video.reading import load_frames
from kinema.video.sound import Sound
from kinema.video.source import open_media
from kinema.video.timeline import Timeline
from kinema.video.url_gate import is_url
from kinema.video.wire import Call, Job, Reply, Shots, receive_reply, send_job

_log = logging.getLogger(__name__)

_START_SECONDS = 60.0
_STRIKES = 2
"""A content that has killed so many workers is set aside."""
_DYING_SECONDS = 0.2
"""What a process that has hung up may take to leave its exit status."""
GIBIBYTE = 1 << 30

Answer = TypeVar("Answer", bound=Reply)


class Workers:
    """A few processes that decode, each with a deadline and a memory limit.

    ``load_frames``, ``probe``, ``plan``, ``timeline`` and ``find_shots`` of this object do what
    those of :mod:`kinema.video` do. Processes are started when they are first needed, may be shared
    by threads, and end with the object.

    Args:
        count: processes; a call waits while all of them are busy.
        deadline_seconds: after which a process is killed; the budget of a call may be shorter.
        memory_bytes: address space of one process; not limited where a GPU decodes, because CUDA
            maps all of the GPU's memory and the host's.
        decoder: what decodes where a call does not say.
    """

    def __init__(
        self,
        count: int = 2,
        *,
        deadline_seconds: float = 60.0,
        memory_bytes: int = 8 * GIBIBYTE,
        decoder: DecoderName = "pyav",
    ) -> None:
        if count < 1:
            raise UsageError(f"{count} workers cannot work.", hint="Give 1 or more.")
        self.deadline_seconds = deadline_seconds
        self.memory_bytes = 0 if decoder == "cuda" else memory_bytes
        self.decoder = decoder
        self._quarantine = Quarantine()
        self._idle: queue.LifoQueue[_Process | None] = queue.LifoQueue()
        self._count = count
        for _ in range(count):
            self._idle.put(None)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Wait for calls that are under way, then end all processes."""
        for _ in range(self._count):
            if (process := self._idle.get()) is not None:
                process.end()
        for _ in range(self._count):
            self._idle.put(None)

    def load_frames(
        self,
        source: Source,
        *,
        sampling: FrameSampling | None = None,
        decoder: DecoderName | None = None,
        size: Size | None = None,
        access: Access = LOCAL,
        **choice: Any,
    ) -> Frames:
        """Read frames in a process of their own; see :func:`kinema.video.load_frames`.

        Raises:
            DecodeDeadline: it took too long; the process was killed and is replaced.
            DecoderCrashed: the process died, or this content has killed two of them before.
            KinemaError: whatever ``load_frames`` raises.
        """
        keywords = choice | {"sampling": sampling, "decoder": decoder or self.decoder, "size": size}
        keywords["access"] = access
        if isinstance(source, Frames) or is_array(source):
            return load_frames(source, **keywords)
        return self._ask(Frames, "load_frames", source, keywords)

    def load_sound(
        self,
        source: Source,
        *,
        start_seconds: float,
        end_seconds: float,
        track: int | None = None,
        access: Access = LOCAL,
    ) -> Sound:
        """Decode sound in a process of its own; see :func:`kinema.video.sound.load_sound`."""
        keywords = {"start_seconds": start_seconds, "end_seconds": end_seconds, "track": track}
        return self._ask(Sound, "load_sound", source, keywords | {"access": access})

    def probe(
        self, source: Source, *, track: int | None = None, access: Access = LOCAL
    ) -> VideoInfo:
        """Describe a file in a process of its own; see :func:`kinema.video.probe`."""
        return self._ask(VideoInfo, "probe", source, {"track": track, "access": access})

    def plan(
        self, source: Source, sampling: FrameSampling, *, access: Access = LOCAL
    ) -> SamplingPlan:
        """Find which frames a sampling takes; see :func:`kinema.video.plan`."""
        return self._ask(SamplingPlan, "plan", source, {"sampling": sampling, "access": access})

    def timeline(
        self, source: Source, *, track: int | None = None, access: Access = LOCAL
    ) -> Timeline:
        """When each frame is shown; see :func:`kinema.video.info.timeline`."""
        return self._ask(Timeline, "timeline", source, {"track": track, "access": access})

    def read_subtitles(
        self,
        source: Source,
        *,
        track: int | str | Path | None = None,
        video_track: int | None = None,
        access: Access = LOCAL,
    ) -> Subtitles:
        """Read subtitles in a process of its own; see :func:`kinema.video.load_subtitles`."""
        keywords = {"track": track, "video_track": video_track, "access": access}
        return self._ask(Subtitles, "read_subtitles", source, keywords)

    def find_shots(
        self,
        source: Source,
        *,
        access: Access = LOCAL,
        deadline_seconds: float | None = None,
        **limits: Any,
    ) -> Shots:
        """Cut a video into shots; see :func:`kinema.video.find_shots`.

        Args:
            deadline_seconds: instead of the object's own: every frame is decoded, and a long
                video has many.
        """
        keywords = {"access": access, **limits}
        return self._ask(tuple, "find_shots", source, keywords, deadline_seconds)

    def _ask(
        self,
        kind: type[Answer],
        call: Call,
        source: Source,
        keywords: dict[str, Any],
        deadline_seconds: float | None = None,
    ) -> Answer:
        access: Access = keywords["access"]
        if not isinstance(source, str | Path | bytes) and hasattr(source, "read"):
            source = source.read()
        self._quarantine.check(source, access)
        most = deadline_seconds or self.deadline_seconds
        job = Job(source, keywords, min(most, access.budget.seconds or most), call)
        process = self._idle.get()
        try:
            if process is None or not process.is_alive:
                process = _Process(self.memory_bytes)
            return _ask(process, kind, job)
        except (DecodeDeadline, DecoderCrashed):
            self._quarantine.strike(source, access)
            raise
        finally:
            self._idle.put(process if process and process.is_alive else None)


def _ask(process: _Process, kind: type[Answer], job: Job) -> Answer:
    """Ask; a process that does not answer as it should is killed."""
    try:
        result = process.ask(job)
        if not isinstance(result, kind | KinemaError):
            raise TypeError("this is no answer to the question")
    except TimeoutError:
        process.kill()
        raise DecodeDeadline(
            f"Reading {_name(job.source)} took longer than {job.deadline_seconds:g} s.",
            hint="Ask for fewer frames or a shorter range, or allow more time.",
        ) from None
    except (EOFError, OSError, ValueError, LookupError, TypeError):
        raise DecoderCrashed(
            f"The decoder of {_name(job.source)} died ({process.kill()}).",
            hint="The file is damaged or hostile; convert it with care.",
        ) from None
    except BaseException:
        process.kill()  # its answer must not be taken for that to the next question
        raise
    if isinstance(result, KinemaError):
        raise result
    return result


class _Process:
    """One worker and the channel to it."""

    def __init__(self, memory_bytes: int) -> None:
        self._channel, theirs = socket.socketpair()
        words = ["-P", "-m", "kinema.video.worker_process", str(theirs.fileno()), str(memory_bytes)]
        with theirs:
            # A session of its own: Ctrl-C on the terminal is the parent's business.
            self._process = subprocess.Popen(
                [sys.executable, *words],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
                start_new_session=True,
            )
        self._finalizer = weakref.finalize(self, _end, self._process, self._channel)
        try:
            receive_reply(self._channel, give_up_at=time.monotonic() + _START_SECONDS)
        except (OSError, EOFError) as problem:
            raise KinemaError(
                f"The decoding process did not start ({self.kill()}).",
                hint="Is there memory for it? See `kinema doctor`.",
            ) from problem

    @property
    def is_alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, job: Job) -> Reply | KinemaError | None:
        _log.debug("decoding %s in process %d", _name(job.source), self._process.pid)
        give_up_at = time.monotonic() + job.deadline_seconds
        send_job(self._channel, job, give_up_at=give_up_at)
        return receive_reply(self._channel, give_up_at=give_up_at)

    def kill(self) -> str:
        """End the process at once; says what it died of."""
        try:
            self._process.wait(timeout=_DYING_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
        status = self._process.wait()
        self.end()
        return signal.Signals(-status).name if status < 0 else f"exit status {status}"

    def end(self) -> None:
        """End the process; it is idle or has died, so nothing is lost."""
        self._finalizer()


def _end(process: subprocess.Popen[bytes], channel: socket.socket) -> None:
    # Killed, not waited for: Python looks only every 50 ms whether a process has ended by itself.
    channel.close()
    process.kill()
    process.wait()


class Quarantine:
    """Contents that have killed workers, counted by what they hold and not by their name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._strikes: Counter[tuple[int, str]] = Counter()

    def strike(self, source: Source, access: Access) -> None:
        """Remember that a worker died of this."""
        _log.warning("a worker died reading %s", _name(source))
        identity = _identity(source, access, sizes=None)
        if identity is not None:
            with self._lock:
                self._strikes[identity] += 1

    def check(self, source: Source, access: Access) -> None:
        """Raise ``DecoderCrashed`` for what has killed two workers."""
        with self._lock:
            sizes = {size for (size, _), count in self._strikes.items() if count >= _STRIKES}
        if not sizes:
            return
        identity = _identity(source, access, sizes=sizes)
        if identity is not None and self._strikes[identity] >= _STRIKES:
            raise DecoderCrashed(
                f"{_name(source)} has killed its decoder {_STRIKES} times and is set aside.",
                hint="The file is damaged or hostile; convert it with care.",
            )


def _identity(source: Source, access: Access, *, sizes: set[int] | None) -> tuple[int, str] | None:
    """Size and hash of a content, None when it cannot be read or its size is not among ``sizes``.

    What an address leads to is not fetched again for this: the address itself counts.
    """
    if isinstance(source, str) and is_url(source):
        return -1, hashlib.sha256(source.encode()).hexdigest()
    try:
        media = open_media(source, access)
        if sizes is not None and media.size_bytes not in sizes:
            return None
        with media.open() as file:
            digest = hashlib.file_digest(file, "sha256")  # type: ignore[arg-type]
    except (KinemaError, OSError):
        return None
    return media.size_bytes, digest.hexdigest()


def _name(source: object) -> str:
    """What to call a source without opening it."""
    if isinstance(source, str) and is_url(source):
        return source.partition("?")[0].rpartition("@")[2]
    if isinstance(source, str | Path | PictureFolder):
        return str(source)[:200]
    return f"<{type(source).__name__}>"
