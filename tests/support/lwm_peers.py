"""The models that LWM's parts are compared with: same shapes, same weights."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import torch
from diffusers import VQModel
from transformers import LlamaConfig, LlamaForCausalLM

from kinema.models.lwm.config import LWMConfig
from kinema.models.lwm.llama import decoder_shapes
from kinema.models.lwm.prompt import LaidOut
from kinema.models.lwm.vqgan import VQGANConfig, vqgan_shapes

LAYER = "transformer/h/scan_decoder"


def decoder_leaves(config: LWMConfig, *, spread: float = 0.15) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    leaves = {
        name: rng.normal(0, spread, shape).astype("f4")
        for name, shape in decoder_shapes(config).items()
    }
    return {n: 1 + v if "norm" in n or "ln_f" in n else v for n, v in leaves.items()}


def half_split(kernel: np.ndarray, heads: int) -> np.ndarray:
    """Interleaved rotary channels to the half-split order of transformers."""
    out, inside = kernel.T.shape
    return kernel.T.reshape(heads, out // heads // 2, 2, inside).swapaxes(1, 2).reshape(out, inside)


def llama(config: LWMConfig, leaves: Mapping[str, np.ndarray]) -> LlamaForCausalLM:
    """transformers' model with our weights; it is fed embeddings, so it needs one vocabulary."""
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=config.vocab_size,
            hidden_size=config.hidden_size,
            intermediate_size=config.intermediate_size,
            num_hidden_layers=config.num_hidden_layers,
            num_attention_heads=config.num_attention_heads,
            rms_norm_eps=config.rms_norm_eps,
            rope_parameters={"rope_type": "default", "rope_theta": config.theta},
            max_position_embeddings=config.max_sequence_length,
        )
    ).eval()
    state = {
        "model.embed_tokens.weight": leaves["transformer/wte/embedding"],
        "model.norm.weight": leaves["transformer/ln_f/kernel"],
        "lm_head.weight": leaves["lm_head/kernel"].T,
    }
    heads = config.num_attention_heads
    for i in range(config.num_hidden_layers):
        of = lambda name: leaves[f"{LAYER}/{name}/kernel"][i]  # noqa: B023, E731
        state |= {
            f"model.layers.{i}.self_attn.q_proj.weight": half_split(of("attention/wq"), heads),
            f"model.layers.{i}.self_attn.k_proj.weight": half_split(of("attention/wk"), heads),
            f"model.layers.{i}.self_attn.v_proj.weight": of("attention/wv").T,
            f"model.layers.{i}.self_attn.o_proj.weight": of("attention/wo").T,
            f"model.layers.{i}.mlp.gate_proj.weight": of("feed_forward/w1").T,
            f"model.layers.{i}.mlp.up_proj.weight": of("feed_forward/w3").T,
            f"model.layers.{i}.mlp.down_proj.weight": of("feed_forward/w2").T,
            f"model.layers.{i}.input_layernorm.weight": of("attention_norm"),
            f"model.layers.{i}.post_attention_layernorm.weight": of("ffn_norm"),
        }
    tensors = {n: torch.from_numpy(np.ascontiguousarray(v)) for n, v in state.items()}
    model.load_state_dict(tensors, strict=True)
    return model


def embeddings(leaves: Mapping[str, np.ndarray], prompt: LaidOut) -> torch.Tensor:
    """What our two tables make of a prompt, ``float32[1, L, E]``."""
    tables = {False: "transformer/wte/embedding", True: "transformer/vte/embedding"}
    pairs = zip(prompt.ids, prompt.is_vision, strict=True)
    return torch.from_numpy(np.stack([leaves[tables[bool(v)]][i] for i, v in pairs]))[None]


def vqgan_leaves(
    config: VQGANConfig, *, spread: float = 0.07, codes: float = 0.3
) -> dict[str, np.ndarray]:
    """Random weights; a trained codebook is spread as latents are, the initial one is all ties."""
    rng = np.random.default_rng(0)
    leaves = {n: rng.normal(0, spread, s).astype("f4") for n, s in vqgan_shapes(config).items()}
    leaves |= {n: 1 + v for n, v in leaves.items() if n.endswith("scale")}
    shape = (config.num_codes, config.z_channels)
    leaves["quantize/embeddings"] = rng.normal(0, codes, shape).astype("f4")
    return leaves


RENAMED = {
    "DownsamplingBlock_": "down_blocks.",
    "UpsamplingBlock_": "up_blocks.",
    "MidBlock_0": "mid_block",
    "ResnetBlock_": "resnets.",
    "Downsample_0/Conv_0": "downsamplers.0.conv",
    "Upsample_0/Conv_0": "upsamplers.0.conv",
    "quantize/embeddings": "quantize.embedding.weight",
}
IN_BLOCK = {
    "GroupNorm_0": "norm1",
    "GroupNorm_1": "norm2",
    "Conv_0": "conv1",
    "Conv_1": "conv2",
    "Conv_2": "conv_shortcut",
}
AT_TOP = {"Conv_0": "conv_in", "Conv_1": "conv_out", "GroupNorm_0": "conv_norm_out"}
LEAVES = {"kernel": "weight", "scale": "weight", "bias": "bias"}


def torch_name(name: str) -> str:
    for ours, theirs in RENAMED.items():
        name = name.replace(ours, theirs)
    if name.endswith(".weight"):
        return name
    *folders, leaf = name.split("/")
    table = IN_BLOCK if any(f.startswith("resnets") for f in folders) else AT_TOP
    return ".".join([*(table.get(f, f) for f in folders), LEAVES[leaf]])


def torch_tensor(value: np.ndarray) -> torch.Tensor:
    value = np.asarray(value)
    return torch.from_numpy(
        np.ascontiguousarray(value.transpose(3, 2, 0, 1)) if value.ndim == 4 else value.copy()
    )


def empty_vq_model(config: VQGANConfig) -> VQModel:
    levels = len(config.channels)
    return VQModel(
        block_out_channels=list(config.channels),
        down_block_types=["DownEncoderBlock2D"] * levels,
        up_block_types=["UpDecoderBlock2D"] * levels,
        layers_per_block=config.num_res_blocks,
        latent_channels=config.z_channels,
        num_vq_embeddings=config.num_codes,
        norm_num_groups=32,
        mid_block_add_attention=False,
        lookup_from_codebook=True,
    ).eval()


def vq_model(config: VQGANConfig, leaves: Mapping[str, np.ndarray]) -> VQModel:
    """diffusers' model with our weights."""
    model = empty_vq_model(config)
    state = {torch_name(n): torch_tensor(v) for n, v in leaves.items()}
    model.load_state_dict(state, strict=True)
    return model


def as_torch(pixels: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(pixels.transpose(0, 3, 1, 2).copy())
