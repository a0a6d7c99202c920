"""Reading what strangers send: gated, in processes that can be killed, and once for follow-ups."""

from __future__ import annotations

import asyncio
import hashlib
import shutil
import tempfile
import time
from collections import OrderedDict
from concurrent.futures import ThreadPoolExecutor
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

from kinema.errors import KinemaError, UsageError
from kinema.server.limits import MEBIBYTE, ServerSettings
from kinema.types import Frames, FrameSampling, Source
from kinema.video import Access, Budget, Workers, server_access
from kinema.video.data_uri import decode_data_uri, is_data_uri, is_frame_list
from kinema.video.fetch import Fetcher
from kinema.video.url_gate import is_url

_KEPT_BYTES = 512 * MEBIBYTE
_KEPT_URL_SECONDS = 300.0
"""How long what an address led to stands for it; its owner may change it."""
_WORKER_BYTES = 4096 * MEBIBYTE
_FETCHERS = 8
"""Slow servers keep these waiting, never a process that decodes."""


class MediaReader:
    """Frames of the sources that callers name.

    A ``str`` is a stranger's word and passes the gate: an address, a ``data:`` URI, or a path
    below the media folder. A ``Path`` is a file of our own folder, an upload.

    Args:
        settings: what may be reached, and how much of it.
        folder: where uploads and downloads lie.
    """

    def __init__(self, settings: ServerSettings, folder: Path) -> None:
        self.access = _access(settings)
        self._folder = folder
        self._own = replace(self.access, roots=(folder,))
        self._workers = Workers(
            settings.decode_workers,
            deadline_seconds=settings.decode_seconds,
            memory_bytes=_WORKER_BYTES,
        )
        threads = settings.decode_workers + _FETCHERS
        self._threads = ThreadPoolExecutor(threads, "kinema-media")
        self._reading: dict[object, asyncio.Task[Frames]] = {}
        self._kept: OrderedDict[object, tuple[Frames, float]] = OrderedDict()
        """Frames and when they were read, those that were asked for last at the end."""
        self._kept_bytes = 0

    async def read(self, source: Source, sampling: FrameSampling) -> Frames:
        """Frames of one source; callers that ask the same at once share one reading.

        Raises:
            MediaError: it cannot be used, see :mod:`kinema.errors`.
        """
        key = _key(source, sampling)
        if key is not None and (kept := self._look_up(key)) is not None:
            return kept
        task = self._reading.get(key) if key is not None else None
        if task is None:
            task = asyncio.create_task(self._read_in_thread(source, sampling, key))
        if key is not None:
            self._reading[key] = task
        # One caller that hangs up must not end the reading for the others.
        return await asyncio.shield(task)

    async def fetch(self, address: str) -> tuple[str, BinaryIO]:
        """What to call an address, and the bytes that it gives.

        Raises:
            UsageError: it is no http(s) address.
            MediaError: it cannot be fetched.
        """
        if not is_url(address):
            raise UsageError(
                f"{address[:80]!r} is no link.", hint="A link begins with https:// or http://."
            )
        fetch = Fetcher(self.access.urls, self.access.budget).fetch
        loop = asyncio.get_running_loop()
        name, part = await loop.run_in_executor(self._threads, fetch, address)
        return name, part.open()

    def close(self) -> None:
        """Wait for what is being read, and end the processes."""
        self._threads.shutdown()
        self._workers.close()
        self._kept.clear()

    async def _read_in_thread(
        self, source: Source, sampling: FrameSampling, key: object | None
    ) -> Frames:
        try:
            loop = asyncio.get_running_loop()
            frames = await loop.run_in_executor(self._threads, self._read, source, sampling)
        finally:
            self._reading.pop(key, None)
        if key is not None:
            self._keep(key, frames)
        return frames

    def _read(self, source: Source, sampling: FrameSampling) -> Frames:
        if isinstance(source, Path):
            return self._workers.load_frames(source, sampling=sampling, access=self._own)
        if isinstance(source, str) and is_data_uri(source):
            return self._read_data(source, sampling)
        if isinstance(source, str) and is_url(source):
            return self._read_address(source, sampling)
        return self._workers.load_frames(source, sampling=sampling, access=self.access)

    def _read_data(self, text: str, sampling: FrameSampling) -> Frames:
        if is_frame_list(text):
            return self._workers.load_frames(text, sampling=sampling, access=self.access)
        try:
            name, data = decode_data_uri(text, self.access.budget)
        except KinemaError as problem:
            if problem.code == "not_media":  # the address is malformed, not what it holds
                raise UsageError(str(problem), hint=problem.hint) from None
            raise
        frames = self._workers.load_frames(data, sampling=sampling, access=self.access)
        return replace(frames, source=name)

    def _read_address(self, text: str, sampling: FrameSampling) -> Frames:
        name, part = Fetcher(self.access.urls, self.access.budget).fetch(text)
        with tempfile.NamedTemporaryFile(dir=self._folder, prefix="fetched-") as file:
            with part.open() as body:
                shutil.copyfileobj(body, file)
            file.flush()
            path = Path(file.name)
            try:
                frames = self._workers.load_frames(path, sampling=sampling, access=self._own)
            except KinemaError as problem:
                raise renamed(problem, path.name, name) from None
        return replace(frames, source=name)

    def _look_up(self, key: object) -> Frames | None:
        frames, at_seconds = self._kept.get(key, (None, 0.0))
        if frames is None or time.monotonic() - at_seconds > _KEPT_URL_SECONDS:
            return None
        self._kept.move_to_end(key)
        return frames

    def _keep(self, key: object, frames: Frames) -> None:
        if (old := self._kept.pop(key, None)) is not None:
            self._kept_bytes -= old[0].pixels.nbytes
        self._kept[key] = frames, time.monotonic()
        self._kept_bytes += frames.pixels.nbytes
        while self._kept_bytes > _KEPT_BYTES:
            _, (oldest, _) = self._kept.popitem(last=False)
            self._kept_bytes -= oldest.pixels.nbytes


def _access(settings: ServerSettings) -> Access:
    root = settings.allowed_local_media_path
    base = server_access(roots=(root,) if root else (), private_hosts=settings.private_media_hosts)
    urls = replace(base.urls, hosts=settings.allowed_media_domains or None)
    budget: Budget = replace(
        base.budget,
        seconds=settings.decode_seconds,
        fetched_bytes=settings.max_file_mib * MEBIBYTE,
    )
    return replace(base, urls=urls, budget=budget)


def _key(source: Source, sampling: FrameSampling) -> object | None:
    """What frames are kept under; None for local files, which their owner may change."""
    if isinstance(source, Path):
        return source, sampling
    if isinstance(source, str) and (is_data_uri(source) or is_url(source)):
        return hashlib.sha256(source.encode(errors="surrogatepass")).digest(), sampling
    return None


def renamed(problem: KinemaError, ours: str, theirs: str) -> KinemaError:
    """The same error, with the caller's name for a source in place of our file's."""
    again = copy(problem)
    message, hint = problem.written
    again.written = (message.replace(ours, theirs), hint)
    again.args = (str(problem).replace(ours, theirs),)
    return again
