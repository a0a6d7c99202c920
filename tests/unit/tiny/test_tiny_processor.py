import numpy as np
import pytest
from PIL import Image

from kinema.errors import UsageError


def video(num_frames: int) -> np.ndarray:
    return np.zeros((num_frames, 36, 48, 3), np.uint8)


def test_a_clip_takes_the_places_that_were_promised(tiny):
    inputs = tiny.processor(text=["<video>a<image>b<video>"], videos=[[video(3), video(5)]],
                            images=[[video(1)[0]]])  # fmt: skip
    config, ids = tiny.model.config, inputs["input_ids"]
    assert int((ids == config.video_token_id).sum()) == 8 * config.tokens_per_frame
    assert int((ids == config.image_token_id).sum()) == config.tokens_per_frame
    assert inputs["frame_counts"].tolist() == [3, 1, 5]
    assert inputs["pixel_values"].shape == (9, 2, 3, 224, 224)


def test_shorter_prompts_are_padded_on_the_left(tiny):
    inputs = tiny.processor(text=["<video>", "<video> and more"], videos=[[video(1)], [video(1)]])
    mask = inputs["attention_mask"]
    assert mask[0, 0] == 0
    assert mask[:, -1].tolist() == [1, 1]


def test_times_come_from_indices_and_rate_or_stay_unknown(tiny):
    clock = {"fps": 25.0, "frames_indices": [0, 50]}
    known = tiny.processor(text="<video>", videos=[video(2)], video_metadata=[clock])
    unknown = tiny.processor(text="<video>", videos=[video(2)])
    assert known["frame_milliseconds"].tolist() == [0, 2000]
    assert unknown["frame_milliseconds"].tolist() == [-1, -1]


def test_pixels_are_normalised_as_the_tower_was_trained(tiny):
    white = tiny.processor(text="<image>", images=Image.new("RGB", (30, 20), "white"))
    assert np.allclose(white["pixel_values"], (255 - 127) / 128)


@pytest.mark.parametrize(
    ("text", "videos", "said"),
    [
        ("<video><video>", [video(1)], "more <video> than were given"),
        ("no place", [video(1)], "more media than placeholders"),
        ("<video>", [video(1).astype(np.float32)], "float32"),
    ],
)
def test_prompt_and_media_that_do_not_match_are_refused(tiny, text, videos, said):
    with pytest.raises(UsageError, match=said):
        tiny.processor(text=text, videos=videos)
