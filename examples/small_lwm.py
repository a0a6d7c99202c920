"""A small random Large World Model in the released file formats: params, vqgan, tokenizer.model.

    python examples/small_lwm.py FOLDER               sees and draws, and says nothing of sense
    python examples/small_lwm.py FOLDER --text-only   as the text releases: no vision, no VQGAN

Tests use it, and whoever wants to try commands before downloading 14 GB.
"""

from __future__ import annotations

import argparse
import pickle
from dataclasses import replace
from pathlib import Path

import flax.serialization
import jax.numpy as jnp
import msgpack
import numpy as np
from sentencepiece import SentencePieceTrainer

from kinema.models.lwm.config import LWMConfig
from kinema.models.lwm.llama import decoder_shapes
from kinema.models.lwm.vqgan import VQGANConfig, unflatten, vqgan_shapes

CONFIG = LWMConfig(
    vocab_size=330,
    vision_vocab_size=96,
    hidden_size=256,
    intermediate_size=256,
    num_hidden_layers=2,
    num_attention_heads=2,
)
VQGAN = VQGANConfig(channels=(32,) * 5, num_res_blocks=1, z_channels=8, num_codes=64)
WORDS = "You are a helpful assistant. USER: What is the video about? <vision> </vision> ASSISTANT:"


def random_leaves(config: LWMConfig = CONFIG, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    leaves = {n: rng.normal(0, 0.1, s) for n, s in decoder_shapes(config).items()}
    leaves = {n: 1 + v if "norm" in n or "ln_f" in n else v for n, v in leaves.items()}
    return {n: np.asarray(jnp.asarray(v, "bfloat16")) for n, v in leaves.items()}


def write_stream(path: Path, leaves: dict[str, np.ndarray], prefix: tuple[str, ...] = ()) -> None:
    """As the original's streaming checkpointer does it, one entry after the other."""
    with path.open("wb") as file:
        for name, value in sorted(leaves.items()):
            entry = ((*prefix, *name.split("/")), flax.serialization.to_bytes(value))
            file.write(msgpack.packb(entry))


def vqgan_leaves(config: VQGANConfig = VQGAN) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(1)
    leaves = {n: rng.normal(0, 0.1, s).astype("f4") for n, s in vqgan_shapes(config).items()}
    leaves |= {n: 1 + v for n, v in leaves.items() if n.endswith("scale")}
    # As far apart as latents are, or every frame would get the same code everywhere.
    leaves["quantize/embeddings"] *= 10
    return leaves


def write_tokenizer(path: Path) -> None:
    """Byte-pair pieces with byte fallback, made as LLaMA's were."""
    with path.open("wb") as file:
        SentencePieceTrainer.train(
            sentence_iterator=iter([WORDS, "the quick brown fox jumps over the lazy dog"] * 20),
            model_writer=file, model_type="bpe", vocab_size=CONFIG.vocab_size, byte_fallback=True,
            normalization_rule_name="identity", remove_extra_whitespaces=False,
            add_dummy_prefix=True, split_digits=True, minloglevel=2,
        )  # fmt: skip


def make_lwm(folder: Path, config: LWMConfig = CONFIG, *, chunk_bytes: int = 100_000) -> Path:
    """Everything above ``chunk_bytes`` goes in chunks, as above 2^30 bytes in the real files."""
    folder.mkdir(parents=True, exist_ok=True)
    usual = flax.serialization.MAX_CHUNK_SIZE
    flax.serialization.MAX_CHUNK_SIZE = chunk_bytes
    try:
        write_stream(folder / "params", random_leaves(config))
    finally:
        flax.serialization.MAX_CHUNK_SIZE = usual
    if config.sees:
        (folder / "vqgan").write_bytes(pickle.dumps(unflatten(vqgan_leaves())))
    write_tokenizer(folder / "tokenizer.model")
    return folder


def main() -> None:
    parser = argparse.ArgumentParser(description="A small random LWM checkpoint.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--text-only", action="store_true")
    asked = parser.parse_args()
    vision = 0 if asked.text_only else CONFIG.vision_vocab_size
    print(make_lwm(asked.folder, replace(CONFIG, vision_vocab_size=vision)))


if __name__ == "__main__":
    main()
