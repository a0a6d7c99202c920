"""Prompts and pixels: exact token counts, times in the prompt, features from files."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessor

from kinema.errors import MediaNotFound, MediumRefused, NotMedia, UsageError
from kinema.models.videolm.features import FeaturesHeader, load_features, save_features
from kinema.models.videolm.layout import TokenLayout, write_run


def layout_of(side: int, **settings) -> TokenLayout:
    return TokenLayout(grid=(side, side), **settings)


@pytest.mark.parametrize(
    ("layout", "num_frames", "tokens"),
    [
        (layout_of(16), 8, 2048),
        (layout_of(24), 8, 4608),
        (layout_of(24, downsample=2), 8, 1152),
        (layout_of(27, downsample=2), 1, 196),
        (layout_of(27), 1, 729),
        (layout_of(16, pooling="spatio_temporal"), 100, 356),
        (layout_of(16, pooling="spatio_temporal"), 7, 356),
        (layout_of(1, pooling="cls"), 1000, 1000),
        (layout_of(7, pooling="grid", pool_grid=2), 5, 20),
    ],
)
def test_token_counts_are_those_of_the_original_systems(layout, num_frames, tokens):
    assert layout.prompt_tokens(num_frames) == tokens


@pytest.mark.parametrize(
    ("wrap", "patches", "wrapped"), [("outside", 2048, 2), ("inside", 2046, 2), ("none", 2048, 0)]
)
def test_start_and_end_stand_where_the_wrap_says(wrap, patches, wrapped):
    run = write_run(layout_of(16, wrap=wrap), 2048, patch="p", start="(", end=")")
    assert run.count("p") == patches
    assert run.count("(") + run.count(")") == wrapped


def test_a_run_too_short_for_inside_is_refused():
    with pytest.raises(UsageError, match="two visual tokens"):
        write_run(layout_of(1, wrap="inside"), 1, patch="p", start="(", end=")")


def test_more_frames_than_temporal_tokens_are_refused():
    with pytest.raises(UsageError, match="101 frames were given and the model has 100"):
        layout_of(16, pooling="spatio_temporal").prompt_tokens(101)


def test_timestamps_stand_before_each_frame(build_config, build_processor, clip_of):
    processor = build_processor(build_config(time="timestamps"))
    inputs = processor(
        text="<video>go", videos=[clip_of(2)], seconds=[[0.0, 1.25]], return_tensors="pt"
    )
    run = "<vid_start>" + "<vid_patch>" * 9 + "<vid_end>"
    text = processor.tokenizer.decode(inputs["input_ids"][0])
    assert text == f"0.0s: {run}\n1.2s: {run}\ngo"


def test_timestamps_without_times_are_refused(build_config, build_processor, clip_of):
    processor = build_processor(build_config(time="timestamps"))
    with pytest.raises(UsageError, match="times of 2 frames"):
        processor(text="<video>", videos=[clip_of(2)])


def test_placeholders_and_media_must_match(build_config, build_processor, clip_of):
    processor = build_processor(build_config())
    with pytest.raises(UsageError, match="hold 1 <video> and 2 media"):
        processor(text="<video>", videos=[clip_of(2), clip_of(2)])
    with pytest.raises(UsageError, match="hold 1 <image> and 0 media"):
        processor(text="<image>")


def test_pixels_equal_the_clip_image_processor(build_config, build_processor, clip_of):
    clip = clip_of(3, height=90, width=120)
    ours = build_processor(build_config())(text="<video>", videos=[clip])["pixel_values"]
    reference = CLIPImageProcessor(
        size={"shortest_edge": 42}, crop_size={"height": 42, "width": 42}
    )
    theirs = reference([Image.fromarray(f) for f in clip], return_tensors="pt")["pixel_values"]
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


def test_stretch_takes_the_nearest_pixels_and_cuts_nothing(build_config, build_processor, clip_of):
    clip = clip_of(2, height=84, width=126)
    processor = build_processor(build_config(), fit="stretch", do_normalize=False)
    pixels = processor(text="<video>", videos=[clip])["pixel_values"]
    expected = clip[:, ::2, ::3].transpose(0, 3, 1, 2) / 255
    np.testing.assert_allclose(pixels.numpy(), expected, atol=1e-6)


def test_pad_centres_the_frame_on_the_mean_colour(build_config, build_processor, clip_of):
    clip = clip_of(1, height=21, width=42)
    processor = build_processor(build_config(), fit="pad", do_normalize=False)
    pixels = processor(text="<video>", videos=[clip])["pixel_values"][0].numpy() * 255
    np.testing.assert_allclose(pixels[:, 10:31], clip[0].transpose(2, 0, 1), atol=1e-3)
    assert pixels[:, 0, 0].round().tolist() == [122, 116, 104]


def test_a_features_file_answers_like_its_frames(build_model, build_processor, clip_of, tmp_path):
    model = build_model()
    processor = build_processor(model.config)
    seen = processor(text="<video>?", videos=[clip_of(4)], return_tensors="pt")
    with torch.no_grad():
        features = model.encode(seen["pixel_values"], seen["num_frames"])
        header = FeaturesHeader.for_config(
            model.config, num_frames=4, seconds=(0.0, 1.0, 2.0, 3.0), source="clip.mp4"
        )
        save_features(tmp_path / "clip.safetensors", features, header)
        stored, read = load_features(tmp_path / "clip.safetensors")
        assert read == header
        assert torch.equal(stored, features)
        inputs = processor(
            text="<video>?", features=[tmp_path / "clip.safetensors"], return_tensors="pt"
        )
        assert torch.equal(model(**inputs).logits, model(**seen).logits)


def test_features_of_another_tower_are_refused_by_name(build_config):
    header = FeaturesHeader.for_config(build_config(), num_frames=2)
    header.check(build_config(projector="linear"))
    with pytest.raises(MediumRefused, match="select_layers"):
        header.check(build_config(select_layer=-1))
    with pytest.raises(MediumRefused, match="tower clip_vision_model 32 3x3"):
        header.check(build_config("siglip"))


def test_what_is_no_features_file_is_named(tmp_path):
    (tmp_path / "x.safetensors").write_bytes(b"not one")
    with pytest.raises(NotMedia, match="no features file"):
        load_features(tmp_path / "x.safetensors")
    with pytest.raises(MediaNotFound):
        load_features(tmp_path / "absent.safetensors")


def test_a_failed_write_leaves_nothing_behind(build_config, tmp_path):
    header = FeaturesHeader.for_config(build_config(), num_frames=2)
    (tmp_path / "taken").mkdir()
    with pytest.raises(IsADirectoryError):
        save_features(tmp_path / "taken", torch.zeros(1, 1, 4), header)
    assert [path.name for path in tmp_path.iterdir()] == ["taken"]
