"""``load_frames`` and ``load_image``: the front door of the package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from PIL.Image import Image

from kinema.errors import DecodeFailed, UsageError
from kinema.types import Formula, Frames, FrameSampling, Single, Source
from kinema.video.access import LOCAL, Access
from kinema.video.cache import cached_index
from kinema.video.decoder import DecoderName, Size
from kinema.video.decoders import DECODERS
from kinema.video.media import Media
from kinema.video.pictures import Pictures, find_pictures
from kinema.video.sampling import Selection, select, snap_to_keyframes
from kinema.video.source import open_media
from kinema.video.stills import is_image, read_image, single_frame, upright_rgb
from kinema.video.timeline import Timeline

Snap = Literal["keyframes"]
DEFAULT_SAMPLING = FrameSampling(num_frames=8)


def load_frames(  # noqa: PLR0913  one keyword per field of FrameSampling is the point
    source: Source,
    *,
    sampling: FrameSampling | None = None,
    num_frames: int | None = None,
    fps: float | None = None,
    at: Sequence[float | str] | None = None,
    keyframes: bool = False,
    single: Single | None = None,
    max_frames: int | None = None,
    min_frames: int | None = None,
    start: float | str | None = None,
    end: float | str | None = None,
    formula: Formula = "slices",
    decoder: DecoderName = "pyav",
    size: Size | None = None,
    access: Access = LOCAL,
    snap: Snap | None = None,
    strict: bool = False,
) -> Frames:
    """Read some frames of a video, with the times they are shown at.

    What to take is either ``sampling`` or the keywords of :class:`~kinema.types.FrameSampling`;
    8 frames when neither says.

    Args:
        source: path, folder of pictures, ``file://``, ``http(s)://`` or ``data:`` address,
            ``shard.tar::clip.mp4``, bytes, open binary file, Frames, uint8[T, H, W, 3] or a torch
            tensor of it, a list of pictures, or a
            :class:`~kinema.types.PictureFolder` with its rate.
        decoder: ``pyav`` or ``torchcodec``: the same pixels at the stored size.
        size: length of the shorter side in pixels (never enlarged), or (height, width).
        access: what the source may reach, and how much may be read.
        snap: ``"keyframes"`` takes the key frame nearest to each chosen frame instead; quick,
            approximate, and said in the warnings.
        strict: raise ``DecodeFailed`` instead of returning fewer frames than were chosen.

    Raises:
        UsageError: contradictory choices.
        MediaError: the source cannot be used.
    """
    keywords = FrameSampling(
        num_frames=num_frames,
        fps=fps,
        at=None if at is None else tuple(at),
        keyframes=keyframes,
        single=single,
        max_frames=max_frames,
        min_frames=min_frames,
        start=start,
        end=end,
        formula=formula,
    )
    chosen = _one_of(sampling, keywords).or_default(DEFAULT_SAMPLING)
    return _load(source, chosen, _How(decoder, size, access, snap, strict))


@dataclass(frozen=True)
class _How:
    """How a source is read, whatever is taken of it."""

    decoder: DecoderName
    size: Size | None
    access: Access
    snap: Snap | None
    strict: bool


def _load(source: Source, sampling: FrameSampling, how: _How) -> Frames:
    if isinstance(source, Frames):
        return _sample_frames(source, sampling)
    if (pictures := find_pictures(source, how.access)) is not None:
        return _sample_pictures(pictures, sampling, how.access)
    media = open_media(source, how.access)
    if is_image(media):
        return _sample_frames(read_image(media), sampling)
    return _read_video(media, sampling, how)


def _one_of(sampling: FrameSampling | None, keywords: FrameSampling) -> FrameSampling:
    if sampling is None:
        return keywords
    if keywords != FrameSampling():
        raise UsageError(
            "load_frames was given both sampling= and its single keywords.",
            hint="Put everything into the FrameSampling.",
        )
    return sampling


def _read_video(media: Media, sampling: FrameSampling, how: _How) -> Frames:
    decode = DECODERS.load(how.decoder)
    index = cached_index(media)
    timeline = index.timeline
    selection = _choose(media, timeline, sampling, how.snap)
    decoded = decode(media, index, selection.indices, size=how.size)
    got = selection.indices[decoded.found]
    missing = _missing(media, len(got), len(selection.indices), strict=how.strict)
    return Frames(
        pixels=decoded.pixels if decoded.found.all() else decoded.pixels[decoded.found],
        seconds=timeline.seconds[got],
        indices=got,
        source=media.name,
        total_frames=len(timeline),
        duration_seconds=timeline.duration_seconds,
        source_fps=timeline.fps,
        warnings=(*selection.warnings, *decoded.warnings, *missing),
    )


def _choose(
    media: Media, timeline: Timeline, sampling: FrameSampling, snap: Snap | None
) -> Selection:
    """Which frames to decode, within what may be read."""
    selection = select(timeline, sampling)
    media.budget.check_frames(media.name, len(selection.indices))
    return selection if snap is None else snap_to_keyframes(timeline, selection)


def _missing(media: Media, got: int, wanted: int, *, strict: bool) -> tuple[str, ...]:
    """The warning that frames could not be decoded, where there were such."""
    if got == wanted:
        return ()
    said = f"Decoded {got} of {wanted} frames."
    if strict:
        raise DecodeFailed(f"{media.name}: {said}", hint="Read it without strict to get those.")
    return (said,)


def _sample_pictures(pictures: Pictures, sampling: FrameSampling, access: Access) -> Frames:
    selection = select(pictures.timeline, sampling)
    taken = pictures.read(selection.indices, access)
    return replace(taken, warnings=(*taken.warnings, *selection.warnings))


def _sample_frames(frames: Frames, sampling: FrameSampling) -> Frames:
    timeline = _timeline_of(frames)
    selection: Selection = select(timeline, sampling)
    taken = frames[selection.indices]
    return replace(taken, warnings=(*frames.warnings, *selection.warnings))


def _timeline_of(frames: Frames) -> Timeline:
    seconds = frames.seconds - frames.seconds[0]
    step = float(np.median(np.diff(seconds))) if len(seconds) > 1 else 0.0
    return Timeline(seconds, np.ones(len(seconds), dtype=bool), float(seconds[-1]) + step)


def load_image(
    source: Source | Image,
    *,
    access: Access = LOCAL,
    load: Callable[..., Frames] = load_frames,
) -> Frames:
    """Read one picture, upright, as Frames of length 1.

    Args:
        source: path, bytes, Pillow image, uint8[H, W, 3] or Frames; of a video the first frame.
        load: who reads files: this process or the workers of a :class:`kinema.video.Workers`.

    Raises:
        MediaError: the source cannot be used.
    """
    if isinstance(source, Frames):
        return source[:1]
    if isinstance(source, Image):
        return single_frame(upright_rgb(source), "<image>")
    return replace(load(source, single="first", access=access), warnings=())
