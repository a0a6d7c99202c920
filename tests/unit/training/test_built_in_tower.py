"""A new VideoLM over the convolutional tower that a Python package carries."""

import numpy as np
import pytest
import torch

from kinema.models.importers.fresh import join
from kinema.models.importers.towers import EFFICIENTNET_LITE0
from kinema.training.loading import load_base, load_processor
from support.training import make_language_model


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    parts = tmp_path_factory.mktemp("parts")
    joined = join(
        make_language_model(parts / "llama"),
        EFFICIENTNET_LITE0,
        template="vicuna_v1_1",
        fit="stretch",
        pooling="grid",
        pool_grid=3,
    )
    return joined.save(parts / "joined", chat_template="{{ messages[0].content }}")


def test_a_frame_of_the_built_in_tower_becomes_a_grid_of_tokens(folder):
    model, processor = load_base(folder, dtype=torch.float32), load_processor(folder)
    frames = np.random.default_rng(0).integers(0, 256, (2, 30, 40, 3), dtype=np.uint8)
    inputs = processor(text="<video>\nWhat?", videos=[frames], return_tensors="pt")
    places = (inputs["input_ids"] == model.config.media_token_id).sum()
    assert places == 2 * 3 * 3
    with torch.inference_mode():
        assert torch.isfinite(model(**inputs).logits).all()


def test_the_joined_tower_keeps_its_weights_and_its_pixels(folder):
    model, processor = load_base(folder, dtype=torch.float32), load_processor(folder)
    assert (model.config.vision_hidden_size, model.config.vision_grid) == (1280, [7, 7])
    assert list(processor.video_processor.image_mean) == [127 / 255] * 3
    stem = model.vision_tower.timm_model.conv_stem.weight
    assert float(stem.detach().std()) > 0.1
