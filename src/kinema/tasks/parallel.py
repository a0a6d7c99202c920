"""One model in several processes of torchrun: the first one leads, the others follow."""

from __future__ import annotations

from kinema.engines import Engine, world_size
from kinema.engines.scheduler import Scheduler
from kinema.errors import MissingCapability


def open_for_followers(scheduler: Scheduler) -> None:
    """Load the weights now where other processes hold slices of them: they wait for this one.

    Raises:
        KinemaError: what hinders the loading; the scheduler is closed then.
    """
    if world_size() == 1:
        return
    try:
        scheduler.call(lambda engine: None).result()
    except BaseException:
        scheduler.close()
        raise


def follow(engine: Engine) -> int:
    """Hold a slice of the model until the first process is done; returns an exit status.

    Raises:
        MissingCapability: the engine does not split models over processes.
    """
    if not hasattr(engine, "follow"):
        raise MissingCapability(
            f"The engine {engine.name!r} does not split models over processes.",
            hint="--engine hf does.",
        )
    engine.follow()
    engine.close()
    return 0
