"""The process: a listening socket, uvicorn, and an end that finishes what is under way."""

from __future__ import annotations

import asyncio
import signal
import socket
import tempfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path

import uvicorn

from kinema.engines import EngineSettings
from kinema.errors import UsageError
from kinema.server.app import create_app
from kinema.server.backend import Backend
from kinema.server.limits import ServerSettings
from kinema.server.service import Service
from kinema.tasks.models import Model

_BACKLOG = 512


def serve(
    models: Sequence[Model],
    engine_settings: EngineSettings,
    settings: ServerSettings,
    *,
    clip: Path | str | None = None,
    on_loading: Callable[[], None] = lambda: None,
    on_ready: Callable[[str], None] = lambda address: None,
) -> None:
    """Load the models and answer until SIGTERM or Ctrl-C; what is under way is finished first.

    Args:
        models: what to serve, the default first.
        engine_settings: how its weights are loaded.
        settings: what callers may do.
        clip: a video or its address, for the page to show when it opens.
        on_loading: told when all but the models was found to be right.
        on_ready: told the page's address as soon as requests are taken.

    Raises:
        UsageError: the address cannot be listened on, there is no folder for what is uploaded, or
            two models have one name.
    """
    # All that is cheap to look at comes before the weights, which take long to load.
    names = _names(models, settings)
    _check_temporary_folder()
    with (
        _sigterm_ends_well(),
        _listening(settings) as listener,
        closing(_loaded(models, names, engine_settings, settings, on_loading)) as service,
    ):
        page = _page_of(clip, service)
        config = uvicorn.Config(
            create_app(service),
            log_level="warning",
            access_log=False,
            server_header=False,
            timeout_graceful_shutdown=int(settings.drain_seconds),
        )
        host, port = listener.getsockname()[:2]
        listener.listen(_BACKLOG)
        address = f"http://{f'[{host}]' if ':' in host else host}:{port}{page}"
        _Announced(config, lambda: on_ready(address)).run(sockets=[listener])


def _check_temporary_folder() -> None:
    try:
        tempfile.gettempdir()
    except FileNotFoundError as problem:
        raise UsageError(
            f"There is no folder for what is uploaded: {problem.strerror}.",
            hint="Set TMPDIR to a folder that can be written.",
        ) from None


def _names(models: Sequence[Model], settings: ServerSettings) -> list[str]:
    """What callers call the models."""
    names = [settings.served_model_name or Path(models[0].name).name]
    names += [Path(model.name).name for model in models[1:]]
    if len(set(names)) < len(names):
        raise UsageError(
            f"Two models would both be called one of {', '.join(names)}.",
            hint="Give the first another name: --served-model-name.",
        )
    return names


def _loaded(
    models: Sequence[Model],
    names: Sequence[str],
    engine_settings: EngineSettings,
    settings: ServerSettings,
    on_loading: Callable[[], None],
) -> Service:
    on_loading()
    backends: list[Backend] = []
    try:
        for model, name in zip(models, names, strict=True):
            backends.append(Backend(model, model.scheduler(engine_settings), name=name))
            backends[-1].open()  # one after the other: each sees what memory is left
    except BaseException:
        for backend in backends:
            backend.scheduler.close()
        raise
    return Service(backends, settings)


def _page_of(clip: Path | str | None, service: Service) -> str:
    """The path of the page; with a clip it opens that."""
    if clip is None:
        return ""
    keep = service.fetch(clip) if isinstance(clip, str) else service.keep(clip, name=clip.name)
    return f"/?video={asyncio.run(keep).id}"


class _Announced(uvicorn.Server):
    """Says that it is there once it minds signals: whoever reads that may stop it at once."""

    def __init__(self, config: uvicorn.Config, on_started: Callable[[], None]) -> None:
        super().__init__(config)
        self._on_started = on_started

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        if self.started:
            self._on_started()


@contextmanager
def _listening(settings: ServerSettings) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listener = socket.create_server((settings.host, settings.port), family=family)
    except OSError as problem:
        said = (problem.strerror or str(problem)).partition(" (while")[0]
        raise UsageError(
            f"Nobody can listen on {settings.host}:{settings.port}: {said}.",
            hint="Choose another --host or --port; port 0 is a free one.",
        ) from None
    with listener:
        yield listener


@contextmanager
def _sigterm_ends_well() -> Iterator[None]:
    """SIGTERM as an exit with status 0, after everything was closed.

    While uvicorn runs it takes the signal itself, finishes what is under way and then raises it
    once more.
    """

    def leave(number: int, frame: object) -> None:
        raise SystemExit(0)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
