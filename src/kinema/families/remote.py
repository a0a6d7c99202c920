"""A model behind a server: the server knows its template, frames go as images."""

from kinema.families.base import Family
from kinema.families.turns import turns

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
