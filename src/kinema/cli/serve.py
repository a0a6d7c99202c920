"""``kinema serve``: the OpenAI chat API and a page, over one model or several."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from kinema.cli.flags import EngineFlags, PartFlags
from kinema.cli.output import say
from kinema.engines import EngineSettings
from kinema.server.limits import ServerSettings
from kinema.server.running import serve as serve_model
from kinema.tasks.chosen import default_model
from kinema.tasks.imports import CheckpointParts
from kinema.tasks.models import find_model


def serve(
    *models: str,
    model_name: tuple[str, ...] = (),
    engine: str | None = None,
    server: Annotated[ServerSettings, Parameter(name="*")] = ServerSettings(),
    settings: EngineFlags = EngineSettings(),
    parts: PartFlags = CheckpointParts(),
) -> int:
    """Serve models with the API of OpenAI's chat completions, and a page for browsers.

    Local files are not read and private addresses not fetched unless flags say so.

    Examples:
      kinema serve
      kinema serve Qwen/Qwen2.5-VL-3B-Instruct --engine vllm --host 0.0.0.0 --api-key secret
      kinema serve spotter --allowed-local-media-path /data/videos --max-requests 32

    Args:
        models: spotter, checkpoint folders, family:FOLDER, or names on a model hub; the first is
            the default.
        model_name: The same, as Video-ChatGPT's demo calls it.
        engine: The backend, instead of the family's first: see `kinema models`.
    """
    names = (*models, *model_name) or (default_model(),)
    found = [find_model(name, engine=engine, parts=parts) for name in names]
    said = " and ".join(names)
    serve_model(
        found,
        settings,
        server,
        on_loading=lambda: say(f"loading {said} …"),
        on_ready=lambda address: say(
            f"Serving {said} at {address}/v1, for browsers at {address}. Ctrl-C ends it."
        ),
    )
    return 0
