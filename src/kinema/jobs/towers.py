"""Vision towers, each in a thread of its own, and what becomes of videos that they fail at."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from kinema.engines.failures import may_be_one_requests, named, unopened, without_frames
from kinema.errors import EngineDied, KinemaError, OutOfMemory, RequestFailed
from kinema.types import Frames, Shown


class Tower(Protocol):
    """A vision tower on one device; used by one thread alone."""

    def encode(self, pixels: NDArray[np.uint8], variant: str, *, batch_size: int) -> Any:
        """Rows of one video: uint8[T, H, W, 3] to a tensor float[N, L, D] on the CPU.

        Args:
            pixels: the frames.
            variant: the augmentation that is applied to them first; "" for none.
            batch_size: frames that go through the tower together.

        Raises:
            OutOfMemory: the device is too small for so many.
        """
        ...

    def release(self) -> None:
        """Free memory that is kept for later calls."""
        ...


@dataclass(frozen=True, eq=False)
class Encoded:
    """What a tower made of one video."""

    shown: Shown
    """The frames that it was shown."""
    rows: Mapping[str, Any]
    """A tensor float[N, L, D] for each variant."""


class Towers:
    """One tower on each device; whoever is free takes the next video.

    A video that a tower has no memory for is encoded with half the frames per call, and half of
    that. When that does not help either, or the tower dies, the video is read and tried again after
    another one was encoded. It is blamed only then; where nothing was encoded in between, the
    tower's own error reaches the caller.

    Args:
        open_tower: puts a tower on a device; called in the thread that uses it.
        devices: torch devices, or ``auto``.
        batch_size: frames that go through a tower together.
    """

    def __init__(
        self, open_tower: Callable[[str], Tower], devices: Sequence[str], *, batch_size: int
    ) -> None:
        opening = threading.Lock()  # transformers changes torch's defaults while it makes a module

        def open_one(device: str) -> Tower:
            with opening:
                return open_tower(device)

        self._seats = [_Seat(open_one, device, batch_size) for device in devices]
        self._free: asyncio.LifoQueue[_Seat] = asyncio.LifoQueue()
        for seat in self._seats:
            self._free.put_nowait(seat)
        self._under_way = 0
        self._num_encoded = 0
        self._changed = asyncio.Condition()

    def close(self) -> None:
        """Close each tower in its thread, and end the threads."""
        for seat in self._seats:
            seat.close()

    async def encode(
        self, read: Callable[[], AbstractAsyncContextManager[Frames]], variants: Sequence[str]
    ) -> Encoded:
        """Encode one video.

        Args:
            read: decodes its frames, which are held until the context is left.
            variants: augmentations, "" for none.

        Raises:
            MediaError: the frames cannot be read.
            RequestFailed: a tower fails at this video and at no other.
            OutOfMemory, EngineDied: nothing can be encoded.
        """
        failed: KinemaError | None = None
        encoded_before = 0
        while True:
            try:
                return await self._try(read, variants)
            except KinemaError as problem:
                if not may_be_one_requests(problem):
                    raise
                if failed is not None and self._num_encoded > encoded_before:
                    raise RequestFailed(str(problem), hint=problem.hint) from None
                if failed is not None:
                    raise
                failed, encoded_before = problem, self._num_encoded
            # The frames were given back, so that others can be read and encoded meanwhile.
            await self._another(encoded_before)

    async def _another(self, encoded_before: int) -> None:
        """Until another video is encoded, or none is under way that could be."""
        async with self._changed:
            await self._changed.wait_for(
                lambda: self._num_encoded > encoded_before or not self._under_way
            )

    async def _try(
        self, read: Callable[[], AbstractAsyncContextManager[Frames]], variants: Sequence[str]
    ) -> Encoded:
        self._under_way += 1
        try:
            async with read() as frames:
                seat = await self._free.get()
                try:
                    rows = await seat.encode(frames.pixels, variants)
                finally:
                    self._free.put_nowait(seat)
                self._num_encoded += 1
                return Encoded(Shown.of(frames), rows)
        finally:
            self._under_way -= 1
            async with self._changed:
                self._changed.notify_all()


class _Seat:
    """One tower and its thread, which opens, uses and closes it: a CUDA context is a thread's."""

    def __init__(self, open_tower: Callable[[str], Tower], device: str, batch_size: int) -> None:
        self._open_tower = open_tower
        self._device = device
        self._batch_size = batch_size
        self._tower: Tower | None = None
        self._broken: KinemaError | None = None
        """Why the tower cannot be opened; it is not tried again."""
        self._thread = ThreadPoolExecutor(1, "kinema-tower")

    async def encode(self, pixels: NDArray[np.uint8], variants: Sequence[str]) -> Mapping[str, Any]:
        work = self._thread.submit(self._encode, pixels, variants)
        return await asyncio.wrap_future(work)

    def close(self) -> None:
        self._thread.submit(self._drop)
        self._thread.shutdown()

    def _encode(self, pixels: NDArray[np.uint8], variants: Sequence[str]) -> Mapping[str, Any]:
        """Rows of every variant, with as many frames per call as there is memory for."""
        tower = self._open()
        most = min(self._batch_size, len(pixels))
        size = most
        while True:
            try:
                rows = {v: tower.encode(pixels, v, batch_size=size) for v in variants}
            except Exception as problem:
                failed = without_frames(problem)  # they hold the tensors of the failed attempt
            else:
                if size < most:
                    self._batch_size = size
                return rows
            if not isinstance(failed, KinemaError):
                raise named(failed, "The tower failed.")
            if isinstance(failed, EngineDied):
                self._drop()
            if not isinstance(failed, OutOfMemory):
                raise failed
            tower.release()
            if size == 1:
                raise failed
            size //= 2

    def _open(self) -> Tower:
        if self._broken is not None:
            raise self._broken
        if self._tower is None:
            try:
                self._tower = self._open_tower(self._device)
            except Exception as problem:
                self._broken = unopened(problem, "The tower")
                raise self._broken from self._broken.__cause__
        return self._tower

    def _drop(self) -> None:
        tower, self._tower = self._tower, None
        if tower is not None:
            tower.release()
