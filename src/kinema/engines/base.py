"""How the program meets a backend: small protocols over shared values.

An engine is blind. It never opens a file, chooses a time or knows a chat template; it gets
requests whose frames are decoded and whose prompt is rendered.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

from kinema.errors import KinemaError
from kinema.messages import Completion, Request


def rank() -> int:
    """Which process of a torchrun this is; 0 leads, and works alone where there are no others."""
    return int(os.environ.get("RANK", "0"))


def world_size() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


class Inbox(Protocol):
    """The scheduler as an engine sees it: where requests come from and where answers go."""

    def take(self, running: Sequence[Request] = ()) -> list[Request]:
        """Requests to begin now, chosen by the engine's own ``pick``; empty when there are none.

        Each of them is known to fit the model's context.

        Args:
            running: what was taken earlier and has not ended, for engines that add to it.
        """
        ...

    def is_cancelled(self, request_id: str) -> bool:
        """Whether the caller has left; the engine may drop the request."""
        ...

    def is_streamed(self, request_id: str) -> bool:
        """Whether the caller reads the answer while it is written."""
        ...

    def write(self, request_id: str, text: str) -> None:
        """Hand over a piece of a streamed answer."""
        ...

    def complete(self, completion: Completion) -> None:
        """A request has its answer."""
        ...

    def fail(self, request_id: str, problem: KinemaError) -> None:
        """This request alone has no answer; the others go on."""
        ...


class Engine(Protocol):
    """A backend that runs a model. Everything but ``name`` is used by one thread alone.

    An engine raises what happened to it as it is; it keeps no policy for errors. What runs again,
    and with how many others, is decided by :class:`kinema.engines.scheduler.Scheduler`.
    """

    name: str
    context_length: int | None
    """Tokens for prompt and answer together; None when the engine has no limit."""
    batch_size: int | None
    """Requests that begin together at most; None when new ones may join those that run."""

    def count_tokens(self, request: Request) -> int:
        """Prompt tokens of a request, words and pictures, without running the model.

        A request that is counted is usually served next: what was made for counting may be kept.
        """
        ...

    def pick(self, waiting: Sequence[Request], running: Sequence[Request]) -> list[Request]:
        """Which of ``waiting`` begin next, beside what runs, and in which order.

        Args:
            waiting: in the order in which they came; the first one must not starve.
            running: empty for engines that begin batches when nothing runs.
        """
        ...

    def serve(self, inbox: Inbox) -> None:
        """Answer what ``inbox`` hands out until it hands out nothing more.

        Raises:
            KinemaError: every request that was taken and has not ended is without an answer.
        """
        ...

    def release(self) -> None:
        """Free what is kept to make later requests quick: prepared inputs, the prefix cache."""
        ...

    def close(self) -> None:
        """Give memory, threads and processes back."""
        ...
