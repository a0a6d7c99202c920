"""Flags make the settings themselves, whatever else is imported in the process."""

import pydantic

from kinema.cli.app import build
from kinema.engines import EngineSettings
from kinema.messages import SamplingParams


def test_flags_make_the_very_settings_also_where_pydantic_has_marked_them():
    # A server in the same process does this; the parser then lets pydantic check what it read.
    for kind in (SamplingParams, EngineSettings):
        pydantic.TypeAdapter(kind)
    words = ["clip.mp4", "What?", "--temperature", "0.5", "--batch-size", "3"]
    _, bound, _ = build("chat").parse_args(words, exit_on_error=False, print_error=False)
    params, settings = bound.arguments["params"], bound.arguments["settings"]
    assert type(params) is SamplingParams
    assert type(settings) is EngineSettings
    assert (params.temperature, params.top_p, settings.batch_size) == (0.5, 1.0, 3)
