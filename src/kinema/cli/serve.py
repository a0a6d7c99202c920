"""``kinema serve``: the OpenAI chat API over one model."""

from __future__ import annotations

from typing import Annotated

from cyclopts import Parameter

from kinema.cli.output import say
from kinema.engines import EngineSettings
from kinema.server.limits import ServerSettings
from kinema.server.running import serve as serve_model
from kinema.tasks.imports import CheckpointParts
from kinema.tasks.models import DEFAULT_MODEL, find_model


def serve(
    model: str = DEFAULT_MODEL,
    /,
    *,
    engine: str | None = None,
    server: Annotated[ServerSettings, Parameter(name="*")] = ServerSettings(),
    settings: Annotated[EngineSettings, Parameter(name="*")] = EngineSettings(),
    parts: Annotated[CheckpointParts, Parameter(name="*")] = CheckpointParts(),
) -> int:
    """Serve one model with the API of OpenAI's chat completions.

    Local files are not read and private addresses not fetched unless flags say so.

    Examples:
      kinema serve
      kinema serve Qwen/Qwen2.5-VL-3B-Instruct --engine vllm --host 0.0.0.0 --api-key secret
      kinema serve tiny --allowed-local-media-path /data/videos --max-requests 32

    Args:
        model: tiny, a checkpoint folder, family:FOLDER, or a name on a model hub.
        engine: The backend, instead of the family's first: see `kinema models`.
    """
    found = find_model(model, engine=engine, parts=parts)
    say(f"loading {model} …")
    serve_model(
        found,
        settings,
        server,
        on_ready=lambda address: say(f"Serving {model} at {address}/v1, Ctrl-C ends it."),
    )
    return 0
