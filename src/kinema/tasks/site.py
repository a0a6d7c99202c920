"""Opens the site where a verb's work is done: this process, or a Ray cluster."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

from kinema.engines import EngineSettings
from kinema.engines.scheduler import Scheduler
from kinema.engines.settings import SETTINGS, narrow
from kinema.errors import MissingPackage
from kinema.jobs.answer_cache import AnswerCache
from kinema.jobs.site import PATIENCE_SECONDS, Local, Site
from kinema.lazy import Row
from kinema.ranges import require_value
from kinema.tasks.imports import CheckpointParts
from kinema.tasks.models import Model, find_model
from kinema.video import Workers
from kinema.video.decoder import DecoderName

Runner = Literal["local", "ray"]

_RAY = Row("kinema.jobs.ray:RaySite", needs=("ray",), install="pip install 'kinema[ray]'")


@dataclass(frozen=True, kw_only=True)
class JobSettings:
    """How much is done at a time, where, and what happens to what earlier runs left."""

    workers: int = 2
    """Processes that decode; with --runner ray, workers that have an engine each."""
    decoder: DecoderName = "pyav"
    """What decodes videos: pyav, torchcodec, or cuda, a GPU where a check shows that it gives the
    same pictures."""
    runner: Runner = "local"
    """Where the work is done: this process, or a Ray cluster (RAY_ADDRESS, or a local one)."""
    retry_failed: bool = False
    """Try again what failed in an earlier run."""
    force: bool = False
    """Do everything anew: forget what earlier runs left here, and write over files of others."""

    def __post_init__(self) -> None:
        require_value(self.workers >= 1, "workers", self.workers, "1 or more")

    @property
    def decided(self) -> dict[str, Any]:
        """What of this may change an answer: a GPU's pictures are only nearly those of the CPU."""
        return {"decoder": self.decoder} if self.decoder == "cuda" else {}

    def window(self, engine: str, loading: EngineSettings) -> int:
        """Questions that are under way at one time: enough for engines to choose full batches from.

        Four batches' worth lets requests of about one length run together; an engine that takes
        requests as they come wants as many as it can run.
        """
        engines = self.workers if self.runner == "ray" else 1
        if engine == "openai":
            return engines * 2 * loading.concurrency
        return engines * (256 if engine == "vllm" else 4 * loading.batch_size)


@contextmanager
def open_site(
    model: Model,
    loading: EngineSettings,
    job: JobSettings = JobSettings(),
    *,
    answers: AnswerCache | None = None,
    strict: bool = False,
    scheduler: Scheduler | None = None,
) -> Iterator[Site]:
    """The site of a verb, with its engine; the weights are loaded when they are needed.

    Args:
        model: who answers.
        loading: how its weights are loaded.
        job: where the work is done; the records are the same.
        answers: answers that are known.
        strict: refuse damaged videos.
        scheduler: of an engine that is open already; stays open.

    Raises:
        MissingPackage: Ray is not installed.
    """
    if job.runner == "ray":
        each = JobSettings(workers=1, decoder=job.decoder)
        named = partial(_open_by_name, model.name, model.engine, model.parts, loading, each, strict)
        gpus = loading.tensor_parallel if model.engine in ("hf", "vllm") else 0
        with ray_site(named, actors=job.workers, gpus=gpus, answers=answers) as site:
            yield site
        return
    with ExitStack() as stack:
        if scheduler is None:
            scheduler = model.scheduler(loading, patience_seconds=PATIENCE_SECONDS)
            stack.callback(scheduler.close)
        decoders = stack.enter_context(Workers(job.workers, decoder=job.decoder))
        yield stack.enter_context(
            closing(
                Local(
                    scheduler,
                    decoders,
                    family=model.family,
                    answers=answers,
                    readers=job.workers,
                    strict=strict,
                )
            )
        )


def _open_by_name(
    name: str,
    engine: str,
    parts: CheckpointParts,
    loading: EngineSettings,
    job: JobSettings,
    strict: bool,
    stack: ExitStack,
) -> Site:
    """What a process of a cluster answers at, closed with ``stack``."""
    model = find_model(name, engine=engine, parts=parts)
    return stack.enter_context(open_site(model, loading, job, strict=strict))


@contextmanager
def ray_site(
    open_local: Callable[[ExitStack], Site],
    *,
    actors: int,
    gpus: int,
    answers: AnswerCache | None = None,
) -> Iterator[Site]:
    """Processes of a Ray cluster; each opens a site of its own with ``open_local``, which pickles.

    Raises:
        MissingPackage: Ray is not installed.
    """
    check_runner("ray")
    from kinema.jobs.ray import RaySite  # noqa: PLC0415  Ray is optional

    with closing(RaySite(open_local, actors=actors, gpus=gpus, answers=answers)) as site:
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
