"""Opens the site where a verb's work is done: this process, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from typing import Literal

from kinema.engines import EngineSettings
from kinema.engines.scheduler import Scheduler
from kinema.engines.settings import SETTINGS, narrow
from kinema.errors import MissingPackage
from kinema.jobs.answer_cache import AnswerCache
from kinema.jobs.site import PATIENCE_SECONDS, Local, Site
from kinema.lazy import Row
from kinema.tasks.imports import CheckpointParts
from kinema.tasks.models import Model, find_model
from kinema.video import Workers

Runner = Literal["local", "ray"]

_RAY = Row("kinema.jobs.ray:RaySite", needs=("ray",), install="pip install 'kinema[ray]'")


@dataclass(frozen=True, kw_only=True)
class SiteSettings:
    """A model by name and how it is loaded: what a process of a cluster opens its own site with."""

    model: str
    engine: str
    parts: CheckpointParts
    loading: EngineSettings
    workers: int = 1
    strict: bool = False

    def open(self, stack: ExitStack) -> Local:
        """A site of this process, closed with ``stack``."""
        model = find_model(self.model, engine=self.engine, parts=self.parts)
        return stack.enter_context(
            local_site(model, self.loading, workers=self.workers, strict=self.strict)
        )


@contextmanager
def open_site(
    model: Model,
    loading: EngineSettings,
    *,
    runner: Runner = "local",
    workers: int = 2,
    answers: AnswerCache | None = None,
    strict: bool = False,
    scheduler: Scheduler | None = None,
) -> Iterator[Site]:
    """The site of a verb, with its engine; the weights are loaded when they are needed.

    Args:
        model: who answers.
        loading: how its weights are loaded.
        runner: this process, or a Ray cluster; the records are the same.
        workers: processes that decode; with the runner ray, actors that have an engine each.
        answers: answers that are known.
        strict: refuse damaged videos.
        scheduler: of an engine that is open already; stays open.

    Raises:
        MissingPackage: Ray is not installed.
    """
    if runner == "local":
        with local_site(
            model, loading, workers=workers, answers=answers, strict=strict, scheduler=scheduler
        ) as site:
            yield site
        return
    check_runner(runner)
    from kinema.jobs.ray import RaySite  # noqa: PLC0415  Ray is optional

    settings = SiteSettings(
        model=model.name, engine=model.engine, parts=model.parts, loading=loading, strict=strict
    )
    gpus = loading.tensor_parallel if model.engine in ("hf", "vllm") else 0
    with closing(RaySite(settings.open, actors=workers, gpus=gpus, answers=answers)) as site:
        yield site


def check_runner(runner: Runner) -> None:
    """Refuse a runner that is not installed, before anything is written.

    Raises:
        MissingPackage: Ray is not installed.
    """
    if runner == "ray" and _RAY.missing:
        raise MissingPackage("The runner 'ray' needs ray.", hint=f"Install with: {_RAY.install}")


def check_site(model: Model, loading: EngineSettings, runner: Runner) -> None:
    """Refuse what cannot be opened, before anything is written.

    Raises:
        MissingPackage: Ray is not installed.
        MissingCapability: a setting of another engine than the model's was given.
    """
    check_runner(runner)
    if model.engine in SETTINGS:
        narrow(loading, model.engine)


@contextmanager
def local_site(
    model: Model,
    loading: EngineSettings,
    *,
    workers: int = 2,
    answers: AnswerCache | None = None,
    strict: bool = False,
    scheduler: Scheduler | None = None,
) -> Iterator[Local]:
    """A site of this process; see :func:`open_site`."""
    with ExitStack() as stack:
        if scheduler is None:
            scheduler = model.scheduler(loading, patience_seconds=PATIENCE_SECONDS)
            stack.callback(scheduler.close)
        decoders = stack.enter_context(Workers(workers))
        site = Local(
            scheduler,
            decoders,
            family=model.family,
            answers=answers,
            readers=workers,
            strict=strict,
        )
        yield stack.enter_context(closing(site))


def window_of(engine: str, loading: EngineSettings) -> int:
    """Questions that are under way at one time: enough for an engine to choose full batches from.

    Four batches' worth lets requests of about one length run together; an engine that takes
    requests as they come wants as many as it can run.
    """
    if engine == "openai":
        return 2 * loading.concurrency
    return 256 if engine == "vllm" else 4 * loading.batch_size
