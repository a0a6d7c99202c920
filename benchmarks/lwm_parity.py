"""How far LWM's parts are from their peers, in float32, at released widths.

    python benchmarks/lwm_parity.py

VQGAN: all of the released size, against diffusers' VQModel. Decoder: 7B's width, heads and both
vocabularies, fewer layers, against transformers' LlamaForCausalLM. Both sides have the same random
weights. tests/parity asserts the bounds on smaller models; nothing here is a matter of speed.
"""

from __future__ import annotations

import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import jax
import numpy as np
import torch

from common import machine, write_result
from kinema.messages import SamplingParams
from kinema.models.lwm.config import load_config
from kinema.models.lwm.generate import PickWords, batch, run, settings_of
from kinema.models.lwm.llama import Decoder
from kinema.models.lwm.prompt import LaidOut
from kinema.models.lwm.vqgan import VQGAN, VQGANConfig, unflatten

sys.path.append(str(Path(__file__).parents[1] / "tests"))
from support.lwm_peers import (
    as_torch,
    decoder_leaves,
    embeddings,
    llama,
    vq_model,
    vqgan_leaves,
)

NUM_LAYERS, PROMPT_TOKENS, NEW_TOKENS = 2, 384, 32


def vqgan() -> dict[str, Any]:
    config = VQGANConfig()
    leaves = vqgan_leaves(config, spread=0.02)
    theirs = vq_model(config, leaves)
    ours = partial(jax.jit(VQGAN(config).apply, static_argnames="method"),
                   {"params": unflatten(leaves)})  # fmt: skip
    pixels = np.random.default_rng(1).uniform(-1, 1, (2, 256, 256, 3)).astype("f4")
    latents, ids = ours(pixels, method="latents"), np.asarray(ours(pixels, method="encode"))
    with torch.inference_mode():
        wanted = theirs.encode(as_torch(pixels)).latents
        _, _, (_, _, wanted_ids) = theirs.quantize(wanted)
        drawn = theirs.decode(
            torch.from_numpy(ids.copy()), force_not_quantize=True, shape=(2, 16, 16, 64)
        ).sample.clamp(-1, 1)
    return {
        "parameters": sum(leaf.size for leaf in leaves.values()),
        "tensors": len(leaves),
        "latents": _difference(latents, _channels_last(wanted)),
        "ids": _equal(ids.ravel(), wanted_ids.numpy()),
        "different_ids": len(set(ids.ravel().tolist())),
        "pixels": _difference(ours(ids, method="decode"), _channels_last(drawn)),
    }


def decoder() -> dict[str, Any]:
    config = replace(load_config("7b"), num_hidden_layers=NUM_LAYERS, max_sequence_length=4096)
    leaves = decoder_leaves(config, spread=0.02)
    prompt = _mixed_prompt()
    model = llama(config, leaves)
    with torch.inference_mode():
        embeds = embeddings(leaves, prompt)
        out = model(inputs_embeds=embeds, output_hidden_states=True)
        continued = model.generate(
            inputs_embeds=embeds, attention_mask=torch.ones(embeds.shape[:2], dtype=torch.long),
            do_sample=False, max_new_tokens=NEW_TOKENS, eos_token_id=None, pad_token_id=0,
        )[0].numpy()  # fmt: skip
        vision = out.hidden_states[-1][0].numpy() @ leaves["vision_head/kernel"]
    del model
    ours, params = Decoder(config), jax.tree.map(jax.numpy.asarray, unflatten(leaves))
    hidden = ours.hidden(params, batch(ours, [prompt], num_new=1))[0, -len(prompt) :]
    text = np.asarray(ours.logits(params, hidden, "text"))
    settings = settings_of([SamplingParams(max_new_tokens=NEW_TOKENS)], ours)
    *_, added = run(ours, PickWords(1 << 30), params, [prompt], settings)
    return {
        "parameters": sum(leaf.size for leaf in leaves.values()),
        "layers": NUM_LAYERS,
        "text_logits": _difference(text, out.logits[0].numpy()),
        "vision_logits": _difference(ours.logits(params, hidden, "vision"), vision),
        "likeliest_words": _equal(text.argmax(-1), out.logits[0].numpy().argmax(-1)),
        "greedy_continuation": _equal(added[0], continued),
    }


def _mixed_prompt() -> LaidOut:
    """Words, one frame of vision tokens, words; the bucket pads it on the left."""
    rng = np.random.default_rng(2)
    is_vision = np.zeros(PROMPT_TOKENS - 57, bool)
    is_vision[30:287] = True
    return LaidOut(rng.integers(3, 8194, len(is_vision)).astype(np.int32), is_vision)


def _channels_last(values: torch.Tensor) -> np.ndarray:
    return values.numpy().transpose(0, 2, 3, 1)


def _difference(ours: Any, theirs: np.ndarray) -> dict[str, float]:
    furthest = float(np.abs(np.asarray(ours) - theirs).max())
    return {"max_difference": float(f"{furthest:.2g}"), "max": float(f"{np.abs(theirs).max():.3g}")}


def _equal(ours: np.ndarray, theirs: np.ndarray) -> str:
    return f"{int((ours == theirs).sum())} of {theirs.size}"


if __name__ == "__main__":
    write_result("lwm_parity", {"machine": machine(), "vqgan": vqgan(), "decoder": decoder()})
