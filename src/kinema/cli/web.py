"""``kinema chat --web``: the page, opened in this person's browser."""

from __future__ import annotations

import webbrowser
from pathlib import Path

from kinema.cli.output import say
from kinema.engines import EngineSettings
from kinema.errors import UsageError
from kinema.server.limits import ServerSettings
from kinema.server.running import serve
from kinema.tasks.models import Model
from kinema.video.url_gate import is_url

_MOST_MIB = 65_536
"""One's own videos are not a stranger's."""


def talk_on_page(model: Model, source: str | None, settings: EngineSettings) -> int:
    """Serve the page on a free port of this machine, with the video in it, until Ctrl-C.

    Raises:
        UsageError: there is no such file.
    """
    clip = source if source is None or is_url(source) else Path(source).expanduser()
    if isinstance(clip, Path) and not clip.is_file():
        raise UsageError(f"There is no file {clip}.", hint="Give a video, or drop one on the page.")
    allowed = ServerSettings(port=0, max_file_mib=_MOST_MIB, stored_files_mib=_MOST_MIB)
    serve(
        [model],
        settings,
        allowed,
        clip=clip,
        on_loading=lambda: say(f"loading {model.name} …"),
        on_ready=_open,
    )
    return 0


def _open(address: str) -> None:
    say(f"The page is at {address}, Ctrl-C ends it.")
    webbrowser.open(address)
