from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    PreTrainedTokenizerFast,
    SiglipVisionConfig,
    TimmWrapperConfig,
)

from kinema.models.videolm import (
    VideoLMConfig,
    VideoLMForConditionalGeneration,
    VideoLMProcessor,
    VideoLMVideoProcessor,
)
from support.videolm import make_byte_tokenizer

SIZE = {"hidden_size": 32, "intermediate_size": 64, "num_hidden_layers": 3}
TOWERS = {
    "clip": lambda: CLIPVisionConfig(**SIZE, num_attention_heads=4, image_size=42, patch_size=14),
    "siglip": lambda: SiglipVisionConfig(
        **SIZE, num_attention_heads=4, image_size=42, patch_size=14
    ),
    "efficientnet": lambda: TimmWrapperConfig(architecture="tf_efficientnet_lite0"),
}
EFFICIENTNET = {"vision_hidden_size": 1280, "vision_grid": [2, 2], "select_layer": -1}


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


@pytest.fixture
def byte_tokenizer() -> PreTrainedTokenizerFast:
    return make_byte_tokenizer()


@pytest.fixture
def build_config() -> Callable[..., VideoLMConfig]:
    def build(tower: str = "clip", **settings: Any) -> VideoLMConfig:
        text = LlamaConfig(
            vocab_size=300, num_attention_heads=4, num_key_value_heads=2, pad_token_id=0, **SIZE
        )
        known = EFFICIENTNET if tower == "efficientnet" else {}
        tokens = {"media_token_id": 3, "media_start_token_id": 4, "media_end_token_id": 5}
        given = known | tokens | {"cross_attention_heads": 4} | settings
        return VideoLMConfig(vision_config=TOWERS[tower](), text_config=text, **given)

    return build


@pytest.fixture
def build_model(build_config) -> Callable[..., VideoLMForConditionalGeneration]:
    def build(tower: str = "clip", **settings: Any) -> VideoLMForConditionalGeneration:
        model = VideoLMForConditionalGeneration(build_config(tower, **settings)).eval()
        for module in model.vision_tower.modules():
            if tower == "efficientnet" and isinstance(module, torch.nn.Conv2d):
                torch.nn.init.kaiming_normal_(module.weight)  # small weights would die on the way
        return model

    return build


@pytest.fixture
def build_processor(byte_tokenizer) -> Callable[..., VideoLMProcessor]:
    def build(config: VideoLMConfig, **settings: Any) -> VideoLMProcessor:
        side = 64 if config.vision_config.model_type == "timm_wrapper" else 42
        video = VideoLMVideoProcessor(
            size={"shortest_edge": side}, crop_size={"height": side, "width": side}, **settings
        )
        return VideoLMProcessor.for_config(config, tokenizer=byte_tokenizer, video_processor=video)

    return build


@pytest.fixture
def clip_of() -> Callable[[int], np.ndarray]:
    def clip(num_frames: int, height: int = 50, width: int = 60) -> np.ndarray:
        rng = np.random.default_rng(num_frames)
        return rng.integers(0, 256, (num_frames, height, width, 3), dtype=np.uint8)

    return clip
