"""From decoded frames to a tower's tensor: TowerTransform beside the transformers processors.

Usage: python benchmarks/preprocess.py [--frames 16] [--runs 15] [--threads 1]

Writes results/preprocess.json: milliseconds a frame as medians, and how many times as fast.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from transformers import CLIPImageProcessor, SiglipImageProcessor
from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

from common import machine, median, timed, write_result
from kinema.video.transform import TowerTransform

SIZES = {"1080p": (1080, 1920), "720p": (720, 1280), "360p": (360, 640), "240p": (240, 320)}
PEERS: dict[str, Callable[[], Any]] = {
    "CLIPImageProcessor": CLIPImageProcessor,
    "CLIPImageProcessorPil": CLIPImageProcessorPil,
    "SiglipImageProcessor": SiglipImageProcessor,
}


def compare(peer: Any, pixels: np.ndarray, *, runs: int) -> dict[str, float]:
    """Both on the same frames, in turns."""
    transform = TowerTransform.from_config(peer.to_dict())

    def theirs() -> torch.Tensor:
        return torch.as_tensor(peer(list(pixels), return_tensors="pt")["pixel_values"])

    std = torch.tensor(peer.image_std).view(3, 1, 1)
    levels = ((transform(pixels) - theirs()).abs() * std * 255).max()
    seconds = timed({"kinema": lambda: transform(pixels), "peer": theirs}, runs=runs)
    ours, other = (1000 * median(seconds[name]) / len(pixels) for name in ("kinema", "peer"))
    return {
        "kinema_ms_per_frame": round(ours, 3),
        "peer_ms_per_frame": round(other, 3),
        "times_as_fast": round(other / ours, 2),
        "largest_difference_in_levels": round(float(levels), 4),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--runs", type=int, default=15)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    chance = np.random.default_rng(0)
    rows = {}
    for size, (height, width) in SIZES.items():
        pixels = chance.integers(0, 256, (chosen.frames, height, width, 3), dtype=np.uint8)
        for name, make in PEERS.items():
            rows[f"{size}, {name}"] = compare(make(), pixels, runs=chosen.runs)
    write_result(
        "preprocess",
        {
            "what": "uint8 frames to normalised float32 for a tower, a batch of frames at once",
            "frames": chosen.frames,
            "runs": chosen.runs,
            "threads": chosen.threads,
            "rows": rows,
            "machine": machine(),
        },
    )


if __name__ == "__main__":
    main()
