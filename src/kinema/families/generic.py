"""Families without a language model of their own: any checkpoint or server, spotter and echo."""

from kinema.families.base import Family
from kinema.families.turns import turns
from kinema.types import FrameSampling

GENERIC = Family(
    name="generic",
    title="any image-text-to-text checkpoint with a chat template",
    example="",
    takes_video=False,
    image_placeholder="",
)

# The server knows its template, frames go as images.
REMOTE = Family(
    name="remote",
    title="any model behind an OpenAI-compatible server",
    example="",
    engines=("openai",),
    takes_video=False,
    ragged_batch_ok=True,
    # Shown in records only; the server writes the real prompt.
    template=turns(
        system=("system: ", "\n"),
        user=("user: ", "\n"),
        assistant=("assistant: ", "\n"),
        ask="assistant:",
        image="<image>",
    ),
)

# No language model: what a classifier recognises, in fixed sentences.
SPOTTER = Family(
    name="spotter",
    title="kinema's object spotter (EfficientNet-Lite0, no language model)",
    example="spotter",
    engines=("spotter",),
    writes_freely=False,
    ragged_batch_ok=True,
    default_sampling=FrameSampling(num_frames=16),
    revision="1",
    content="text",
    template=(
        "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
        "assistant:"
    ),
)

# No weights, no network, the same words every time.
ECHO = Family(
    name="echo",
    title="Echo (no model; repeats what it was given)",
    example="echo",
    engines=("echo",),
    ragged_batch_ok=True,
    content="text",
    template=(
        "{% for message in messages %}{{ message.role }}: {{ message.content }}\n{% endfor %}"
        "assistant:"
    ),
)
