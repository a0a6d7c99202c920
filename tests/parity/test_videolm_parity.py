"""VideoLM against independent references: transformers' LLaVA, numpy, and the written formulas."""

import numpy as np
import pytest
import torch
from transformers import (
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from kinema.models.videolm import VideoLMConfig, VideoLMForConditionalGeneration
from kinema.models.videolm.layout import TokenLayout
from kinema.models.videolm.pooling import pool
from kinema.models.videolm.projector import FoldPatches

SIZE = {"hidden_size": 48, "intermediate_size": 96, "num_hidden_layers": 4}
VISUAL_ID = 99


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)
    torch.manual_seed(0)


def vision_config() -> CLIPVisionConfig:
    return CLIPVisionConfig(
        hidden_size=32,
        intermediate_size=64,
        num_hidden_layers=4,
        num_attention_heads=4,
        image_size=56,
        patch_size=14,
    )


def text_config() -> LlamaConfig:
    return LlamaConfig(vocab_size=100, num_attention_heads=4, pad_token_id=0, **SIZE)


def build(**settings) -> VideoLMForConditionalGeneration:
    config = VideoLMConfig(
        vision_config=vision_config(),
        text_config=text_config(),
        media_token_id=VISUAL_ID,
        **settings,
    )
    return VideoLMForConditionalGeneration(config).eval()


def as_videolm(weights: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    names = {
        "model.vision_tower.": "vision_tower.",
        "model.language_model.": "language_model.model.",
        "model.multi_modal_projector.linear_1.": "projector.0.",
        "model.multi_modal_projector.linear_2.": "projector.2.",
        "lm_head.": "language_model.lm_head.",
    }
    renamed = {}
    for name, tensor in weights.items():
        old = next(prefix for prefix in names if name.startswith(prefix))
        renamed[names[old] + name.removeprefix(old)] = tensor
    return renamed


def test_one_frame_equals_llava():
    llava = LlavaForConditionalGeneration(
        LlavaConfig(
            vision_config=vision_config(), text_config=text_config(), image_token_index=VISUAL_ID
        )
    ).eval()
    ours = build(pooling="frames", projector="mlp2x_gelu", fusion="splice")
    ours.load_state_dict(as_videolm(llava.state_dict()))
    ids = torch.tensor([[1, 5, *[VISUAL_ID] * 16, 7, 8], [0, 1, *[VISUAL_ID] * 16, 9, 2]])
    mask = (ids != 0).long()
    pixels = torch.randn(2, 3, 56, 56)
    with torch.no_grad():
        theirs = llava(input_ids=ids, attention_mask=mask, pixel_values=pixels).logits
        logits = ours(input_ids=ids, attention_mask=mask, pixel_values=pixels).logits
    torch.testing.assert_close(logits[mask.bool()], theirs[mask.bool()], atol=1e-5, rtol=0)


@pytest.mark.parametrize("num_frames", [1, 7, 100])
def test_spatio_temporal_pooling_equals_the_numpy_formula(num_frames):
    features = np.random.default_rng(0).normal(size=(num_frames, 256, 8)).astype(np.float32)
    temporal = np.zeros((100, 8), np.float32)
    temporal[:num_frames] = features.mean(axis=1)
    expected = np.concatenate([temporal, features.mean(axis=0)])
    states = torch.from_numpy(features)[:, None]
    pooled = pool(states, TokenLayout(grid=(16, 16), pooling="spatio_temporal"))
    assert pooled.shape == (356, 1, 8)
    np.testing.assert_allclose(pooled[:, 0].numpy(), expected, atol=1e-5)


def layer_bias_model(num_frames: int = 6) -> VideoLMForConditionalGeneration:
    return build(
        pooling="cls",
        select_feature="cls",
        select_layer=[0, 1, 2],
        post_layernorm=True,
        time="learned",
        projector="linear",
        fusion="layer_bias",
        max_frames=num_frames,
    )


def by_hand(model, ids: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
    """The fork's loop for one row: positions, splice, then hidden + 0.1 * P_k(R_k(v_k))."""
    table = model.positions.table.weight.unflatten(1, (3, -1))
    video = features + table  # (T, layers, D)
    language = model.language_model.model
    hidden = language.embed_tokens(ids)
    hidden[0, ids[0] == VISUAL_ID] = model.projector(video[:, -1])
    positions = torch.arange(ids.shape[1])[None]
    rotary = language.rotary_emb(hidden, position_ids=positions)
    for index, layer in enumerate(language.layers):
        hidden = layer.forward(hidden, position_embeddings=rotary, position_ids=positions)
        k = min(index, 2)
        reduced = model.fusion.reducers[k](video[:, k].T).squeeze(1)
        hidden = hidden + 0.1 * model.fusion.projectors[k](reduced)
    return model.language_model.lm_head(language.norm(hidden))


def test_layer_bias_with_batch_one_equals_the_formula_of_the_fork():
    model = layer_bias_model()
    ids = torch.tensor([[1, 5, *[VISUAL_ID] * 6, 7, 8]])
    features = torch.randn(6, 3, 32)
    with torch.no_grad():
        logits = model(input_ids=ids, features=features, num_frames=torch.tensor([6])).logits
        torch.testing.assert_close(logits, by_hand(model, ids, features), atol=1e-5, rtol=0)


def test_layer_bias_with_batch_four_equals_four_batches_of_one():
    model = layer_bias_model()
    row = [1, 5, *[VISUAL_ID] * 6, 7, 8]
    features = torch.randn(4, 6, 3, 32)
    with torch.no_grad():
        together = model(
            input_ids=torch.tensor([row] * 4),
            features=features.flatten(0, 1),
            num_frames=torch.tensor([6] * 4),
        ).logits
        for index in range(4):
            alone = by_hand(model, torch.tensor([row]), features[index])
            torch.testing.assert_close(together[index : index + 1], alone, atol=1e-5, rtol=0)


@pytest.mark.parametrize("side", [4, 3])
def test_folding_patches_equals_the_reshape_of_vila(side):
    frames = np.random.default_rng(0).normal(size=(2, side, side, 5)).astype(np.float32)
    even = side + side % 2
    padded = np.zeros((2, even, even, 5), np.float32)
    padded[:, :side, :side] = frames
    half = even // 2
    expected = padded.reshape(2, even, half, 10).transpose(0, 2, 1, 3).reshape(2, half, half, 20)
    folded = FoldPatches((side, side))(torch.from_numpy(frames).flatten(0, 2))
    np.testing.assert_array_equal(folded.numpy(), expected.reshape(-1, 20))
