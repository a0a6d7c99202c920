"""A tower opened for extraction, and the frames that are shown to it."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from kinema.datasets.augment import augmentation
from kinema.engines.hf.encoder import Encoder
from kinema.errors import UsageError
from kinema.models.importers.towers import (
    FeatureTower,
    is_videolm,
    open_tower,
    open_videolm_tower,
)
from kinema.models.importers.weights import digest
from kinema.models.videolm.features import FeaturesHeader, save_features
from kinema.models.videolm.kinds import KINDS
from kinema.models.videolm.processor import stretch_positions
from kinema.tasks.features.options import FeatureOptions, Number
from kinema.tasks.models import find_model
from kinema.types import FrameSampling, Shown


@dataclass(frozen=True)
class Extraction:
    """An opened tower and the frames that are shown to it."""

    tower: FeatureTower
    sampling: FrameSampling

    def fingerprinted(self, options: FeatureOptions) -> dict[str, Any]:
        """Everything that decides the files, ready for JSON."""
        made = FeaturesHeader.for_config(self.tower.config, num_frames=0)
        values = {
            "features": asdict(made),
            "options": asdict(options) | {"augment": options.variants, "tower": ""},
            "weights": digest(self.tower.tower.weights),
            "sampling": self.sampling.to_dict(),
            "exact_frames": self.tower.exact_frames,
        }
        restored: dict[str, Any] = json.loads(json.dumps(values))
        return restored

    def encoder_on(self, device: str, options: FeatureOptions) -> Encoder:
        """The tower on a torch device."""
        return Encoder(
            self.tower.tower,
            self.tower.config,
            device=device,
            dtype=options.dtype,
            exact_frames=self.tower.exact_frames,
            variants={variant: augmentation(variant) for variant in options.variants},
        )

    def save(self, path: Path, rows: Tensor, shown: Shown, *, store: Number, **about: Any) -> None:
        """Write one features file.

        Args:
            path: the file.
            rows: float[N, L, D].
            shown: the frames that they were made of.
            store: number format of the file.
            about: further fields of the header: source, source_sha256, variant.
        """
        seconds = shown.seconds
        if (exact := self.tower.exact_frames) is not None:
            seconds = tuple(seconds[i] for i in stretch_positions(len(seconds), exact))
        header = FeaturesHeader.for_config(
            self.tower.config,
            num_frames=len(seconds),
            seconds=seconds,
            sampling=self.sampling.to_dict(),
            total_frames=shown.about["total_frames"],
            duration_seconds=shown.about["duration_seconds"],
            **about,
        )
        path.parent.mkdir(parents=True, exist_ok=True)
        save_features(path, rows.to(getattr(torch, store)), header)


def open_extraction(options: FeatureOptions, sampling: FrameSampling) -> Extraction:
    """Read the tower that the options mean.

    Raises:
        UsageError: options that contradict each other or the tower.
        ModelNotFound: the tower is not there.
    """
    if (folder := _videolm_folder(options.tower)) is not None:
        chosen = {"--kind": options.kind, "--layers": options.layers, "--fit": options.fit}
        for given in (flag for flag, value in chosen.items() if value):
            raise UsageError(
                f"{given} was given, and {options.tower} has its own.",
                hint="A whole model says which features it reads. Leave the flag away.",
            )
        tower = open_videolm_tower(folder)
        sampling = sampling.or_default(find_model(str(folder)).family.default_sampling)
    else:
        kind = options.kind or "spatio_temporal"
        frames = KINDS[kind].num_frames
        sampling = sampling.or_default(FrameSampling(num_frames=frames, formula="segments"))
        tower = open_tower(
            options.tower,
            kind=kind,
            layers=options.layers,
            num_frames=sampling.num_frames or sampling.max_frames or frames,
            fit=options.fit or "stretch",
        )
    if options.exact_frames is not None:
        tower = replace(tower, exact_frames=options.exact_frames)
    return Extraction(tower, sampling)


def _videolm_folder(name: str) -> Path | None:
    """The folder of a whole model; None when the name means a tower alone."""
    if is_videolm(Path(name)):
        return Path(name)
    if ":" in name or name.endswith(".nemo"):
        return find_model(name).checkpoint.folder
    return None
