"""What an importer makes: everything of a model, and how it becomes a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from huggingface_hub import save_torch_state_dict
from torch import Tensor

from kinema.errors import ModelError
from kinema.files import whole_folder
from kinema.models.importers.weights import Weights
from kinema.models.videolm import (
    VideoLMConfig,
    VideoLMForConditionalGeneration,
    VideoLMProcessor,
    VideoLMVideoProcessor,
)


@dataclass(frozen=True)
class Imported:
    """A foreign model in our terms, not written yet."""

    config: VideoLMConfig
    weights: Weights
    tokenizer: Any
    video_processor: VideoLMVideoProcessor
    template: str
    """Name of the conversation template it was trained with."""
    add_special_tokens: bool = True
    """Whether its prompts get the tokenizer's own begin mark."""
    exact_frames: int | None = None
    """The frame count that every video is stretched to by repeating frames."""

    def save(self, folder: Path, *, chat_template: str, stop: Sequence[str] = ()) -> Path:
        """Write a folder that the Auto classes load; it appears whole or not at all.

        Args:
            folder: where; what stands there is replaced.
            chat_template: Jinja source that comes with the checkpoint.
            stop: strings that end an answer; those that are one token end generation.

        Raises:
            ModelError: weights are missing or left over.
        """
        self._check_names()
        with whole_folder(folder) as draft:
            self._write(draft, chat_template, stop)
        return folder

    def _write(self, folder: Path, chat_template: str, stop: Sequence[str]) -> None:
        self.config.architectures = [VideoLMForConditionalGeneration.__name__]
        self.config.dtype = next(iter(self.weights.values())).dtype
        self.config.save_pretrained(folder)
        save_torch_state_dict({n: _own(t) for n, t in self.weights.items()}, folder)
        known = self.tokenizer.get_vocab()
        ends = [self.tokenizer.eos_token_id, *(known.get(text) for text in stop)]
        marks = {
            "bos_token_id": self.tokenizer.bos_token_id,
            "eos_token_id": [token for token in dict.fromkeys(ends) if token is not None],
            "pad_token_id": self.tokenizer.pad_token_id,
        }
        (folder / "generation_config.json").write_text(json.dumps(marks, indent=2))
        VideoLMProcessor.for_config(
            self.config,
            tokenizer=self.tokenizer,
            video_processor=self.video_processor,
            chat_template=chat_template,
            add_special_tokens=self.add_special_tokens,
            exact_frames=self.exact_frames,
        ).save_pretrained(folder)

    def _check_names(self) -> None:
        with torch.device("meta"):
            expected = VideoLMForConditionalGeneration(self.config).state_dict()
        if self.config.tie_word_embeddings:
            expected.pop("language_model.lm_head.weight", None)
        shapes = {name: tuple(tensor.shape) for name, tensor in expected.items()}
        given = {name: tuple(tensor.shape) for name, tensor in self.weights.items()}
        if shapes == given:
            return
        names = sorted(set(shapes.items()) ^ set(given.items()))
        raise ModelError(
            f"The checkpoint does not fill the model: {len(names)} tensors are missing, left over "
            f"or of another shape, the first being {names[0][0]} {list(names[0][1])}.",
            hint="Are base, projection and vision tower those that belong together?",
        )


def _own(tensor: Tensor) -> Tensor:
    """The tensor in memory of its own; a slice of a larger one is copied out.

    The writer takes two slices of one tensor, like gate and up of Megatron, for tied weights.
    """
    whole = tensor.contiguous()
    return whole if whole.untyped_storage().nbytes() == whole.nbytes else whole.clone()
