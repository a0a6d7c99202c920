"""Small random checkpoints of real transformers classes, written as folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import (
    CLIPImageProcessor,
    LlavaConfig,
    LlavaForConditionalGeneration,
    LlavaNextConfig,
    LlavaNextForConditionalGeneration,
    LlavaNextImageProcessor,
    LlavaNextProcessor,
    LlavaProcessor,
    PreTrainedTokenizerFast,
    VideoLlavaConfig,
    VideoLlavaForConditionalGeneration,
    VideoLlavaImageProcessor,
    VideoLlavaProcessor,
    VideoLlavaVideoProcessor,
)

WIDTH = 32
SIDE = 28
_PARTS = (
    "{% for message in messages %}{{ message.role | upper }}: {% for part in message.content %}"
    "{{ '<image>' if part.type == 'image' else part.text }}{% endfor %} {% endfor %}ASSISTANT:"
)
_CORPUS = (
    "USER: what do you see in this video? ASSISTANT: a rabbit in a meadow",
    "Describe the clip in one short sentence. Why is this funny?",
    "Frame at 0123456789.5 s: is there a <video> or an <image> in the text, or <|im_end|>?",
)


def make_tokenizer(
    named: dict[str, str], *, extra: tuple[str, ...] = (), eos: str = "</s>"
) -> PreTrainedTokenizerFast:
    """A byte-level BPE trained on three sentences, with the named special tokens."""
    own = dict.fromkeys(["<unk>", "<s>", eos, "<pad>", *named.values(), *extra])
    tokenizer = Tokenizer(models.BPE(unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        special_tokens=list(own),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(_CORPUS, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        eos_token=eos,
        pad_token="<pad>",
        unk_token="<unk>",
        extra_special_tokens=named,
        padding_side="left",
    )


def make_llava(folder: Path, *, width: int = WIDTH) -> Path:
    """LLaVA 1.5 with a two-layer CLIP and a two-layer LLaMA."""
    tokenizer = make_tokenizer({"image_token": "<image>"})
    config = LlavaConfig(
        vision_config=_clip(width),
        text_config=_llama(len(tokenizer), width),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
    )
    processor = LlavaProcessor(
        image_processor=CLIPImageProcessor(
            size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE}
        ),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    return save_checkpoint(LlavaForConditionalGeneration(config), processor, tokenizer, folder)


def make_llava_next(folder: Path, *, width: int = WIDTH) -> Path:
    """LLaVA-NeXT, which has no row of its own: any such checkpoint with a chat template runs."""
    tokenizer = make_tokenizer({"image_token": "<image>"})
    pinpoints = [[SIDE, 2 * SIDE], [2 * SIDE, SIDE], [2 * SIDE, 2 * SIDE]]
    config = LlavaNextConfig(
        vision_config=_clip(width),
        text_config=_llama(len(tokenizer), width),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        image_grid_pinpoints=pinpoints,
    )
    processor = LlavaNextProcessor(
        image_processor=LlavaNextImageProcessor(
            size={"shortest_edge": SIDE},
            crop_size={"height": SIDE, "width": SIDE},
            image_grid_pinpoints=pinpoints,
        ),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=_PARTS,
    )
    return save_checkpoint(LlavaNextForConditionalGeneration(config), processor, tokenizer, folder)


def make_wide_video_llava(folder: Path) -> Path:
    """Video-LLaVA, wide enough for weights in four bits."""
    return make_video_llava(folder, width=128)


def make_video_llava(folder: Path, *, width: int = WIDTH) -> Path:
    """Video-LLaVA with two small CLIP towers and a two-layer LLaMA."""
    tokenizer = make_tokenizer({"image_token": "<image>", "video_token": "<video>"})
    config = VideoLlavaConfig(
        vision_config=_clip(width),
        text_config=_llama(len(tokenizer), width),
        image_token_index=tokenizer.convert_tokens_to_ids("<image>"),
        video_token_index=tokenizer.convert_tokens_to_ids("<video>"),
        vision_feature_layer=-2,
        vision_feature_select_strategy="default",
    )
    size: dict[str, Any] = {
        "size": {"shortest_edge": SIDE},
        "crop_size": {"height": SIDE, "width": SIDE},
    }
    processor = VideoLlavaProcessor(
        image_processor=VideoLlavaImageProcessor(**size),
        video_processor=VideoLlavaVideoProcessor(**size),
        tokenizer=tokenizer,
        patch_size=14,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
    )
    return save_checkpoint(VideoLlavaForConditionalGeneration(config), processor, tokenizer, folder)


def _clip(width: int) -> dict[str, Any]:
    return {
        "model_type": "clip_vision_model",
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "image_size": SIDE,
        "patch_size": 14,
        "projection_dim": width,
    }


def _llama(vocab_size: int, width: int) -> dict[str, Any]:
    return {
        "model_type": "llama",
        "vocab_size": vocab_size,
        "hidden_size": width,
        "intermediate_size": 2 * width,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "max_position_embeddings": 512,
    }


def save_checkpoint(model: Any, processor: Any, tokenizer: Any, folder: Path) -> Path:
    """Spread the weights and write everything that a checkpoint folder holds."""
    spread(model)
    model.generation_config.eos_token_id = tokenizer.eos_token_id
    model.generation_config.pad_token_id = tokenizer.pad_token_id
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def spread(model: torch.nn.Module) -> None:
    """Widen the weights, so that greedy tokens differ between inputs."""
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.dim() > 1:
                scale = 0.3 / max(1.0, (weight.shape[-1] / 32) ** 0.5)
                weight.copy_(torch.randn(weight.shape, generator=generator) * scale)
