"""The captioning demo's ``max_threads``, as the setting that each engine has for it."""

from __future__ import annotations

from dataclasses import replace

from kinema.engines import EngineSettings
from kinema.engines.settings import engines_with
from kinema.ranges import require_value


def with_threads(settings: EngineSettings, engine: str, threads: int | None) -> EngineSettings:
    """Settings under which so many requests are on their way at once.

    Raises:
        UsageError: fewer than one.
    """
    if threads is None:
        return settings
    require_value(threads >= 1, "max_threads", threads, "1 or more")
    if engine in engines_with("batch_size"):
        return replace(settings, batch_size=threads)
    if engine in engines_with("concurrency"):
        return replace(settings, concurrency=threads)
    return settings  # the other engines choose the number themselves
