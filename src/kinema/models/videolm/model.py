"""The model: tower, connector and causal language model as one Hugging Face class."""

from __future__ import annotations

from functools import partial
from typing import Any, Self, cast

import torch
from torch import Tensor, nn
from transformers import AutoModelForCausalLM, PreTrainedModel
from transformers import initialization as init
from transformers.generation import GenerationMixin
from transformers.modeling_outputs import BaseModelOutputWithPooling, CausalLMOutputWithPast

from kinema.errors import UsageError
from kinema.models.videolm.config import VideoLMConfig
from kinema.models.videolm.fusion import (
    FUSIONS,
    CrossAttentionBlock,
    LayerFusion,
    Medium,
    media_rows,
)
from kinema.models.videolm.pooling import pool
from kinema.models.videolm.positions import TIMES
from kinema.models.videolm.projector import build_projector
from kinema.models.videolm.tower import build_tower, tower_states

FRAMES_PER_FORWARD = 64
"""Frames that go through the tower together, which bounds its memory on long videos."""

_IGNORED = -100
"""The label of a position that nothing is learned at."""
_MEDIA_INPUTS = ("pixel_values", "features", "num_frames")


class VideoLMForConditionalGeneration(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """Any vision tower, a connector and any causal language model.

    Media come as ``pixel_values`` float[sum(T), 3, H, W], the frames of all media of the batch in
    prompt order, or as ``features`` float[sum(N), L, D] of :meth:`encode`; ``num_frames`` int[M]
    tells them apart. An image is a medium of one frame.
    """

    config_class = VideoLMConfig
    main_input_name = "input_ids"
    input_modalities = ("image", "video", "text")
    supports_gradient_checkpointing = True
    _no_split_modules = ["CrossAttentionBlock"]  # noqa: RUF012 (transformers wants a plain list)
    _skip_keys_device_placement = ["past_key_values"]  # noqa: RUF012
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True

    def __init__(self, config: VideoLMConfig) -> None:
        super().__init__(config)
        self.vision_tower = build_tower(config)
        self.positions = TIMES[config.time](config)
        self.projector = build_projector(
            config.projector,
            in_size=config.vision_hidden_size,
            out_size=config.text_config.hidden_size,
            layout=config.layout,
        )
        self.language_model = AutoModelForCausalLM.from_config(config.text_config)
        self.fusion = FUSIONS[config.fusion](config)
        if self.fusion is not None:
            for index, layer in enumerate(self.get_decoder().layers):  # type: ignore[arg-type]
                layer.register_forward_hook(partial(_after_layer, self, index), with_kwargs=True)
        self.post_init()

    def forward(  # noqa: PLR0913, PLR0917 (the argument list is transformers' own)
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        past_key_values: Any = None,
        inputs_embeds: Tensor | None = None,
        pixel_values: Tensor | None = None,
        features: Tensor | None = None,
        num_frames: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits of every position, and the loss where ``labels`` (-100: ignored) are given.

        While training with labels, logits are those of positions alone that something is learned
        at: with a large vocabulary the others cost more than a layer.

        Raises:
            UsageError: visual tokens in ``input_ids`` and media do not match.
        """
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        if pixel_values is not None or features is not None:
            media = self._media(input_ids, pixel_values, features, num_frames)
            places = self._visual(input_ids).unsqueeze(-1).to(inputs_embeds.device)
            tokens = torch.cat([medium.tokens for medium in media]).to(inputs_embeds)
            inputs_embeds = inputs_embeds.masked_scatter(places, tokens)
            fusion = cast("LayerFusion | None", self.fusion)
            context = fusion.context(media, len(inputs_embeds)) if fusion is not None else None
            kwargs["visual_context"] = context
        else:
            # What earlier steps saw rides on their cache, also from one question to the next.
            kwargs["visual_context"] = getattr(past_key_values, "visual_context", None)
            if self.training:
                inputs_embeds = inputs_embeds + self._touch_connector()
        scored = self._scored(labels) if self.training and labels is not None else None
        outputs = self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            logits_to_keep=logits_to_keep if scored is None else scored,
            **kwargs,
        )
        if outputs.past_key_values is not None:
            outputs.past_key_values.visual_context = kwargs["visual_context"]
        return CausalLMOutputWithPast(
            loss=None if labels is None else self._loss(outputs.logits, labels, scored, **kwargs),
            logits=outputs.logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )

    def train(self, mode: bool = True) -> Self:
        """Switch to training, where a frozen tower goes on seeing as it did.

        Batch norm would else see each batch in its own light, and forget what it knew.
        """
        super().train(mode)
        if not any(p.requires_grad for p in self.vision_tower.parameters()):
            self.vision_tower.eval()
        return self

    def encode(self, pixel_values: Tensor, num_frames: Tensor | None = None) -> Tensor:
        """Pooled features of all media, what a features file stores.

        float[sum(T), 3, H, W] and int[M] (default: one frame each) to float[sum(N), L, D]; media
        in order, N rows each (see ``config.layout.feature_tokens``).
        """
        features: Tensor = self.get_video_features(pixel_values, num_frames).pooler_output
        return features

    def get_video_features(
        self, pixel_values: Tensor, num_frames: Tensor | None = None
    ) -> BaseModelOutputWithPooling:
        """Like :meth:`encode`, in the form that transformers' tools expect: ``pooler_output``."""
        counts = self._counts(num_frames, len(pixel_values))
        if sum(counts) != len(pixel_values):
            raise UsageError(
                f"num_frames sums to {sum(counts)} and pixel_values holds {len(pixel_values)}.",
                hint="Give the frames of each medium, in prompt order.",
            )
        chunks = torch.split(pixel_values, FRAMES_PER_FORWARD)
        states = torch.cat([tower_states(self.vision_tower, c, self.config) for c in chunks])
        layout = self.config.layout
        pooled = torch.cat([pool(medium, layout) for medium in torch.split(states, counts)])
        return BaseModelOutputWithPooling(pooler_output=pooled)

    def get_input_embeddings(self) -> nn.Module:
        """The language model's token embeddings."""
        return cast(nn.Module, self.language_model.get_input_embeddings())

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the language model's token embeddings."""
        self.language_model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The language model's head."""
        return cast(nn.Module, self.language_model.get_output_embeddings())

    def set_output_embeddings(self, new_embeddings: nn.Module) -> None:
        """Replace the language model's head."""
        self.language_model.set_output_embeddings(new_embeddings)

    def get_decoder(self) -> nn.Module:
        """The language model without its head."""
        return cast(nn.Module, self.language_model.get_decoder())

    def prepare_inputs_for_generation(
        self, input_ids: Tensor, *, is_first_iteration: bool = False, **kwargs: Any
    ) -> dict[str, Any]:
        """Hand over media once: later steps find them in the cache."""
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(
            input_ids, is_first_iteration=is_first_iteration, **kwargs
        )
        if not is_first_iteration and kwargs.get("use_cache", True):
            inputs |= dict.fromkeys(_MEDIA_INPUTS)
        return inputs

    def _expand_inputs_for_generation(
        self, expand_size: int = 1, input_ids: Tensor | None = None, **kwargs: Any
    ) -> tuple[Tensor | None, dict[str, Any]]:
        media = {name: kwargs.pop(name, None) for name in _MEDIA_INPUTS}
        name = "features" if media["pixel_values"] is None else "pixel_values"
        if expand_size > 1 and media[name] is not None:
            layout = self.config.layout
            is_pixels = name == "pixel_values"
            counts = self._counts(media["num_frames"], len(media[name]) if is_pixels else 0)
            tokens = [layout.prompt_tokens(count) for count in counts]
            rows = media_rows(self._visual(input_ids), tokens)
            order = []
            for row in sorted(set(rows)):
                order += [i for i, owner in enumerate(rows) if owner == row] * expand_size
            stored = counts if is_pixels else [layout.feature_tokens(c) for c in counts]
            pieces = torch.split(media[name], stored)
            media[name] = torch.cat([pieces[i] for i in order])
            media["num_frames"] = torch.tensor([counts[i] for i in order])
        expanded, others = super()._expand_inputs_for_generation(
            expand_size=expand_size, input_ids=input_ids, **kwargs
        )
        return expanded, others | media

    def _media(
        self,
        input_ids: Tensor | None,
        pixel_values: Tensor | None,
        features: Tensor | None,
        num_frames: Tensor | None,
    ) -> list[Medium]:
        if (pixel_values is None) == (features is None):
            raise UsageError(
                "Frames and features were both given.", hint="Give pixel_values or features."
            )
        total = 0 if pixel_values is None else len(pixel_values)
        counts = self._counts(num_frames, total)
        if pixel_values is not None:
            features = self.encode(pixel_values, num_frames)
        pooled = self._split_features(cast(Tensor, features), counts)
        pairs = [self._project(f, count) for f, count in zip(pooled, counts, strict=True)]
        rows = media_rows(self._visual(input_ids), [len(tokens) for _, tokens in pairs])
        return [Medium(row, *pair) for row, pair in zip(rows, pairs, strict=True)]

    def _split_features(self, features: Tensor, counts: list[int]) -> tuple[Tensor, ...]:
        sizes = [self.config.layout.feature_tokens(count) for count in counts]
        if features.ndim == 2:
            features = features.unsqueeze(1)
        wanted = [sum(sizes), len(self.config.select_layers), self.config.vision_hidden_size]
        if list(features.shape) != wanted:
            raise UsageError(
                f"features has shape {list(features.shape)} and this model wants {wanted}.",
                hint="Extract the features again with this model's tower and pooling.",
            )
        # Quantised weights are integers: what they are multiplied with is not.
        floating = (p for p in self.projector.parameters() if p.is_floating_point())
        weight = next(floating, self.get_input_embeddings().weight)
        return torch.split(features.to(cast(Tensor, weight)), sizes)

    def _project(self, features: Tensor, num_frames: int) -> tuple[Tensor, Tensor]:
        if self.positions is not None:
            frames = self.config.layout.frame_of_feature(num_frames)
            features = self.positions(features, torch.tensor(frames, device=features.device))
        return features, self.projector(features[:, -1])

    def _visual(self, input_ids: Tensor | None) -> Tensor:
        if input_ids is None:
            raise UsageError(
                "Media were given with inputs_embeds.", hint="Give input_ids: they say where."
            )
        ids = torch.tensor(self.config.visual_token_ids, device=input_ids.device)
        return torch.isin(input_ids, ids)

    def _counts(self, num_frames: Tensor | None, total: int) -> list[int]:
        if num_frames is not None:
            return [int(count) for count in num_frames]
        if not total:
            raise UsageError("features came without num_frames.", hint="Give num_frames int[M].")
        return [1] * total

    def _touch_connector(self) -> Tensor:
        # Distributed training wants a gradient for every parameter, on text-only batches too.
        parts = [part for part in (self.positions, self.projector, self.fusion) if part is not None]
        zeros = [0.0 * p.sum() for part in parts for p in part.parameters()]
        return torch.stack(zeros).sum() if zeros else torch.zeros(())

    def _scored(self, labels: Tensor) -> Tensor | None:
        """int64[K], positions whose next token some row learns; None where there is none."""
        positions = (labels[:, 1:] != _IGNORED).any(dim=0).nonzero()[:, 0]
        return positions if len(positions) else None

    def _loss(self, logits: Tensor, labels: Tensor, scored: Tensor | None, **kwargs: Any) -> Tensor:
        if scored is not None:
            kwargs["shift_labels"] = labels[:, scored + 1].contiguous()
        loss: Tensor = self.loss_function(
            logits=logits, labels=labels, vocab_size=logits.shape[-1], **kwargs
        )
        return loss

    @torch.no_grad()
    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, CrossAttentionBlock):
            init.zeros_(module.gate)


def _after_layer(
    model: VideoLMForConditionalGeneration,
    index: int,
    _layer: nn.Module,
    _args: tuple[Any, ...],
    kwargs: dict[str, Any],
    output: Any,
) -> Any:
    context = kwargs.get("visual_context")
    if context is None:
        return output
    fusion = cast("LayerFusion", model.fusion)  # asked for now: PEFT may have put a copy there
    if isinstance(output, tuple):
        return (fusion.after_layer(index, output[0], context), *output[1:])
    return fusion.after_layer(index, output, context)
