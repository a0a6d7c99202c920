"""``kinema features`` beside the loop that everybody writes, and beside the tower alone.

    python benchmarks/features.py                        # ViT-B/32, ViT-L/14 and a light tower
    python benchmarks/features.py --device cuda --videos 40 --frames 100

The loop is Video-ChatGPT's script in its simplest form: PyAV, one video at a time, PIL pictures,
the image processor, the tower in float32. The bare tower gets tensors that are ready. kinema and
the bare tower run with the device's own numbers and with ``--dtype bfloat16``. All weights are
random: what is measured does not depend on them. The rate is that behind the first video, so that
starting up counts for nobody.
"""

from __future__ import annotations

import argparse
import pickle
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import torch
from PIL import Image
from transformers import CLIPImageProcessor, CLIPVisionConfig, CLIPVisionModel

from common import machine, median, write_result
from kinema.engines.device import describe_device
from kinema.tasks.features.inputs import find_media
from kinema.tasks.features.job import FeaturesJob
from kinema.tasks.features.options import FeatureOptions
from kinema.types import FrameSampling

TOWERS = {
    "ViT-L/14": {"hidden_size": 1024, "intermediate_size": 4096, "num_hidden_layers": 24,
                 "num_attention_heads": 16, "patch_size": 14},
    "ViT-B/32": {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12,
                 "num_attention_heads": 12, "patch_size": 32},
    "light": {"hidden_size": 192, "intermediate_size": 768, "num_hidden_layers": 4,
              "num_attention_heads": 3, "patch_size": 32},
}  # fmt: skip
"""The last one costs next to nothing on a CPU: it shows what everything around a tower costs, as a
GPU does for the large ones."""
BATCH = 32


def make_tower(folder: Path, shape: dict[str, int]) -> Path:
    CLIPVisionModel(CLIPVisionConfig(image_size=224, **shape)).save_pretrained(folder)
    CLIPImageProcessor().save_pretrained(folder)
    return folder


def make_videos(folder: Path, count: int, *, num_frames: int) -> list[Path]:
    """AVI files like Breakfast's: 320×240, 15 frames a second, MPEG-4."""
    folder.mkdir()
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    ground = np.asarray(Image.fromarray(noise).resize((320, 240), Image.Resampling.BICUBIC))
    paths = [folder / f"P{i:03d}_tea.avi" for i in range(count)]
    for shift, path in enumerate(paths):
        with av.open(str(path), "w") as output:
            stream = output.add_stream("mpeg4", rate=15)
            stream.width, stream.height, stream.pix_fmt = 320, 240, "yuv420p"
            for index in range(num_frames):
                picture = np.ascontiguousarray(np.roll(ground, index + shift, axis=1))
                output.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            output.mux(stream.encode(None))
    return paths


def in_a_loop(
    videos: list[Path], tower: Path, output: Path, *, frames: int, device: str
) -> Iterator[None]:
    output.mkdir(parents=True)
    model = CLIPVisionModel.from_pretrained(tower).eval().to(device)
    processor = CLIPImageProcessor.from_pretrained(tower)
    for path in videos:
        with av.open(str(path)) as container:
            decoded = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
        borders = np.round((len(decoded) - 1) / frames * np.arange(frames + 1)).astype(int)
        chosen = np.stack([decoded[i] for i in (borders[:-1] + borders[1:]) // 2])
        pixels = torch.from_numpy(chosen).permute(0, 3, 1, 2).float()
        squares = torch.nn.functional.interpolate(pixels, (224, 224)).permute(0, 2, 3, 1)
        pictures = [Image.fromarray(p) for p in squares.to(torch.uint8).numpy()]
        inputs = processor(pictures, return_tensors="pt")["pixel_values"].to(device)
        states = _penultimate(model, inputs)
        rows = torch.cat([states.mean(dim=1), states.mean(dim=0)]).half().cpu().numpy()
        (output / f"{path.stem}.pkl").write_bytes(pickle.dumps(rows))
        yield


def by_kinema(
    videos: list[Path], tower: Path, output: Path, *, frames: int, device: str, dtype: Any = "auto"
) -> Iterator[float]:
    FeaturesJob(
        media=find_media([videos[0].parent]),
        output=output,
        options=FeatureOptions(tower=str(tower), dtype=dtype),
        sampling=FrameSampling(num_frames=frames, formula="segments"),
        devices=(device,),
        batch_size=BATCH,
        workers=12 if device.startswith("cuda") else 2,
    ).run()
    # Files are written the moment that a video is done; reports come later, and together.
    yield from sorted(path.stat().st_mtime for path in output.glob("*.safetensors"))


def by_the_bare_tower(
    videos: list[Path], tower: Path, output: Path, *, frames: int, device: str, dtype: Any = "auto"
) -> Iterator[None]:
    auto = torch.float16 if device.startswith("cuda") else torch.float32
    number = auto if dtype == "auto" else getattr(torch, dtype)
    model = CLIPVisionModel.from_pretrained(tower).eval().to(device, number)
    ready = torch.randn(frames, 3, 224, 224, device=device, dtype=number)
    for _ in videos:
        _penultimate(model, ready)
        if device.startswith("cuda"):
            torch.cuda.synchronize()
        yield


def _penultimate(model: Any, inputs: torch.Tensor) -> torch.Tensor:
    with torch.inference_mode():
        batches = torch.split(inputs, BATCH)
        return torch.cat(
            [model(b, output_hidden_states=True).hidden_states[-2][:, 1:] for b in batches]
        )


def frames_per_second(videos: Iterator[Any], *, frames: int) -> float:
    """The rate behind the first video."""
    moments = [time.perf_counter() if moment is None else moment for moment in videos]
    return frames * (len(moments) - 1) / (moments[-1] - moments[0])


WAYS: dict[str, Callable[..., Iterator[Any]]] = {
    "loop": in_a_loop,
    "kinema": by_kinema,
    "bare_tower": by_the_bare_tower,
    "kinema_bfloat16": partial(by_kinema, dtype="bfloat16"),
    "bare_tower_bfloat16": partial(by_the_bare_tower, dtype="bfloat16"),
}


def measure(
    name: str, folder: Path, videos: list[Path], args: argparse.Namespace
) -> dict[str, Any]:
    tower = make_tower(folder / name.replace("/", "-"), TOWERS[name])
    rates: dict[str, list[float]] = {way: [] for way in WAYS}
    for run in range(args.runs):
        for way, work in WAYS.items():
            output = folder / f"{name.replace('/', '-')}-{way}-{run}"
            done = work(videos, tower, output, frames=args.frames, device=args.device)
            rates[way].append(frames_per_second(done, frames=args.frames))
    middle = {way: median(found) for way, found in rates.items()}
    return {
        "frames_per_second": {way: round(rate, 2) for way, rate in middle.items()},
        **ratios(middle, ""),
        "bfloat16": ratios(middle, "_bfloat16"),
    }


def ratios(rates: dict[str, float], kind: str) -> dict[str, float]:
    """Against the loop, which is in float32, and against a tower with the same numbers."""
    own = rates[f"kinema{kind}"]
    return {
        "times_the_loop": round(own / rates["loop"], 2),
        "of_the_bare_tower": round(own / rates[f"bare_tower{kind}"], 3),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--towers", nargs="+", default=list(TOWERS), choices=list(TOWERS))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--videos", type=int, default=6)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--length", type=int, default=600, help="frames that a video has")
    parser.add_argument("--runs", type=int, default=3)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        videos = make_videos(folder / "videos", args.videos, num_frames=args.length)
        results = {tower: measure(tower, folder, videos, args) for tower in args.towers}
    about = {key: getattr(args, key) for key in ("device", "videos", "frames", "length", "runs")}
    suffix = "_gpu" if args.device.startswith("cuda") else ""
    where = describe_device() if suffix else args.device
    write_result(
        f"features{suffix}", {"machine": machine(), "on": where, "setting": about, **results}
    )


if __name__ == "__main__":
    main()
