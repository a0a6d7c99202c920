"""What may be shown to the model: every kind of picture, and clips that are not RGB."""

import av
import numpy as np
import pytest
from PIL import Image

from kinema import load_frames
from kinema.families import FAMILIES
from kinema.messages import Conversation, ImagePart, Message
from kinema.prompt import decode
from kinema.tasks.chat import as_part
from kinema.types import FrameSampling


@pytest.mark.parametrize(
    ("ending", "mode"),
    [
        ("png", "L"), ("PNG", "RGBA"), ("png", "P"), ("jpg", "CMYK"), ("jpeg", "L"),
        ("JPEG", "RGB"), ("webp", "RGBA"), ("bmp", "RGB"), ("tif", "RGB"), ("tiff", "RGBA"),
    ],
)  # fmt: skip
def test_pictures_of_every_ending_and_mode_are_one_rgb_frame(tmp_path, ending, mode):
    path = tmp_path / f"picture.{ending}"
    Image.new("RGB", (40, 30), (200, 40, 40)).convert(mode).save(path)
    part = as_part(path, FrameSampling())
    assert isinstance(part, ImagePart)
    said = Conversation((Message("user", (part,)),))
    (read,) = decode(said, FAMILIES["lwm"]).messages[0].parts
    assert read.source.pixels.shape == (1, 30, 40, 3)
    assert read.source.pixels.dtype == np.uint8


@pytest.mark.parametrize("pix_fmt", ["gray", "bgra"])
def test_grey_and_transparent_clips_are_rgb_too(tmp_path, pix_fmt):
    path = tmp_path / "clip.mkv"
    with av.open(str(path), "w") as output:
        stream = output.add_stream("ffv1", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pix_fmt
        for value in (20, 120, 220):
            picture = np.full((48, 64, 3), value, np.uint8)
            output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        output.mux(stream.encode(None))
    pixels = load_frames(path, num_frames=3, formula="linspace").pixels
    assert pixels.shape == (3, 48, 64, 3)
    assert np.abs(pixels[:, 20, 20].astype(int) - [[20], [120], [220]]).max() <= 4
