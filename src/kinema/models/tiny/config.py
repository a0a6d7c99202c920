"""The configuration of the built-in model."""

from __future__ import annotations

from typing import Any, ClassVar

from huggingface_hub.dataclasses import strict
from transformers import AutoConfig, PreTrainedConfig
from transformers.configuration_utils import SubConfigSpec


@strict
class TinyConfig(PreTrainedConfig):  # type: ignore[misc]
    """A LLaMA language model behind an EfficientNet-Lite0 classifier."""

    model_type = "kinema_tiny"
    sub_configs_defaults: ClassVar[dict[str, Any]] = {
        "text_config": SubConfigSpec(config_class=AutoConfig, model_type="llama")
    }

    text_config: dict[str, Any] | PreTrainedConfig | None = None
    vision_model: str = "tf_efficientnet_lite0"
    """A timm architecture with the thousand ImageNet classes."""
    image_token_id: int = 49152
    video_token_id: int = 49153
    tokens_per_frame: int = 4
    """Places in the prompt that each frame takes."""
    tie_word_embeddings: bool = True
