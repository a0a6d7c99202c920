"""The pretrained parts that importers put together: vision towers and tokenizers."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoTokenizer,
    CLIPVisionModel,
    SiglipVisionModel,
)
from transformers.utils import logging as transformers_logging

from kinema.errors import MissingPackage, ModelError, ModelNotFound
from kinema.models.importers.first_llama import read_first_llama
from kinema.models.importers.weights import Weights
from kinema.models.padding import with_padding
from kinema.models.videolm import VideoLMVideoProcessor

_TOWERS = {
    "clip": CLIPVisionModel,
    "clip_vision_model": CLIPVisionModel,
    "siglip": SiglipVisionModel,
    "siglip_vision_model": SiglipVisionModel,
}
_PIXELS = ("size", "crop_size", "image_mean", "image_std", "do_center_crop", "resample")


@contextmanager
def without_bars() -> Iterator[None]:
    """No progress bars of transformers meanwhile."""
    shown = transformers_logging.is_progress_bar_enabled()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            transformers_logging.enable_progress_bar()


@dataclass(frozen=True)
class Tower:
    """A pretrained vision tower."""

    config: Any
    weights: Weights
    """Named as in a VideoLM."""
    video_processor: VideoLMVideoProcessor
    """Gives it the pixels that it was trained on."""


def read_tower(name: str | Path, *, fit: str) -> Tower:
    """A CLIP or SigLIP tower from a folder or the hub's cache.

    Raises:
        ModelNotFound: it is not there.
        ModelError: it is another kind of model, or its weights are damaged.
    """
    try:
        kind = AutoConfig.from_pretrained(name).model_type
        if kind not in _TOWERS:
            raise ModelError(
                f"{name} is a {kind}, and towers are CLIP or SigLIP.", hint="Give another tower."
            )
        with without_bars():
            tower = _TOWERS[kind].from_pretrained(name)
        given = AutoImageProcessor.from_pretrained(name).to_dict()
    except SafetensorError as error:
        raise ModelError(
            f"The vision tower {name} is not whole: its weights are cut short or damaged.",
            hint="Fetch it again: hf download NAME resumes where it stopped.",
        ) from error
    except (OSError, ValueError) as error:
        # Verbs call the flag otherwise: --vision-tower, --tower.
        raise ModelNotFound(
            f"The vision tower {name} cannot be loaded.",
            hint="Give its folder, or a name in the cache of the model hub.",
        ) from error
    pixels = {key: given[key] for key in _PIXELS if given.get(key) is not None}
    if not pixels.get("do_center_crop"):
        pixels |= {"do_center_crop": False, "crop_size": pixels["size"]}
    weights = {f"vision_tower.{key}": tensor for key, tensor in tower.state_dict().items()}
    return Tower(tower.config, weights, VideoLMVideoProcessor(fit=fit, **pixels))


def media_token_ids(tokenizer: Any, tokens: Sequence[str]) -> dict[str, int]:
    """Ids of patch, start and end, by their fields of a ``VideoLMConfig``."""
    names = ("media_token_id", "media_start_token_id", "media_end_token_id")
    return dict(zip(names, tokenizer.convert_tokens_to_ids(list(tokens)), strict=True))


def read_tokenizer(name: str | Path) -> Any:
    """A tokenizer from a folder or the hub's cache, with the ids that its model was trained on.

    Raises:
        ModelNotFound: it is not there.
        ModelError: its files contradict each other.
        MissingPackage: it is a sentencepiece model and that package is not installed.
    """
    try:
        tokenizer = read_first_llama(name) or AutoTokenizer.from_pretrained(name)
        return with_padding(tokenizer)
    except ImportError as error:
        raise MissingPackage(
            f"The tokenizer of {name} is a sentencepiece model.",
            hint="Install with: pip install sentencepiece protobuf",
        ) from error
    except (OSError, ValueError) as error:
        raise ModelNotFound(
            f"The tokenizer {name} cannot be loaded.", hint="Give its folder with --tokenizer."
        ) from error
