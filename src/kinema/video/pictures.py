"""Videos that come as pictures: arrays, tensors, lists, and folders of numbered files."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from kinema.errors import NotAFile, UsageError
from kinema.files import PICTURE_SUFFIXES, VIDEO_SUFFIXES
from kinema.types import Frames, PictureFolder
from kinema.video.access import LOCAL, Access
from kinema.video.data_uri import decode_frame_list, is_data_uri, is_frame_list
from kinema.video.source import as_path, open_media
from kinema.video.stills import read_image, upright_rgb
from kinema.video.timeline import Timeline


@dataclass(frozen=True, eq=False)
class Pictures:
    """Pictures in order, read one by one when they are wanted."""

    name: str
    items: Sequence[Any] | NDArray[np.uint8]
    """uint8[H, W, 3], Pillow images, paths, or contents of picture files."""
    fps: float | None = None
    """One a second when None."""

    @property
    def timeline(self) -> Timeline:
        """Every picture is shown equally long."""
        count, fps = len(self.items), self.fps or 1.0
        return Timeline(np.arange(count) / fps, np.ones(count, dtype=bool), count / fps)

    def read(self, indices: NDArray[np.int64], access: Access = LOCAL) -> Frames:
        """The pictures at ``indices``, increasing.

        Raises:
            UsageError: pictures of different sizes.
            MediaError: a picture cannot be read.
        """
        access.budget.check_frames(self.name, len(indices))
        pictures = [_read(self.items[i], access) for i in indices.tolist()]
        first = pictures[0].shape
        for place, picture in enumerate(pictures):
            if picture.shape != first:
                raise UsageError(
                    f"{self.name}: the first picture is {first[1]}×{first[0]} and another "
                    f"{picture.shape[1]}×{picture.shape[0]} (number {place} of those taken).",
                    hint="Bring them to one size.",
                )
        timeline = self.timeline
        said = "Pictures have no clock; one frame a second was assumed."
        return Frames(
            pixels=np.stack(pictures),
            seconds=timeline.seconds[indices],
            indices=indices,
            source=self.name,
            total_frames=len(self.items),
            duration_seconds=timeline.duration_seconds,
            source_fps=self.fps or 1.0,
            warnings=() if self.fps else (said,),
        )


def as_frames(pictures: Any, *, fps: float | None = None, access: Access = LOCAL) -> Frames:
    """Pictures as :class:`~kinema.types.Frames`, all of them.

    Args:
        pictures: uint8[T, H, W, 3] or uint8[T, 3, H, W] as array or tensor; a list of
            uint8[H, W, 3], Pillow images, paths or file contents; or a folder of picture files,
            taken in the order of the numbers in their names.
        fps: rate at which they are shown; one a second is assumed, and said, when None.
        access: what paths may reach.

    Raises:
        UsageError: another shape or type, or pictures of different sizes.
        MediaError: a picture cannot be read.
    """
    found = find_pictures(pictures, access, fps=fps)
    if found is None:
        raise UsageError(
            f"A {type(pictures).__name__} is no list of pictures.",
            hint="Give uint8[T, H, W, 3], a list of pictures, or a folder of them.",
        )
    return found.read(np.arange(len(found.items)), access)


def find_pictures(source: Any, access: Access, *, fps: float | None = None) -> Pictures | None:
    """The pictures that a source consists of; None when it is a file or address.

    Raises:
        UsageError: an empty list, or an array of another shape.
        NotAFile: a folder without pictures.
    """
    if is_array(source):
        return Pictures("<array>", _channels_last(to_uint8(source)), fps)
    if isinstance(source, list | tuple):
        if not source:
            raise UsageError("The list of pictures is empty.", hint="Give at least one.")
        return Pictures("<pictures>", source, fps)
    if isinstance(source, PictureFolder):
        return _named(str(source), access, source.fps)
    if isinstance(source, str | Path):
        return _named(str(source), access, fps)
    return None


def _named(text: str, access: Access, fps: float | None) -> Pictures | None:
    if is_frame_list(text):
        name, files = decode_frame_list(text, access.budget)
        return Pictures(name, files, fps)
    if (
        is_data_uri(text)
        or access.roots is not None
        or "://" in text[:64]
        or not as_path(text).is_dir()
    ):
        return None
    return Pictures(text, picture_files(as_path(text)), fps)


def picture_files(folder: Path) -> list[Path]:
    """Picture files of a folder in the order of the numbers in their names.

    Raises:
        NotAFile: it holds none.
    """
    names = [f for f in folder.iterdir() if f.suffix.lower() in PICTURE_SUFFIXES and f.is_file()]
    if not names:
        videos = sorted(f.name for f in folder.iterdir() if f.suffix.lower() in VIDEO_SUFFIXES)
        held = f"{len(videos)} videos" if videos else "no videos either"
        raise NotAFile(
            f"{folder} is a directory without pictures; it holds {held}.",
            hint=f"Name one file: {folder / videos[0]}" if videos else "Give a video file.",
        )
    return sorted(names, key=lambda file: natural_key(file.name))


def natural_key(name: str) -> tuple[Any, ...]:
    """Sorts ``frame_2`` before ``frame_10``."""
    pieces = re.split(r"(\d+)", name)
    return tuple((int(piece), piece) if place % 2 else piece for place, piece in enumerate(pieces))


def is_array(source: object) -> bool:
    """True for numpy arrays, torch tensors and whatever else converts to an array and has a shape.

    Torch itself is not imported for this.
    """
    return hasattr(source, "__array__") and hasattr(source, "shape")


def to_uint8(source: Any) -> NDArray[np.uint8]:
    """An array or tensor as uint8[...] on the host.

    Raises:
        UsageError: another type of number.
    """
    if hasattr(source, "detach"):
        source = source.detach().cpu()
    array = np.asarray(source)
    if array.dtype != np.uint8:
        raise UsageError(
            f"The array is {array.dtype}; pictures are uint8, 0 to 255.",
            hint="From 0 to 1: (x * 255).round().astype('uint8').",
        )
    return array


def _channels_last(array: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """uint8[T, H, W, 3] of that, of uint8[T, 3, H, W], or of one picture."""
    if array.ndim == 3:
        array = array[None]
    if array.ndim == 4 and array.shape[-1] != 3 and array.shape[1] == 3:
        array = np.ascontiguousarray(array.transpose(0, 2, 3, 1))
    if array.ndim != 4 or array.shape[-1] != 3 or 0 in array.shape:
        raise UsageError(
            f"The array has shape {list(array.shape)}.",
            hint="It must be uint8[T, H, W, 3] or uint8[T, 3, H, W].",
        )
    return array


def _read(item: Any, access: Access) -> NDArray[np.uint8]:
    """uint8[H, W, 3]."""
    if isinstance(item, Image.Image):
        access.budget.check_pixels("The picture", item.height, item.width)
        return upright_rgb(item)
    if is_array(item):
        pixels = _channels_last(to_uint8(item))
    else:
        pixels = read_image(open_media(item, access)).pixels
    first: NDArray[np.uint8] = pixels[0]
    return first
