"""Videos are read in processes and encoded on every device, all at the same time."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from queue import LifoQueue
from typing import Any, Self

import torch
from torch import Tensor

from kinema.datasets.augment import augmentation
from kinema.datasets.samples import features_name
from kinema.engines.hf.encoder import Encoder
from kinema.errors import KinemaError, MediaNotFound
from kinema.ledger import Unit
from kinema.models.videolm.features import FeaturesHeader, save_features
from kinema.models.videolm.processor import stretch_positions
from kinema.tasks.caption.feed import read_ahead
from kinema.tasks.features.extraction import Extraction
from kinema.tasks.features.options import FeatureOptions
from kinema.types import Frames
from kinema.video import Workers

_DEADLINE_SECONDS = 600.0

Outcome = dict[str, Any] | KinemaError
"""What is known about written files, or why there are none."""


class Pipeline:
    """Reads ahead while towers work; a context, so that processes and threads end with it.

    Args:
        extraction: the tower and the frames it is shown.
        options: variants and number formats.
        output: folder of the files.
        devices: a tower is put on each.
        batch_size: frames that go through a tower together.
        workers: processes that decode.
    """

    def __init__(
        self,
        extraction: Extraction,
        options: FeatureOptions,
        *,
        output: Path,
        devices: Sequence[str],
        batch_size: int,
        workers: int,
    ) -> None:
        self._extraction = extraction
        self._options = options
        self._output = output
        self._transforms = [("", None), *((v, augmentation(v)) for v in options.variants)]
        self._depths = (workers, len(devices))
        self._encoders: LifoQueue[Encoder] = LifoQueue()
        for device in devices:
            self._encoders.put(self._encoder(device, batch_size))
        self._stack = ExitStack()
        enter = self._stack.enter_context
        self._workers = enter(Workers(workers, deadline_seconds=_DEADLINE_SECONDS))
        self._readers = enter(ThreadPoolExecutor(workers, "kinema-decode"))
        self._encoding = enter(ThreadPoolExecutor(len(devices), "kinema-encode"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def _encoder(self, device: str, batch_size: int) -> Encoder:
        return Encoder(
            self._extraction.tower.tower,
            self._extraction.tower.config,
            device=device,
            dtype=self._options.dtype,
            batch_size=batch_size,
            exact_frames=self._extraction.tower.exact_frames,
        )

    def outcomes(self, units: Iterable[Unit]) -> Iterator[tuple[Unit, Outcome]]:
        """How each unit ended, in order."""
        workers, devices = self._depths
        read = read_ahead(self._readers, self._read, units, depth=workers)
        yield from read_ahead(self._encoding, self._encode, read, depth=devices)

    def _read(self, unit: Unit) -> tuple[Unit, Frames | KinemaError]:
        try:
            return unit, self._load(Path(unit.payload["path"]))
        except KinemaError as problem:
            return unit, problem

    def _load(self, path: Path) -> Frames:
        if not path.exists():
            raise MediaNotFound(f"There is no file {path.name}.", hint="Check the list of videos.")
        return self._workers.load_frames(
            path, sampling=self._extraction.sampling, size=self._options.size
        )

    def _encode(self, work: tuple[Unit, Frames | KinemaError]) -> tuple[Unit, Outcome]:
        unit, frames = work
        if isinstance(frames, KinemaError):
            return unit, frames
        encoder = self._encoders.get()
        try:
            return unit, self._write(unit, frames, encoder)
        finally:
            self._encoders.put(encoder)

    def _write(self, unit: Unit, frames: Frames, encoder: Encoder) -> dict[str, Any]:
        written = {}
        for variant, transform in self._transforms:
            name = features_name(Path(unit.payload["name"]), variant)
            rows = encoder.encode(frames.pixels, transform)
            self._save(self._output / name, rows, self._header(unit, frames, variant))
            written[variant] = name.as_posix()
        return {
            "features": written,
            "num_frames": len(frames),
            "total_frames": frames.total_frames,
            "duration_seconds": frames.duration_seconds,
            "warnings": list(frames.warnings),
        }

    def _header(self, unit: Unit, frames: Frames, variant: str) -> FeaturesHeader:
        seconds = frames.seconds
        if (exact := self._extraction.tower.exact_frames) is not None:
            seconds = seconds[stretch_positions(len(seconds), exact)]
        return FeaturesHeader.for_config(
            self._extraction.tower.config,
            num_frames=len(seconds),
            seconds=tuple(round(at, 6) for at in seconds.tolist()),
            sampling=self._extraction.sampling.to_dict(),
            source=unit.payload["name"],
            source_sha256=unit.payload["sha256"],
            total_frames=frames.total_frames,
            duration_seconds=frames.duration_seconds,
            variant=variant,
        )

    def _save(self, path: Path, rows: Tensor, header: FeaturesHeader) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_features(path, rows.to(getattr(torch, self._options.store)), header)
