"""Small vision towers with random weights, as folders."""

from __future__ import annotations

from pathlib import Path

import torch
from transformers import SiglipImageProcessor, SiglipVisionConfig, SiglipVisionModel

from support.videolm import make_clip_tower


def make_clip(folder: Path, *, side: int = 28) -> Path:
    """CLIP: width 32, three blocks, patches of 14 pixels; the same weights each time."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return make_clip_tower(folder, side)


def make_siglip(folder: Path) -> Path:
    """SigLIP: width 32, two blocks, a grid of 2×2."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = SiglipVisionConfig(
            hidden_size=32,
            intermediate_size=64,
            num_hidden_layers=2,
            num_attention_heads=4,
            image_size=28,
            patch_size=14,
        )
        SiglipVisionModel(config).save_pretrained(folder)
    SiglipImageProcessor(size={"height": 28, "width": 28}).save_pretrained(folder)
    return folder
