"""Video in, :class:`~kinema.types.Frames` out.

Nothing heavy is imported before one of these names is used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from kinema.lazy import load

if TYPE_CHECKING:
    from kinema.video.access import LOCAL as LOCAL
    from kinema.video.access import Access as Access
    from kinema.video.access import Budget as Budget
    from kinema.video.access import UrlRules as UrlRules
    from kinema.video.access import server_access as server_access
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
    from kinema.video.subtitles import load_subtitles as load_subtitles
    from kinema.video.worker import Workers as Workers

_HOMES = {
    "access": ("LOCAL", "Access", "Budget", "UrlRules", "server_access"),
    "info": ("VideoInfo", "plan", "probe"),
    "live": ("watch",),
    "pictures": ("as_frames",),
    "reading": ("load_frames", "load_image"),
    "sheet": ("contact_sheet",),
    "shots": ("Shot", "find_shots"),
    "subtitles": ("load_subtitles",),
    "worker": ("Workers",),
}
_PUBLIC = {name: f"kinema.video.{home}:{name}" for home, names in _HOMES.items() for name in names}

__all__ = sorted(_PUBLIC)  # noqa: PLE0605


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'kinema.video' has no attribute {name!r}")
    return load(_PUBLIC[name])


def __dir__() -> list[str]:
    return list(__all__)
