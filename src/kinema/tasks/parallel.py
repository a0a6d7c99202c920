"""What every process of a torchrun but the first one does."""

from __future__ import annotations

from kinema.engines import EngineSettings, Follows, require
from kinema.tasks.models import Model


def follow(model: Model, settings: EngineSettings) -> int:
    """Hold a slice of the model until the first process is done.

    Raises:
        MissingCapability: the engine does not split models over processes.
    """
    engine = require(model.open(settings), Follows)
    engine.follow()
    engine.close()
    return 0
