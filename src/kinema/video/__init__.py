"""Video in, :class:`~kinema.types.Frames` out.

Nothing heavy is imported before one of these names is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kinema.lazy import load

if TYPE_CHECKING:
    from kinema.video.access import LOCAL as LOCAL
    from kinema.video.access import Access as Access
    from kinema.video.access import UrlRules as UrlRules
    from kinema.video.access import server_access as server_access
    from kinema.video.budget import Budget as Budget
    from kinema.video.info import VideoInfo as VideoInfo
    from kinema.video.info import plan as plan
    from kinema.video.info import probe as probe
    from kinema.video.live import watch as watch
    from kinema.video.pictures import as_frames as as_frames
    from kinema.video.reading import load_frames as load_frames
    from kinema.video.reading import load_image as load_image
    from kinema.video.sheet import contact_sheet as contact_sheet
    from kinema.video.shots import Shot as Shot
    from kinema.video.shots import find_shots as find_shots
    from kinema.video.worker import Workers as Workers

_PUBLIC = {
    "Workers": "kinema.video.worker:Workers",
    "Access": "kinema.video.access:Access",
    "Budget": "kinema.video.budget:Budget",
    "LOCAL": "kinema.video.access:LOCAL",
    "Shot": "kinema.video.shots:Shot",
    "UrlRules": "kinema.video.access:UrlRules",
    "as_frames": "kinema.video.pictures:as_frames",
    "server_access": "kinema.video.access:server_access",
    "VideoInfo": "kinema.video.info:VideoInfo",
    "contact_sheet": "kinema.video.sheet:contact_sheet",
    "find_shots": "kinema.video.shots:find_shots",
    "load_frames": "kinema.video.reading:load_frames",
    "load_image": "kinema.video.reading:load_image",
    "plan": "kinema.video.info:plan",
    "probe": "kinema.video.info:probe",
    "watch": "kinema.video.live:watch",
}

__all__ = sorted(_PUBLIC)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'kinema.video' has no attribute {name!r}")
    return load(_PUBLIC[name])


def __dir__() -> list[str]:
    return list(__all__)
