"""Opens the site where videos are encoded: this process, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from kinema.families import FAMILIES
from kinema.jobs.site import Local, Site
from kinema.jobs.towers import Towers
from kinema.tasks.features.options import FeatureOptions
from kinema.tasks.site import Runner, ray_site
from kinema.types import FrameSampling
from kinema.video import Workers

if TYPE_CHECKING:
    from kinema.tasks.features.extraction import Extraction

_DEADLINE_SECONDS = 600.0


@dataclass(frozen=True, kw_only=True)
class TowerSettings:
    """A tower by name and where it runs: what a process of a cluster opens its own site with."""

    options: FeatureOptions
    sampling: FrameSampling
    devices: tuple[str, ...]
    batch_size: int
    workers: int

    @contextmanager
    def site(self, extraction: Extraction, runner: Runner) -> Iterator[Site]:
        """Where videos are encoded; towers are put on their devices when the first one is there.

        Args:
            extraction: the tower, for this process.
            runner: this process, or a Ray cluster, whose actors have one decoder each; the files
                are the same.
        """
        if runner == "ray":
            each = replace(self, workers=1)
            with ray_site(each.open, actors=self.workers, gpus=1) as site:
                yield site
            return
        with ExitStack() as stack:
            yield self.open(stack, extraction)

    def open(self, stack: ExitStack, extraction: Extraction | None = None) -> Local:
        """A site of this process, closed with ``stack``."""
        if extraction is None:
            from kinema.tasks.features.extraction import open_extraction  # noqa: PLC0415  torch

            extraction = open_extraction(self.options, self.sampling)
        towers = Towers(
            lambda device: extraction.encoder_on(device, self.options),
            self.devices,
            batch_size=self.batch_size,
        )
        stack.callback(towers.close)
        workers = stack.enter_context(Workers(self.workers, deadline_seconds=_DEADLINE_SECONDS))
        # The echo's family takes any video as it is.
        site = Local(None, workers, family=FAMILIES["echo"], towers=towers, readers=self.workers)
        return stack.enter_context(closing(site))
