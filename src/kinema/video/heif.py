"""Photos of phones: HEIF files, put together and turned upright by libheif.

A phone stores a photo as a grid of tiles, each a picture of its own to FFmpeg (ISO/IEC 23008-12).
"""

from __future__ import annotations

import pillow_heif
from PIL import Image

from kinema.errors import Truncated
from kinema.video.media import Media
from kinema.video.mp4 import top_level_boxes


def read_heif(media: Media) -> Image.Image:
    """The main picture of a HEIF file, upright, in 8 bit.

    Raises:
        Truncated: the file ends before its last box does; libheif would leave tiles grey.
        TooLarge: more pixels than the budget.
        ValueError, RuntimeError, OSError, SyntaxError: libheif cannot read it.
    """
    with media.open() as file:
        for _, position, size in top_level_boxes(file, media.size_bytes):
            if position + size > media.size_bytes:
                raise Truncated(
                    f"{media.name} ends in the middle of its picture.",
                    hint="Was the download interrupted? Fetch it again.",
                )
        file.seek(0)
        heif = pillow_heif.open_heif(file)
        width, height = heif.size
        media.budget.check_pixels(media.name, height, width)
        picture: Image.Image = heif.to_pillow()
    return picture
