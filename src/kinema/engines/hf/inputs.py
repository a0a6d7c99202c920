"""From a request to the tensors that a model is called with."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch

from kinema.engines.clips import shown_pixels, video_metadata
from kinema.engines.hf.errors import translated
from kinema.errors import RequestRefused
from kinema.families import Family
from kinema.messages import Request
from kinema.models.literals import LiteralTokens

Tensors = dict[str, Any]
_CONTENT = re.compile("pixel_values|patches|features|input_values")
"""Names of what encoders read, in transformers' processors and in ours."""
_VISUAL_ID_NAMES = ("image_token_id", "video_token_id", "image_token_index", "video_token_index")


@dataclass(frozen=True, eq=False)
class Inputs:
    """One request, processed: ``int64[1, L]`` ids and whatever else its family wants."""

    request: Request
    tensors: Tensors
    plain_ids: torch.Tensor
    """``int64[P]``: the prompt's ids with one placeholder a medium, not expanded."""

    @property
    def ids(self) -> torch.Tensor:
        """``int64[L]``, every visual token in it."""
        ids: torch.Tensor = self.tensors["input_ids"][0]
        return ids

    def __len__(self) -> int:
        return len(self.ids)


class InputMaker:
    """Calls a checkpoint's processor the one way that is right for every family."""

    def __init__(self, processor: Any, config: Any, family: Family) -> None:
        self._processor = processor
        self._family = family
        self._config = config
        self._tokenizer = processor.tokenizer
        self._literals = LiteralTokens(self._tokenizer)
        found = {getattr(config, name, None) for name in _VISUAL_ID_NAMES}
        self._visual_ids = torch.tensor(sorted(found - {None}), dtype=torch.long)

    def make(self, request: Request) -> Inputs:
        """Process prompt and media of one request.

        Raises:
            RequestRefused: placeholders and media do not match, or the processor refuses them.
            OutOfMemory: this machine has no room for them.
        """
        arguments = self._arguments(request)
        self._check_placeholders(request)
        with translated():
            batch = dict(self._processor(**arguments))
        batch.pop("labels", None)  # PaliGemma's, which are for training
        tensors = self._literals.fill(batch, request.prompt.literals)
        return Inputs(request, tensors, self.plain_ids(request))

    def plain_ids(self, request: Request) -> torch.Tensor:
        """``int64[P]``: the prompt tokenised as it stands, media not expanded."""
        text = self._literals.reserve(request.prompt)
        batch = dict(self._tokenizer([text], return_tensors="pt"))
        ids: torch.Tensor = self._literals.fill(batch, request.prompt.literals)["input_ids"][0]
        return ids

    def expanded_ids(self, known: Inputs, plain: torch.Tensor) -> torch.Tensor | None:
        """``int64[L]``: the ids of another prompt about the same media, without the processor.

        Args:
            known: a processed request that shows the same media.
            plain: ``int64[P]``, the other prompt's own, media not expanded.

        Returns:
            None where the prompts differ before the last medium.
        """
        shared = common_length(known.plain_ids, plain)
        # Behind the last medium, expanded and plain prompt are the same ids.
        head = len(known) - (len(known.plain_ids) - shared)
        if head < self.num_seen(known.ids):
            return None
        if not torch.equal(known.ids[head:], known.plain_ids[shared:]):
            return None
        return torch.cat([known.ids[:head], plain[shared:]])

    def num_seen(self, ids: torch.Tensor) -> int:
        """Ids up to the last one that stands for a piece of a picture."""
        visual = self.is_visual(ids).nonzero()
        return int(visual[-1]) + 1 if len(visual) else 0

    def is_visual(self, ids: torch.Tensor) -> torch.Tensor:
        """``bool[...]``: which ids stand for a piece of a picture."""
        return torch.isin(ids.cpu(), self._visual_ids)

    def _arguments(self, request: Request) -> dict[str, Any]:
        images = [m.frames.pixels[0] for m in request.media if m.kind == "image"]
        videos = [m for m in request.media if m.kind == "video"]
        text = self._literals.reserve(request.prompt)
        arguments: dict[str, Any] = {"text": [text], "return_tensors": "pt", "padding": True}
        if images:
            arguments["images"] = [images]
        if request.features:
            for one in request.features:
                self._config.check_features(one.made)
            arguments["features"] = [one.values for one in request.features]
            arguments["seconds"] = [one.seconds for one in request.features]
        if videos:
            arguments["videos"] = [shown_pixels(m.frames, self._family) for m in videos]
            arguments["video_metadata"] = [video_metadata(m.frames, self._family) for m in videos]
            arguments["do_sample_frames"] = False
        return arguments

    def _check_placeholders(self, request: Request) -> None:
        for kind in ("image", "video"):
            placeholder = getattr(self._processor, f"{kind}_token", None)
            given = sum(m.kind == kind for m in request.media)
            given += len(request.features) if kind == "video" else 0
            if placeholder and request.prompt.text.count(placeholder) != given:
                raise RequestRefused(
                    f"The prompt holds {request.prompt.text.count(placeholder)} {placeholder} "
                    f"and the request {given} {kind}s.",
                    hint="Write one placeholder for each; the chat template may print none.",
                )


def common_length(a: torch.Tensor, b: torch.Tensor) -> int:
    """How many ids two prompts share from their beginning."""
    shorter = min(len(a), len(b))
    differing = (a[:shorter] != b[:shorter]).nonzero()
    return int(differing[0]) if len(differing) else shorter


def placed(tensors: Mapping[str, Any], device: torch.device, dtype: torch.dtype) -> Tensors:
    """The tensors on the model's device; pixels and features in its number format.

    All other numbers keep their own format. Qwen2.5-VL computes positions from the seconds of
    its ``second_per_grid_ts``, and bfloat16 holds whole numbers up to 256 only.
    """

    def place(name: str, value: Any) -> Any:
        if not isinstance(value, torch.Tensor):
            return value
        is_content = value.is_floating_point() and _CONTENT.search(name)
        return value.to(device, dtype if is_content else None)

    return {name: place(name, value) for name, value in tensors.items()}
