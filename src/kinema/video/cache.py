"""Indexes of the files read last, so that a second question costs no second scan."""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable
from typing import TypeVar

from kinema.video.index import BrokenPromise, VideoIndex
from kinema.video.indexing import index_again, index_video
from kinema.video.media import Media

T = TypeVar("T")

_MOST_INDEXES = 64
_MOST_PACKETS = 1 << 20
"""Of all indexes together, twenty bytes each; a longer film is kept until the next file."""
_SAMPLE_BYTES = 1 << 16
_SAMPLES = 16

_indexes: OrderedDict[str, VideoIndex] = OrderedDict()
_lock = threading.Lock()


def cached_index(media: Media) -> VideoIndex:
    """The index of a file, made once for as long as its content stays the same.

    Raises:
        MediaError: see :func:`kinema.video.indexing.index_video`.
    """
    key = fingerprint(media)
    with _lock:
        if key in _indexes:
            _indexes.move_to_end(key)
            return _indexes[key]
    index = index_video(media)
    _keep(key, index)
    return index


def with_index(media: Media, read: Callable[[VideoIndex], T]) -> T:
    """Read a file by its index; where that promised what does not come, again by a better one.

    Raises:
        MediaError: see :func:`kinema.video.indexing.index_video`.
    """
    index = cached_index(media)
    while True:
        try:
            return read(index)
        except BrokenPromise as broken:
            index = index_again(media, index, str(broken))
            _keep(fingerprint(media), index)


def _keep(key: str, index: VideoIndex) -> None:
    with _lock:
        _indexes[key] = index
        while len(_indexes) > 1 and (
            len(_indexes) > _MOST_INDEXES
            or sum(kept.num_packets for kept in _indexes.values()) > _MOST_PACKETS
        ):
            _indexes.popitem(last=False)


def fingerprint(media: Media) -> str:
    """Hash of size, time of change and evenly spread pieces of the content.

    A film of gigabytes costs one megabyte of reading.
    """
    digest = hashlib.blake2b(digest_size=16)
    digest.update(f"{media.size_bytes} {media.track}".encode())
    if media.path is not None:
        digest.update(str(media.path.stat().st_mtime_ns).encode())
    span = max(1, media.size_bytes - _SAMPLE_BYTES)
    with media.open() as file:
        for piece in range(_SAMPLES):
            file.seek(span * piece // (_SAMPLES - 1))
            digest.update(file.read(_SAMPLE_BYTES))
    return digest.hexdigest()
