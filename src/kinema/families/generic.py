"""Families without a model of their own: any checkpoint, any server, and the echo."""

from kinema.families.base import Family
from kinema.families.turns import turns

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
