"""From a request to what vLLM is given: a prompt, exactly our frames, sampling parameters."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

from PIL import Image
from transformers import AutoTokenizer
from vllm import SamplingParams as VLLMSamplingParams
from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

from kinema.engines.clips import shown_pixels, video_metadata
from kinema.families import Family
from kinema.messages import Media, Request, SamplingParams
from kinema.models.literals import LiteralTokens


class PromptMaker:
    """Writes vLLM's prompts for one checkpoint."""

    def __init__(self, folder: Path, family: Family) -> None:
        # vLLM's own tokenizer is shared and frozen; this one learns the guard token.
        self._tokenizer = AutoTokenizer.from_pretrained(folder)
        self._family = family
        self._literals = LiteralTokens(self._tokenizer)

    def make(self, request: Request) -> dict[str, Any]:
        """The prompt with its media: arrays and their clock, nothing for vLLM to sample."""
        return self._text(request) | self._media(request.media)

    def _text(self, request: Request) -> dict[str, Any]:
        if not request.prompt.literals:
            return {"prompt": request.prompt.text}
        text = self._literals.reserve(request.prompt)
        batch = dict(self._tokenizer([text], return_tensors="pt"))
        filled = self._literals.fill(batch, request.prompt.literals)
        return {"prompt_token_ids": filled["input_ids"][0].tolist()}

    def _media(self, media: tuple[Media, ...]) -> dict[str, Any]:
        videos = [self._video(m) for m in media if m.kind == "video"]
        images = [m.frames.pixels[0] for m in media if m.kind == "image"]
        data: dict[str, Any] = {"video": videos} if videos else {}
        if images:
            data["image"] = [Image.fromarray(pixels) for pixels in images]
        prompt: dict[str, Any] = {"multi_modal_data": data} if data else {}
        if images and self._family.image_tokens_depend_on_count:
            prompt["multi_modal_uuids"] = {"image": _names(images)}
        return prompt

    def _video(self, media: Media) -> tuple[Any, dict[str, Any]]:
        clock = video_metadata(media.frames, self._family)
        # vLLM's own loaders write the same two; without the second it would sample again.
        clock |= {"video_backend": "opencv", "do_sample_frames": False}
        return shown_pixels(media.frames, self._family), clock


def _names(images: list[Any]) -> list[str]:
    """Names under which vLLM keeps encoded images.

    DeepSeek-VL2 cuts an image into tiles only beside at most one other. vLLM names an image by
    its pixels alone and fails when it meets the other kind; the count in the name keeps them apart.
    """
    tiled = len(images) <= 2
    digests = (hashlib.blake2b(pixels.tobytes(), digest_size=16) for pixels in images)
    return [f"{digest.hexdigest()}-{'tiled' if tiled else 'whole'}" for digest in digests]


def sampling_params(params: SamplingParams, *, streamed: bool) -> VLLMSamplingParams:
    """Our parameters in vLLM's words; 0 and 0.0 mean greedy in both."""
    schema = params.json_schema
    return VLLMSamplingParams(
        temperature=params.temperature,
        top_p=params.top_p,
        top_k=params.top_k,
        repetition_penalty=params.repetition_penalty,
        max_tokens=params.max_new_tokens,
        min_tokens=params.min_new_tokens,
        stop=list(params.stop),
        seed=params.seed,
        logprobs=params.logprobs,
        structured_outputs=None if schema is None else StructuredOutputsParams(json=schema),
        output_kind=RequestOutputKind.CUMULATIVE if streamed else RequestOutputKind.FINAL_ONLY,
    )
