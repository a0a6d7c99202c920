"""`VideoLM`: any vision tower, a connector, any causal language model.

Importing this package tells transformers' Auto classes about it, so that
``AutoModelForImageTextToText.from_pretrained(folder)`` and ``AutoProcessor`` find it.
"""

from transformers import (
    AutoConfig,
    AutoModelForImageTextToText,
    AutoProcessor,
    AutoVideoProcessor,
)

from kinema.models.videolm.config import VideoLMConfig
from kinema.models.videolm.model import VideoLMForConditionalGeneration
from kinema.models.videolm.processor import VideoLMProcessor
from kinema.models.videolm.video_processor import VideoLMVideoProcessor
from kinema.plugins import VIDEOLM, load_plugins

AutoConfig.register(VideoLMConfig.model_type, VideoLMConfig, exist_ok=True)
AutoModelForImageTextToText.register(VideoLMConfig, VideoLMForConditionalGeneration, exist_ok=True)
AutoProcessor.register(VideoLMConfig, VideoLMProcessor, exist_ok=True)
AutoVideoProcessor.register(VideoLMConfig, VideoLMVideoProcessor, exist_ok=True)
load_plugins(VIDEOLM)

__all__ = [
    "VideoLMConfig",
    "VideoLMForConditionalGeneration",
    "VideoLMProcessor",
    "VideoLMVideoProcessor",
]
