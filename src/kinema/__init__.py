"""kinema: language models that watch video, behind one small library.

>>> import kinema
>>> kinema.chat("clip.mp4", "What happens?")  # doctest: +SKIP
"""

from __future__ import annotations

from typing import Any

from kinema.version import __version__ as __version__

_PUBLIC = {
    "Answer": "kinema.tasks.chat_answer:Answer",
    "Chat": "kinema.tasks.chat:Chat",
    "Frames": "kinema.types:Frames",
    "FrameSampling": "kinema.types:FrameSampling",
    "SamplingParams": "kinema.messages:SamplingParams",
    "KinemaError": "kinema.errors:KinemaError",
    "chat": "kinema.tasks.chat:chat",
    "load": "kinema.tasks.chat:load",
    "load_frames": "kinema.video:load_frames",
    "load_subtitles": "kinema.video:load_subtitles",
    "probe": "kinema.video:probe",
}
"""Every public name and where it lives; nothing of it is imported before it is used."""

__all__ = sorted([*_PUBLIC, "__version__"])  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'kinema' has no attribute {name!r}")
    from kinema.lazy import load  # noqa: PLC0415  keeps `import kinema` free

    return load(_PUBLIC[name])


def __dir__() -> list[str]:
    return list(__all__)
