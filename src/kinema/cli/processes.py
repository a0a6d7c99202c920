"""The processes that hold a model's slices, started by the command that needs them.

What torchrun does for one machine: the same command runs once a slice, told its rank by the
environment (https://docs.pytorch.org/docs/stable/elastic/run.html). This process leads, so that
its terminal, its exit status and its signals are those of an ordinary command.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from typing import NoReturn

from kinema.cli.output import say
from kinema.engines import EngineSettings, world_size
from kinema.errors import Unfinished
from kinema.tasks.models import Model

LED = "KINEMA_LED"
"""In the environment of a process that ends when what started it does."""
_typed: ContextVar[Sequence[str]] = ContextVar("typed", default=())
_PATIENCE_SECONDS = 60


def remember(words: Sequence[str]) -> None:
    """Keep what was typed, which every process of this command is started with."""
    _typed.set(tuple(words))


def end_with_leader() -> None:
    """In a process that was started here: end when the one that started it is gone."""
    if LED in os.environ:
        threading.Thread(target=_wait_for_end, daemon=True).start()


def _wait_for_end() -> NoReturn:
    # A pipe whose other end closes with the leader. Not through sys.stdin: its lock would be held.
    while os.read(0, 1):
        pass
    os._exit(Unfinished.exit_code)


@contextmanager
def slices(model: Model, settings: EngineSettings) -> Iterator[None]:
    """Meanwhile as many processes as ``--tensor-parallel`` asks for; this one leads.

    Nothing is started under torchrun, for one slice, or for an engine that splits by itself.
    """
    count = settings.tensor_parallel
    if world_size() > 1 or count == 1 or model.engine != "hf":
        yield
        return
    import torch  # noqa: PLC0415  heavy, and only this needs it here

    alone = torch.get_num_threads()
    threads = str(max(1, alone // count))
    world = {
        "WORLD_SIZE": str(count),
        "LOCAL_WORLD_SIZE": str(count),
        "MASTER_ADDR": "127.0.0.1",
        "MASTER_PORT": str(_free_port()),
    }
    shared = {"OMP_NUM_THREADS": threads} | dict(os.environ) | world | {LED: "1"}
    followers = [_start(shared | _ranks(number)) for number in range(1, count)]
    own = world | _ranks(0)
    before = {name: os.environ.get(name) for name in own}
    os.environ.update(own)
    torch.set_num_threads(int(threads))
    ended = threading.Event()
    for number, follower in enumerate(followers, start=1):
        arguments = (follower, number, count, ended)
        threading.Thread(target=_watch, args=arguments, daemon=True).start()
    try:
        yield
        ended.set()
        for follower in followers:
            follower.wait(_PATIENCE_SECONDS)
    finally:
        ended.set()
        for follower in followers:
            follower.kill()
            follower.communicate()
        torch.set_num_threads(alone)
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _ranks(number: int) -> dict[str, str]:
    return {"RANK": str(number), "LOCAL_RANK": str(number)}


def _start(environment: dict[str, str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-m", "kinema", *_typed.get()],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        start_new_session=True,  # Ctrl-C is the leader's, which ends the others in order
    )


def _watch(
    follower: subprocess.Popen[bytes], number: int, count: int, ended: threading.Event
) -> None:
    """End this process when one of the others fails: a slice is missing, and calls would hang."""
    status = follower.wait()
    if not ended.is_set() and status:
        say(f"kinema: process {number} of {count} ended with status {status}; the run stops.")
        os._exit(Unfinished.exit_code)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
