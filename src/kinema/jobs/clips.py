"""Decoded media of questions: each is read once while it is needed, within a budget of bytes."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import AsyncIterator, Hashable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from kinema import prompt as prompts
from kinema.errors import KinemaError
from kinema.families import Family
from kinema.messages import Conversation, FeaturesPart, ImagePart, Part, TextPart, VideoPart
from kinema.types import Features, Frames, FrameSampling, PictureFolder
from kinema.video import VideoInfo, Workers
from kinema.video.url_gate import is_url

MEBIBYTE = 1 << 20
BUDGET_BYTES = 2048 * MEBIBYTE
"""Pixels that may be decoded and not yet answered, at one time."""
_GUESS_BYTES = 64 * MEBIBYTE
"""For a source whose size is not looked up: bytes in memory, an address."""
_KEPT_CLIPS = 4
"""Unused clips that stay for the next question about them."""


@dataclass(eq=False)
class _Clip:
    """One medium, decoded or being decoded."""

    key: Hashable
    part: Part
    num_bytes: int
    decoded: asyncio.Future[Part]
    users: int = 0


@dataclass(eq=False)
class _Budget:
    """Bytes that clips may take together; grants are given in the order they were asked for.

    One clip that is larger than all of it is admitted when nothing else is held.
    """

    limit: int
    used: int = 0
    _queue: deque[tuple[int, int, asyncio.Future[None]]] = field(default_factory=deque)

    async def acquire(self, num_bytes: int, *, holding: int) -> None:
        """Wait for room.

        Args:
            num_bytes: what is needed.
            holding: bytes that the caller shares with others already; they are not waited for.
        """
        granted: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._queue.append((num_bytes, holding, granted))
        self.admit()
        await granted

    def release(self, num_bytes: int) -> None:
        """Give room back."""
        self.used -= num_bytes
        self.admit()

    def admit(self) -> None:
        """Grant what fits now, never past one that waits longer."""
        while self._queue:
            num_bytes, holding, granted = self._queue[0]
            if self.used + num_bytes > self.limit and self.used > holding:
                return
            self._queue.popleft()
            self.used += num_bytes
            granted.set_result(None)

    @property
    def is_short(self) -> bool:
        """Whether a question waits for room."""
        return bool(self._queue)


class Clips:
    """Reads the media of questions in worker processes.

    Args:
        workers: processes that decode.
        pool: threads that wait for them.
        family: how many frames a model takes, and of which media.
        strict: refuse a damaged video instead of showing the frames that could be decoded.
        budget_bytes: pixels that may be held at one time.
    """

    def __init__(
        self,
        workers: Workers,
        pool: ThreadPoolExecutor,
        family: Family,
        *,
        strict: bool = False,
        budget_bytes: int = BUDGET_BYTES,
    ) -> None:
        self._workers = workers
        self._pool = pool
        self._family = family
        self._load = partial(workers.load_frames, strict=strict)
        self._budget = _Budget(budget_bytes)
        self._clips: dict[Hashable, _Clip] = {}
        self._infos: dict[tuple[str, int | None], asyncio.Task[VideoInfo | None]] = {}
        self._loading: set[asyncio.Task[None]] = set()
        self.num_decodes = 0
        """Media that were read; a clip that several questions share counts once."""

    @asynccontextmanager
    async def decoded(self, conversation: Conversation) -> AsyncIterator[Conversation]:
        """The conversation with every source read, which is held until the context is left.

        Raises:
            MediaError: a source cannot be read.
            MediumRefused: the family does not take this kind of medium.
        """
        media = conversation.media
        parts = [part for part in media if not isinstance(part.source, Frames | Features)]
        sizes = await asyncio.gather(*map(self._estimate, parts))
        clips = self._enter(parts, sizes)
        try:
            read = [await asyncio.shield(clip.decoded) for clip in clips]
            by_key = {clip.key: part for clip, part in zip(clips, read, strict=True)}
            yield conversation.mapped(lambda part: by_key.get(_key(part), part))
        finally:
            for clip in clips:
                clip.users -= 1
            self._drop_unused()

    def _enter(self, parts: Sequence[Part], sizes: Sequence[int]) -> list[_Clip]:
        """The clips of these parts; those that are not being read yet are begun."""
        loop = asyncio.get_running_loop()
        new: list[_Clip] = []
        clips: dict[Hashable, _Clip] = {}
        for part, num_bytes in zip(parts, sizes, strict=True):
            key = _key(part)
            clip = self._clips.pop(key, None)
            if clip is None:
                clip = _Clip(key, part, num_bytes, loop.create_future())
                new.append(clip)
            self._clips[key] = clip  # the newest last
            clip.users += key not in clips
            clips[key] = clip
        if new:
            held = sum(clip.num_bytes for clip in clips.values() if clip not in new)
            task = asyncio.create_task(self._read(new, holding=held))
            self._loading.add(task)
            task.add_done_callback(self._loading.discard)
        return list(clips.values())

    def _drop_unused(self) -> None:
        """Forget unused clips: all but a few, all where room is short."""
        unused = [c for c in self._clips.values() if c.users == 0 and c.decoded.done()]
        kept = 0 if self._budget.is_short else _KEPT_CLIPS
        for clip in unused[: max(0, len(unused) - kept)]:
            self._forget(clip)

    def _forget(self, clip: _Clip) -> None:
        if self._clips.get(clip.key) is clip:
            del self._clips[clip.key]
            self._budget.release(clip.num_bytes)

    async def _read(self, clips: Sequence[_Clip], *, holding: int) -> None:
        """Decode clips that belong to one question, under one grant."""
        waiting = asyncio.ensure_future(
            self._budget.acquire(sum(clip.num_bytes for clip in clips), holding=holding)
        )
        await asyncio.sleep(0)
        self._drop_unused()
        await waiting
        await asyncio.gather(*map(self._read_one, clips))

    async def _read_one(self, clip: _Clip) -> None:
        loop = asyncio.get_running_loop()
        decode = partial(prompts.decode_part, clip.part, self._family, load=self._load)
        self.num_decodes += 1
        try:
            part = await loop.run_in_executor(self._pool, decode)
            if not isinstance(part, TextPart) and isinstance(part.source, Frames):
                # What the clip takes is known now, and was estimated before.
                self._budget.release(clip.num_bytes - part.source.pixels.nbytes)
                clip.num_bytes = part.source.pixels.nbytes
            clip.decoded.set_result(part)
        except BaseException as problem:
            self._forget(clip)
            clip.decoded.set_exception(problem)
            clip.decoded.exception()  # whoever waited may have left; then nobody else asks

    async def _estimate(self, part: Part) -> int:
        """Bytes that a medium will take once it is decoded."""
        if isinstance(part, FeaturesPart):
            return MEBIBYTE
        sampling = FrameSampling(single="first")
        size = None
        if isinstance(part, VideoPart):
            sampling = part.sampling.or_default(self._family.default_sampling)
            size = part.size
        assert isinstance(part, ImagePart | VideoPart)
        if not isinstance(part.source, str | Path) or is_url(str(part.source)):
            return _GUESS_BYTES
        source = str(part.source)
        which = (source, sampling.track)
        if which not in self._infos:
            self._infos[which] = asyncio.create_task(self._probe(*which))
        info = await asyncio.shield(self._infos[which])
        return _GUESS_BYTES if info is None else estimated_bytes(info, sampling, size)

    async def _probe(self, source: str, track: int | None) -> VideoInfo | None:
        """Facts about a file; None where it cannot be read, which decoding says."""
        loop = asyncio.get_running_loop()
        try:
            find = partial(self._workers.probe, source, track=track)
            info = await loop.run_in_executor(self._pool, find)
        except KinemaError:
            return None
        return replace(info, keyframe_seconds=())


def estimated_bytes(info: VideoInfo, sampling: FrameSampling, size: int | None = None) -> int:
    """uint8 pixels of the frames that a sampling takes of a video, at most."""
    count = _most_frames(info, sampling)
    shorter = min(info.width, info.height)
    scale = 1.0 if size is None or shorter <= size else size / shorter
    return int(count * math.ceil(info.width * scale) * math.ceil(info.height * scale) * 3)


def _most_frames(info: VideoInfo, sampling: FrameSampling) -> int:
    if sampling.single is not None:
        return 1
    if sampling.at is not None:
        return len(sampling.at)
    wanted = info.num_frames
    if sampling.num_frames is not None:
        wanted = sampling.num_frames
    elif sampling.fps is not None:
        wanted = math.ceil(info.duration_seconds * sampling.fps) + 1
    elif sampling.keyframes:
        wanted = info.num_keyframes
    return max(1, min(wanted, sampling.max_frames or wanted, info.num_frames))


def _key(part: Part) -> Hashable:
    """What two parts have in common when one reading serves both."""
    if isinstance(part, TextPart):
        return part
    has_name = isinstance(part.source, str | Path | bytes | PictureFolder)
    source = part.source if has_name else id(part.source)
    if isinstance(part, VideoPart):
        return ("video", source, part.sampling, part.name, part.size, part.skip_similar)
    return (type(part).__name__, source, getattr(part, "name", ""))
