"""The built-in model: a vision tower that names, a language model that words it.

The seam for a trained successor is :class:`LabelConnector`: frame features in, ``tokens_per_frame``
embeddings a frame out. A connector that carries more than names needs no grammar in ``generate``.
"""

from __future__ import annotations

from copy import copy
from functools import cached_property
from itertools import pairwise
from typing import Any

import timm
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence
from transformers import (
    AutoModelForCausalLM,
    AutoTokenizer,
    GenerationConfig,
    GenerationMixin,
    LogitsProcessorList,
    PreTrainedModel,
)
from transformers.generation.utils import GenerateDecoderOnlyOutput
from transformers.modeling_outputs import CausalLMOutputWithPast

from kinema.errors import ModelError, UsageError
from kinema.models.tiny.answers import answer
from kinema.models.tiny.config import TinyConfig
from kinema.models.tiny.constraint import ForcedTokens, OnlySentencesOf
from kinema.models.tiny.memory import FrameMemory
from kinema.models.tiny.processor import UNKNOWN_TIME
from kinema.models.tiny.sightings import Clip
from kinema.models.tiny.together import decode_together, likeliest_only
from kinema.models.tiny.vision import classify

_REMEMBERED_FRAMES = 2048
"""Their class probabilities; four kilobytes each."""


class LabelConnector(nn.Module):
    """Each frame's likeliest labels as embeddings of their names, scaled by their probability."""

    def __init__(self, num_labels: int, hidden_size: int, tokens_per_frame: int) -> None:
        super().__init__()
        self.label_embeddings = nn.Parameter(torch.empty(num_labels, hidden_size))
        self.tokens_per_frame = tokens_per_frame

    def forward(self, probabilities: Tensor) -> Tensor:
        """float[T, num_labels] to float[T, tokens_per_frame, hidden_size]."""
        likely = probabilities.topk(self.tokens_per_frame, dim=-1)
        weights = likely.values.to(self.label_embeddings.dtype).unsqueeze(-1)
        return weights * self.label_embeddings[likely.indices]


class TinyForConditionalGeneration(PreTrainedModel, GenerationMixin):  # type: ignore[misc]
    """EfficientNet-Lite0, label connector and SmolLM2, with answers bound to what is seen."""

    config_class = TinyConfig
    base_model_prefix = "model"
    input_modalities = ("image", "video", "text")
    main_input_name = "input_ids"
    _no_split_modules = ("LlamaDecoderLayer",)
    _supports_sdpa = True
    _keep_in_fp32_modules_strict = ("vision",)

    def __init__(self, config: TinyConfig) -> None:
        super().__init__(config)
        text = config.get_text_config()
        self.vision = timm.create_model(config.vision_model, pretrained=False)
        self.connector = LabelConnector(
            self.vision.num_classes, text.hidden_size, config.tokens_per_frame
        )
        self.language_model = AutoModelForCausalLM.from_config(text)
        self._memory = FrameMemory(_REMEMBERED_FRAMES)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The language model's token embeddings."""
        return self.language_model.get_input_embeddings()  # type: ignore[no-any-return]

    def get_output_embeddings(self) -> nn.Module:
        """The language model's head."""
        return self.language_model.get_output_embeddings()  # type: ignore[no-any-return]

    def _init_weights(self, module: nn.Module) -> None:
        if isinstance(module, LabelConnector):
            nn.init.normal_(module.label_embeddings, std=0.02)

    def forward(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        frame_counts: Tensor | None = None,
        frame_milliseconds: Tensor | None = None,
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits of the spliced prompt.

        Args:
            input_ids: int64[B, L], each clip as ``tokens_per_frame`` placeholders a frame.
            pixel_values: float32[sum T, V, 3, 224, 224], clips in prompt order.
            inputs_embeds: float[B, L, hidden], already spliced.
            frame_counts: int64[clips], unused here; ``generate`` reads it.
            frame_milliseconds: int64[sum T], unused here; ``generate`` reads it.
            kwargs: for the language model (``attention_mask``, ``labels``, ...).
        """
        if inputs_embeds is None and input_ids is not None and pixel_values is not None:
            inputs_embeds = self.splice(input_ids, classify(self.vision, pixel_values.float()))
        if inputs_embeds is not None:
            input_ids = None
        return self.language_model(input_ids=input_ids, inputs_embeds=inputs_embeds, **kwargs)

    def splice(self, input_ids: Tensor, probabilities: Tensor) -> Tensor:
        """Embed a prompt with the frames at its placeholders, float[B, L, hidden].

        Raises:
            UsageError: the prompt has another number of places than the frames need.
        """
        embeds: Tensor = self.get_input_embeddings()(input_ids)
        places = self._places(input_ids)
        visual = self.connector(probabilities).flatten(0, 1)
        if int(places.sum()) != len(visual):
            raise UsageError(
                f"The prompt holds {int(places.sum())} visual tokens and the frames are"
                f" {len(visual)}.",
                hint="Let the processor expand the placeholders.",
            )
        return embeds.masked_scatter(places.unsqueeze(-1), visual.to(embeds.dtype))

    def _places(self, input_ids: Tensor) -> Tensor:
        placeholders = (self.config.image_token_id, self.config.video_token_id)
        return torch.isin(input_ids, torch.tensor(placeholders, device=input_ids.device))

    @torch.no_grad()
    def generate(
        self,
        input_ids: Tensor | None = None,
        pixel_values: Tensor | None = None,
        frame_counts: Tensor | None = None,
        frame_milliseconds: Tensor | None = None,
        logits_processor: LogitsProcessorList | None = None,
        **kwargs: Any,
    ) -> Any:
        """``GenerationMixin.generate``, held to the sentences that the frames support.

        What was seen is kept with the keys and values (``past_key_values``), so a follow-up that
        brings them needs no pixels.
        """
        if input_ids is None:
            raise UsageError("generate() got no input_ids.", hint="Pass the processor's output.")
        # What was seen stays with the keys and values of the prompt that showed it.
        clips = list(getattr(kwargs.get("past_key_values"), "clips", []))
        if pixel_values is not None:
            # Frames that are known are not looked at again.
            views, device = pixel_values.float().cpu(), pixel_values.device
            look = lambda new: classify(self.vision, new.to(device))  # noqa: E731
            probabilities = self._memory.recall(views, look).to(device)
            kwargs["inputs_embeds"] = self.splice(input_ids, probabilities)
            clips = _clips(probabilities, frame_counts, frame_milliseconds)
        constraint = self._constrain(input_ids, self._split(input_ids, clips))
        # What is drawn is drawn of the sentences.
        processors = LogitsProcessorList([constraint, *(logits_processor or [])])
        if len(input_ids) > 1 and not logits_processor:
            config = likeliest_only(self.generation_config, kwargs)
            if config is not None:
                return self._generate_together(input_ids, config, constraint, **kwargs)
        if len(input_ids) == 1 and not logits_processor:
            kwargs = _with_drafts(kwargs)
        output = super().generate(input_ids=input_ids, logits_processor=processors, **kwargs)
        if (cache := getattr(output, "past_key_values", None)) is not None:
            cache.clips = clips
        return output

    def _generate_together(
        self,
        input_ids: Tensor,
        config: GenerationConfig,
        constraint: OnlySentencesOf,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        streamer: Any = None,
        stopping_criteria: Any = None,
        **_: Any,
    ) -> Any:
        """What ``GenerationMixin.generate`` would say to several prompts, in fewer passes.

        A streamer gets int64[B, K] after each, -1 where a row says less than the others.
        """

        def tell(runs: list[list[int]]) -> list[bool]:
            if streamer is not None:
                new = [torch.tensor(run, dtype=torch.long) for run in runs]
                streamer.put(pad_sequence(new, batch_first=True, padding_value=-1))
            if not stopping_criteria:
                return [False] * len(runs)
            done: list[bool] = stopping_criteria(input_ids, None).tolist()
            return done

        if streamer is not None:
            streamer.put(input_ids)
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        answers = decode_together(
            self.language_model,
            inputs_embeds,
            torch.ones_like(input_ids) if attention_mask is None else attention_mask,
            constraint=constraint,
            max_new_tokens=config.max_new_tokens,
            tell=tell,
        )
        if streamer is not None:
            streamer.end()
        filler = constraint.eos_token_id if config.pad_token_id is None else config.pad_token_id
        rows = [input_ids.new_tensor(answer) for answer in answers]
        said = pad_sequence(rows, batch_first=True, padding_value=filler)
        sequences = torch.cat([input_ids, said], dim=1)
        if not config.return_dict_in_generate:
            return sequences
        return GenerateDecoderOnlyOutput(sequences=sequences)

    def _constrain(self, input_ids: Tensor, seen: list[list[Clip]]) -> OnlySentencesOf:
        grammars = [answer(self._turns(ids), own) for ids, own in zip(input_ids, seen, strict=True)]
        return OnlySentencesOf(
            grammars,
            encode=lambda text: self._tokenizer.encode(text, add_special_tokens=False),
            prompt_length=input_ids.shape[1],
            eos_token_id=self._tokenizer.eos_token_id,
        )

    def prepare_inputs_for_generation(
        self,
        input_ids: Tensor,
        next_sequence_length: int | None = None,
        past_key_values: Any = None,
        attention_mask: Tensor | None = None,
        inputs_embeds: Tensor | None = None,
        **kwargs: Any,
    ) -> dict[str, Any]:
        """Leave out what the cache has read; assisted decoding forgets to on its first pass."""
        if next_sequence_length is None and past_key_values is not None:
            next_sequence_length = input_ids.shape[1] - past_key_values.get_seq_length()
        inputs: dict[str, Any] = super().prepare_inputs_for_generation(
            input_ids,
            next_sequence_length,
            past_key_values,
            attention_mask,
            inputs_embeds,
            **kwargs,
        )
        return inputs

    def _get_candidate_generator(
        self, *, logits_processor: LogitsProcessorList, **_: Any
    ) -> ForcedTokens:
        return ForcedTokens(next(p for p in logits_processor if isinstance(p, OnlySentencesOf)))

    @cached_property
    def _tokenizer(self) -> Any:
        folder = self.config.name_or_path
        try:
            return AutoTokenizer.from_pretrained(folder)
        except (OSError, ValueError) as problem:
            raise ModelError(
                f"There is no tokenizer in {folder!r}, and tiny reads questions through it.",
                hint="Save the processor into the model's folder.",
            ) from problem

    def _split(self, input_ids: Tensor, clips: list[Clip]) -> list[list[Clip]]:
        """The clips of each row, found by the places that they take; knows videos from images."""
        remaining, rows = iter(clips), []
        for ids in input_ids:
            places = ids[self._places(ids)].tolist()
            row: list[Clip] = []
            while places:
                clip = next(remaining, None)
                if clip is None:
                    raise UsageError(
                        "The prompt shows more than the pixels given with it.",
                        hint="Pass the processor's whole output, or the cache of the last turn.",
                    )
                if places[0] == self.config.image_token_id:
                    clip = Clip("picture", clip.probabilities, clip.seconds)
                row.append(clip)
                places = places[len(clip.seconds) * self.config.tokens_per_frame :]
            rows.append(row)
        return rows

    def _turns(self, ids: Tensor) -> list[str]:
        """What user and model said, in order, without the placeholders."""
        start, end = self._tokenizer.convert_tokens_to_ids(["<|im_start|>", "<|im_end|>"])
        turns = _split_at(ids[~self._places(ids)].tolist(), start)[1:]
        texts = [self._tokenizer.decode(_split_at(turn, end)[0]).partition("\n") for turn in turns]
        said = [words.strip() for role, _, words in texts if role in ("user", "assistant")]
        return [words for words in said if words]


def _split_at(ids: list[int], mark: int) -> list[list[int]]:
    """The parts between the marks; compares ids, so text that spells a mark stays text."""
    at = [-1, *(i for i, one in enumerate(ids) if one == mark), len(ids)]
    return [ids[left + 1 : right] for left, right in pairwise(at)]


def _with_drafts(options: dict[str, Any]) -> dict[str, Any]:
    """Options that make ``generate`` ask for drafts; :class:`ForcedTokens` writes them.

    The same options where beams, several sequences or stop strings are asked for, which drafts do
    not go with.
    """
    config = options.get("generation_config")
    asked = (options.get(name, getattr(config, name, None)) for name in _NOT_DRAFTED)
    if not all(value in (None, 1) for value in asked):
        return options
    if config is None:
        return options | {"prompt_lookup_num_tokens": 1}
    drafting = copy(config)
    drafting.prompt_lookup_num_tokens = 1
    return options | {"generation_config": drafting}


_NOT_DRAFTED = ("num_beams", "num_return_sequences", "stop_strings")


def _clips(probabilities: Tensor, counts: Any, milliseconds: Any) -> list[Clip]:
    if counts is None or milliseconds is None:
        raise UsageError(
            "pixel_values came without frame_counts and frame_milliseconds.",
            hint="Pass the processor's whole output.",
        )
    seconds = milliseconds.double().where(milliseconds != UNKNOWN_TIME, torch.nan) / 1000
    sizes = counts.tolist()
    parts = zip(torch.split(probabilities, sizes), torch.split(seconds, sizes), strict=True)
    return [Clip("video", p.cpu().numpy(), s.cpu().numpy()) for p, s in parts]
