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
from kinema.tasks.site import Runner
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

    def open(self, stack: ExitStack) -> Local:
        """A site of this process, closed with ``stack``."""
        from kinema.tasks.features.extraction import open_extraction  # noqa: PLC0415  it is torch

        return self.open_with(open_extraction(self.options, self.sampling), stack)

    def open_with(self, extraction: Extraction, stack: ExitStack) -> Local:
        """The same with a tower whose weights are read already."""
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


@contextmanager
def open_site(settings: TowerSettings, extraction: Extraction, *, runner: Runner) -> Iterator[Site]:
    """The site of this verb; towers are put on their devices when the first video is there.

    Args:
        settings: what is opened; with the runner ray, by each actor with one decoder.
        extraction: the tower, for this process.
        runner: this process, or a Ray cluster; the files are the same.
    """
    if runner == "local":
        with ExitStack() as stack:
            yield settings.open_with(extraction, stack)
        return
    from kinema.jobs.ray import RaySite  # noqa: PLC0415  Ray is optional

    each = replace(settings, workers=1)
    with closing(RaySite(each.open, actors=settings.workers, gpus=1)) as site:
        yield site
