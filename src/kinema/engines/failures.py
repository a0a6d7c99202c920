"""Errors that come out of an engine, made fit for callers."""

from __future__ import annotations

import logging
from collections.abc import Callable

from kinema.errors import EngineDied, EngineUnreachable, KinemaError, ModelError, OutOfMemory

_log = logging.getLogger(__name__)


def named(problem: BaseException, sentence: str) -> BaseException:
    """An error of ours as it is; any other behind a sentence that callers may read."""
    if isinstance(problem, KinemaError):
        return problem
    named = ModelError(f"{sentence} {type(problem).__name__}: {first_line(problem)}")
    named.__cause__ = problem
    return named


def unopened(problem: Exception, what: str) -> KinemaError:
    """Why the engine or a tower cannot be opened: never the fault of one input or request."""
    if isinstance(problem, KinemaError) and problem.blame in ("engine", "run"):
        return problem
    kind = "" if isinstance(problem, KinemaError) else f"{type(problem).__name__}: "
    opened = ModelError(
        f"{what} cannot be opened. {kind}{first_line(problem)}", hint=getattr(problem, "hint", "")
    )
    opened.__cause__ = problem
    return opened


def may_be_one_requests(problem: KinemaError) -> bool:
    """Whether a breakdown may be the fault of what ran, as it is when others are answered since."""
    failed_at_it = isinstance(problem, EngineUnreachable) and problem.failed_at_request
    return failed_at_it or isinstance(problem, OutOfMemory | EngineDied)


def give_back(held: Callable[[], None]) -> None:
    """Have an engine give back what it holds; a lost device answers even that with an error."""
    try:
        held()
    except Exception as problem:
        _log.error("the engine could not give back what it holds", exc_info=problem)


def first_line(problem: BaseException) -> str:
    """What went wrong, without the page that follows."""
    return next(iter(str(problem).strip().splitlines()), "")


def without_frames(problem: BaseException) -> BaseException:
    """The error without the stack frames of it and of what caused it; they hold tensors."""
    seen: set[int] = set()
    link: BaseException | None = problem
    while link is not None and id(link) not in seen:
        seen.add(id(link))
        link.__traceback__ = None
        link = link.__cause__ or link.__context__
    return problem
