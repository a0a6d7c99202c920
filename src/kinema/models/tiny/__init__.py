"""The built-in model, ``tiny``: importing this package makes the Auto classes know it."""

from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

from kinema.models.tiny.config import TinyConfig
from kinema.models.tiny.model import TinyForConditionalGeneration
from kinema.models.tiny.processor import TinyProcessor

__all__ = ["TinyConfig", "TinyForConditionalGeneration", "TinyProcessor"]

AutoConfig.register(TinyConfig.model_type, TinyConfig)
AutoModelForImageTextToText.register(TinyConfig, TinyForConditionalGeneration)
AutoProcessor.register(TinyConfig, TinyProcessor)
