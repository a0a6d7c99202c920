"""The family of the echo engine: no weights, no network, the same words every time."""

from kinema.families.base import Family

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
