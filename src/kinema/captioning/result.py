"""The file that BMF's captioning demo writes, with ours beside it under ``x_kinema``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from kinema.captioning.records import VideoRecord
from kinema.plain import Plain

# The demo's model ids, and those its README has for them, to checkpoints in transformers' layout.
DEMO_MODELS: dict[str, str] = {
    "Deepseek_VL2": "deepseek-ai/deepseek-vl2-tiny",
    "Deepseek_Janus": "deepseek-community/Janus-Pro-1B",
    "Deepseek_Janus_1b": "deepseek-community/Janus-Pro-1B",
    "Deepseek_Janus_7b": "deepseek-community/Janus-Pro-7B",
    "Qwen2_VL": "Qwen/Qwen2-VL-2B-Instruct",
    "Qwen2.5_VL": "Qwen/Qwen2.5-VL-3B-Instruct",
    "Qwen2_5_VL_3b": "Qwen/Qwen2.5-VL-3B-Instruct",
    "Qwen2_5_VL_7b": "Qwen/Qwen2.5-VL-7B-Instruct",
    "LLaVA_One_Vision": "llava-hf/llava-onevision-qwen2-7b-ov-hf",
    "LLaVA_Next_Video": "llava-hf/LLaVA-NeXT-Video-7B-hf",
}
DEMO_BACKENDS: Mapping[str, str] = {"hugging_face": "hf"}


@dataclass(frozen=True, kw_only=True)
class Timings(Plain):
    """What was measured while a video was described; no part of its record."""

    caption_seconds: tuple[float, ...] = ()
    """One for each caption: the time its call of the model took."""
    turnaround_seconds: float = 0.0
    """From the first look at the file to the last word."""


def demo_result(record: VideoRecord, timings: Timings, *, batch_size: int) -> dict[str, Any]:
    """The demo's schema, number for number, and the whole record in ``x_kinema``.

    ``time`` is the wall time of the model's call; ``average_inference`` is the sum of those
    times over the frames, without title and summary, as in the demo.
    """
    batches = [
        {
            "batch_id": number,
            "frames": len(caption.frame_seconds),
            "time": round(seconds, 4),
            "description": caption.text,
        }
        for number, (caption, seconds) in enumerate(
            zip(record.captions, timings.caption_seconds, strict=True), start=1
        )
    ]
    frames = sum(len(caption.frame_seconds) for caption in record.captions)
    total = sum(timings.caption_seconds)
    return {
        "video_title": record.title,
        "batch_size": batch_size,
        "batches": batches,
        "frames_analysed": frames,
        "summary": record.summary_text,
        "average_inference": round(total / frames, 4) if frames else 0.0,
        "turnaround_time": round(timings.turnaround_seconds, 4),
        "x_kinema": record.to_dict(),
    }
