"""The sound of a video, a stretch at a time, on the clock of its pictures."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import av
import numpy as np
from av.error import FFmpegError
from numpy.typing import NDArray

from kinema.types import Source
from kinema.video.access import LOCAL, Access
from kinema.video.cache import cached_index
from kinema.video.container import open_container, video_stream
from kinema.video.media import Media
from kinema.video.source import open_media

RATE = 16_000
"""Samples a second; what speech models listen to."""
_LEAD_SECONDS = 1.0
"""Decoded before a stretch, because many codecs need some packets to settle."""
_CODECS = frozenset(
    (
        *("aac", "mp3", "mp2", "opus", "vorbis", "flac", "alac", "ac3", "eac3", "dts"),
        *("amrnb", "amrwb", "wmav1", "wmav2", "adpcm_ms", "adpcm_ima_wav", "speex"),
        *("pcm_s16le", "pcm_s16be", "pcm_s24le", "pcm_s24be", "pcm_s32le", "pcm_f32le", "pcm_u8"),
        *("pcm_alaw", "pcm_mulaw", "nellymoser", "cook"),
    )
)


@dataclass(frozen=True, eq=False)
class Sound:
    """A stretch of sound."""

    samples: NDArray[np.int16]
    """int16[S], mono, ``RATE`` a second; silence where the file has a gap."""
    start_seconds: float
    """Presentation time of the first sample."""
    rate: int = RATE


def load_sound(
    source: Source,
    *,
    start_seconds: float,
    end_seconds: float,
    track: int | None = None,
    access: Access = LOCAL,
) -> Sound:
    """Decode the sound between two presentation times; shorter where it ends before.

    Args:
        source: see :func:`kinema.video.load_frames`.
        start_seconds: presentation time of the first sample.
        end_seconds: presentation time behind the last one.
        track: the video track that time is counted on, from 0; None for the one that players show.
        access: what the source may reach.

    Raises:
        MediaError: the source cannot be used.
    """
    media = open_media(source, access, track=track)
    index = cached_index(media)
    samples = np.zeros(round((end_seconds - start_seconds) * RATE), np.int16)
    filled = 0
    with open_container(media) as container:
        stream = next(iter(container.streams.audio), None)
        if stream is not None and stream.codec_context.codec.canonical_name in _CODECS:
            start = index.zero_seconds(video_stream(container, media)) + start_seconds
            filled = _fill(samples, container, stream, start, media)
    return Sound(samples[:filled], start_seconds)


def _fill(
    samples: NDArray[np.int16], container: Any, stream: Any, start: float, media: Media
) -> int:
    """Put decoded sound where it belongs; returns the place behind the last of it."""
    lead = max(0.0, start - _LEAD_SECONDS)
    container.seek(round(lead / stream.time_base), stream=stream)
    resampler = av.AudioResampler(format="s16", layout="mono", rate=RATE)
    filled = 0
    for packet in media.metered(container.demux(stream)):
        try:
            frames = packet.decode()
        except FFmpegError:
            continue  # damaged sound is silence
        for frame in (frame for frame in frames if frame.pts is not None):
            for piece in resampler.resample(frame):
                at = round((float(piece.pts * piece.time_base) - start) * RATE)
                if at >= len(samples):
                    return filled
                filled = max(filled, _put(samples, piece.to_ndarray()[0], at))
    return filled


def _put(samples: NDArray[np.int16], piece: NDArray[np.int16], at: int) -> int:
    piece = piece[max(0, -at) :][: len(samples) - max(0, at)]
    at = max(0, at)
    samples[at : at + len(piece)] = piece
    return at + len(piece) if len(piece) else 0
