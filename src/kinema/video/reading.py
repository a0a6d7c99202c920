"""``load_frames`` and ``load_image``: the front door of the package."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Literal

import numpy as np
from PIL.Image import Image

from kinema.errors import DecodeFailed, NoVideoStream, UsageError
from kinema.lazy import Row, Table
from kinema.types import Formula, Frames, FrameSampling, Single, Source
from kinema.video.access import LOCAL, Access
from kinema.video.cache import with_index
from kinema.video.decoder import Decoded, DecoderName, Size
from kinema.video.index import VideoIndex
from kinema.video.media import Media
from kinema.video.pictures import find_pictures
from kinema.video.sampling import select, snap_to_keyframes
from kinema.video.source import open_media
from kinema.video.stills import is_image, read_image, single_frame, upright_rgb
from kinema.video.timeline import Timeline

Snap = Literal["keyframes"]
DEFAULT_SAMPLING = FrameSampling(num_frames=8)
DECODERS = Table(
    "decoder",
    {
        "pyav": Row("kinema.video.pyav:decode", summary="FFmpeg through PyAV, its own build"),
        "torchcodec": Row(
            "kinema.video.torchcodec:decode",
            needs=("torchcodec",),
            install="pip install 'kinema[torchcodec]'",
            summary="the system's FFmpeg through torchcodec",
        ),
        "cuda": Row(
            "kinema.video.cuda:decode",
            needs=("torchcodec",),
            install="pip install 'kinema[torchcodec]'",
            summary="an NVIDIA GPU through torchcodec, checked against the CPU",
        ),
    },
)
"""Each takes ``(media, index, wanted, *, size)`` and gives the frames ``wanted``, int64[K] and
increasing, as ``Decoded``. A MediaError where the file cannot be opened or not one frame decoded.
"""


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
    track: int | None = None,
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
        decoder: ``pyav`` or ``torchcodec``: the same pixels at the stored size; ``cuda``: a GPU
            where its pictures are those of the CPU within two levels of 255 on average, which is
            checked, else PyAV, which is said.
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
        track=track,
    )
    chosen = _one_of(sampling, keywords).or_default(DEFAULT_SAMPLING)
    if isinstance(source, Frames):
        return _sample_frames(source, chosen)
    if (pictures := find_pictures(source, access)) is not None:
        require_no_track(chosen, "A list of pictures")
        selection = select(pictures.timeline, chosen)
        taken = pictures.read(selection.indices, access)
        return replace(taken, warnings=(*taken.warnings, *selection.warnings))
    media = open_media(source, access, track=chosen.track)
    with media.held():
        if is_image(media):
            return _sample_frames(read_image(media), chosen)
        decode = partial(DECODERS.load(decoder), size=size)
        return _read_video(media, chosen, decode, snap=snap, strict=strict)


def _one_of(sampling: FrameSampling | None, keywords: FrameSampling) -> FrameSampling:
    if sampling is None:
        return keywords
    if keywords != FrameSampling():
        raise UsageError(
            "load_frames was given both sampling= and its single keywords.",
            hint="Put everything into the FrameSampling.",
        )
    return sampling


def _read_video(
    media: Media,
    sampling: FrameSampling,
    decode: Callable[..., Decoded],
    *,
    snap: Snap | None,
    strict: bool,
) -> Frames:
    return with_index(
        media, lambda index: _read_by(index, media, sampling, decode, snap=snap, strict=strict)
    )


def _read_by(
    index: VideoIndex,
    media: Media,
    sampling: FrameSampling,
    decode: Callable[..., Decoded],
    *,
    snap: Snap | None,
    strict: bool,
) -> Frames:
    timeline = index.timeline
    selection = select(timeline, sampling)
    media.budget.check_frames(media.name, len(selection.indices))
    if snap is not None:
        selection = snap_to_keyframes(timeline, selection)
    decoded = decode(media, index, selection.indices)
    got = selection.indices[decoded.found]
    warnings = [*selection.warnings, *index.warnings, *decoded.warnings]
    if not decoded.found.all():
        said = f"Decoded {len(got)} of {len(selection.indices)} frames."
        if strict:
            raise DecodeFailed(f"{media.name}: {said}", hint="Read it without strict to get those.")
        warnings.append(said)
    return Frames(
        pixels=decoded.pixels if decoded.found.all() else decoded.pixels[decoded.found],
        seconds=timeline.seconds[got],
        indices=got,
        source=media.name,
        total_frames=len(timeline),
        duration_seconds=timeline.duration_seconds,
        source_fps=timeline.fps,
        warnings=tuple(warnings),
        damaged_packets=decoded.damaged_packets,
        damaged_frames=decoded.corrupt_frames + len(selection.indices) - len(got),
    )


def require_no_track(sampling: FrameSampling, what: str) -> None:
    """Refuse a track of what has none.

    Raises:
        NoVideoStream: a track was asked for.
    """
    if sampling.track:
        raise NoVideoStream(
            f"{what} has no video track {sampling.track}; it is one track of pictures.",
            hint="Leave the track out.",
        )


def _sample_frames(frames: Frames, sampling: FrameSampling) -> Frames:
    require_no_track(sampling, frames.source or "A video of decoded frames")
    selection = select(timeline_of(frames), sampling)
    taken = frames[selection.indices]
    return replace(taken, warnings=(*frames.warnings, *selection.warnings))


def timeline_of(frames: Frames) -> Timeline:
    """The clock of decoded frames; the last one is shown as long as its source says.

    Of a source's frames only some may be there; then the last one is shown for the usual time.
    """
    seconds = frames.seconds - frames.seconds[0]
    duration = float(seconds[-1])
    if frames.duration_seconds is not None and frames.total_frames == len(frames):
        duration = max(duration, frames.duration_seconds)
    elif len(seconds) > 1:
        duration += float(np.median(np.diff(seconds)))
    return Timeline(seconds, np.ones(len(seconds), dtype=bool), duration)


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
