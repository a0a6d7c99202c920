"""Chat templates for checkpoints that ship none, put together from the strings between turns."""

from __future__ import annotations


def turns(
    *,
    user: tuple[str, str],
    assistant: tuple[str, str],
    ask: str,
    system: tuple[str, str] = ("", ""),
    video: str = "",
    image: str = "",
    start: str = "",
) -> str:
    """A Jinja template that takes typed parts.

    Args:
        user: what stands before and after a user's turn.
        assistant: the same for the model's turns.
        ask: opens the answer that is asked for.
        system: what stands before and after the system prompt.
        video: stands for a video.
        image: stands for an image.
        start: opens the whole prompt.
    """
    parts = (
        "{%- for part in message.content %}"
        f"{{%- if part.type == 'video' %}}{_say(video)}"
        f"{{%- elif part.type == 'image' %}}{_say(image)}"
        "{%- else %}{{- part.text }}{%- endif %}"
        "{%- endfor %}"
    )
    roles = {"system": system, "user": user, "assistant": assistant}
    branches = "".join(
        f"{{%- {'if' if role == 'system' else 'elif'} message.role == '{role}' %}}"
        f"{_say(before)}{parts}{_say(after)}"
        for role, (before, after) in roles.items()
    )
    loop = f"{{%- for message in messages %}}{branches}{{%- endif %}}{{%- endfor %}}"
    return _say(start) + loop + _say(ask)


def chatml(*, video: str, image: str) -> str:
    """ChatML turns: ``<|im_start|>role``, the content, ``<|im_end|>``."""
    return turns(
        system=("<|im_start|>system\n", "<|im_end|>\n"),
        user=("<|im_start|>user\n", "<|im_end|>\n"),
        assistant=("<|im_start|>assistant\n", "<|im_end|>\n"),
        ask="<|im_start|>assistant\n",
        video=video,
        image=image,
    )


def _say(text: str) -> str:
    """A Jinja expression that prints ``text``, newlines and braces included."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'").replace("\n", "\\n")
    return f"{{{{- '{escaped}' }}}}" if text else ""
