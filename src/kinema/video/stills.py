"""Still and animated images that Pillow reads, turned upright by their EXIF orientation.

HEIF goes to libheif where its package is installed, and to FFmpeg otherwise, which reads a photo
that is one picture and refuses one of tiles.
"""

from __future__ import annotations

from functools import cache
from importlib.util import find_spec

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps, ImageSequence, UnidentifiedImageError

from kinema.errors import DecodeFailed, NotMedia, TooLarge
from kinema.types import Frames
from kinema.video.media import Media

_JPEG_VIDEOS = (".mjpeg", ".mjpg")
"""Names of JPEG pictures one after the other, which begin as one picture does."""
_HEIF_BRANDS = frozenset({b"heic", b"heix", b"heim", b"heis", b"mif1"})
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"BM", b"II*\0", b"MM\0*")
_ANY_MILLISECONDS = 100.0


def is_image(media: Media) -> bool:
    """True for JPEG, PNG, BMP, TIFF, WebP, AVIF and, with its package, HEIF; GIF is a video."""
    head = media.head
    if head.startswith(_SIGNATURES):
        return b"acTL" not in head and not media.name.lower().endswith(_JPEG_VIDEOS)
    return (
        (head[:4] == b"RIFF" and head[8:12] == b"WEBP")
        or _brand(media) == b"avif"
        # Animated; the transparency is a track of its own, which FFmpeg does not lay under.
        or (head[4:12] == b"ftypavis" and b"auxv" in head)
        or (is_heif(media) and can_read_heif())
    )


def is_heif(media: Media) -> bool:
    """True for a photo; a sequence of pictures (``hevc``, ``msf1``) is a video to us."""
    return _brand(media) in _HEIF_BRANDS


def _brand(media: Media) -> bytes:
    """The main brand of an ISO base media file, empty for others.

    Of ``mif1``, which names no codec, what the list of compatible brands says.
    """
    head = media.head
    if head[4:8] != b"ftyp":
        return b""
    compatible = head[16 : int.from_bytes(head[:4], "big")]
    is_avif = head[8:12] == b"mif1" and b"avif" in compatible
    return b"avif" if is_avif else head[8:12]


@cache
def can_read_heif() -> bool:
    """Whether the package is installed that puts photos of tiles together."""
    return find_spec("pillow_heif") is not None


def read_image(media: Media) -> Frames:
    """All pictures of an image file with their times; a still image is one picture at 0 s.

    Raises:
        NotMedia: Pillow does not know the format.
        DecodeFailed: the file is damaged.
        TooLarge: more pixels or pictures than the budget.
    """
    try:
        if is_heif(media):
            from kinema.video.heif import read_heif  # noqa: PLC0415  its package is optional

            return single_frame(upright_rgb(read_heif(media)), media.name)
        pictures = _read_pages(media)
    except UnidentifiedImageError:
        raise NotMedia(f"{media.name} is no image that can be read.", hint="Check it.") from None
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise TooLarge(f"{media.name} is an enormous picture.", hint="Scale it down.") from None
    except (OSError, ValueError, SyntaxError, RuntimeError, EOFError):
        raise DecodeFailed(f"{media.name} is damaged.", hint="Save it again.") from None
    return _as_frames(media.name, pictures)


def _read_pages(media: Media) -> list[tuple[NDArray[np.uint8], float]]:
    """Pictures, uint8[H, W, 3], and for how many seconds each is shown."""
    with media.open() as file, Image.open(file) as image:
        media.budget.check_pixels(media.name, image.height, image.width)
        media.budget.check_frames(media.name, getattr(image, "n_frames", 1))
        return [
            (upright_rgb(page), float(page.info.get("duration") or _ANY_MILLISECONDS) / 1000)
            for page in ImageSequence.Iterator(image)
        ]


def upright_rgb(image: Image.Image) -> NDArray[np.uint8]:
    """uint8[H, W, 3]; EXIF orientation applied, transparency laid on white."""
    upright = ImageOps.exif_transpose(image)
    if upright.has_transparency_data:
        rgba = upright.convert("RGBA")
        upright = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return np.asarray(upright.convert("RGB"))


def _as_frames(name: str, pictures: list[tuple[NDArray[np.uint8], float]]) -> Frames:
    pages = [page for page, _ in pictures if page.shape == pictures[0][0].shape]
    if len(pages) == 1:
        return single_frame(pages[0], name)
    ends = np.cumsum([seconds for _, seconds in pictures[: len(pages)]])
    return Frames(
        pixels=np.stack(pages),
        seconds=np.concatenate([[0.0], ends[:-1]]),
        indices=np.arange(len(pages)),
        source=name,
        total_frames=len(pages),
        duration_seconds=float(ends[-1]),
        source_fps=len(pages) / float(ends[-1]),
    )


def single_frame(pixels: NDArray[np.uint8], name: str) -> Frames:
    """One picture at 0 s."""
    return Frames(
        pixels=pixels[None],
        seconds=np.zeros(1),
        indices=np.zeros(1, dtype=np.int64),
        source=name,
        total_frames=1,
    )
