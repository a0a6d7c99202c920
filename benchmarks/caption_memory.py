"""Peak memory of captioning one video, as the video grows from a minute to two hours.

All processes of ``kinema caption`` together, by their resident memory, with a frame a caption, so
that a minute fills what is read ahead. With ``echo`` there is nothing but what surrounds a model:
the strictest measure of what grows with the video. With another model its result is added, as that
of one of 135 million parameters was (results/caption_memory_tiny.json).

A long run is looked at thousands of times and a short one is over in a second: it is run again
until both were looked at for about as long, and the highest peak counts.

    python benchmarks/caption_memory.py [--model echo] [--fps 0.2]
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from common import machine, write_result
from video_corpus import CLIPS, default_folder, make

_TWO_HOURS = CLIPS["h264_2h"]
_VIDEOS = {
    "1 minute": replace(_TWO_HOURS, name="h264_1min", num_repeats=3),
    "5 minutes": CLIPS["h264_5min"],
    "2 hours": _TWO_HOURS,
}
_POLL_SECONDS = 0.02


def highest(video: Path, model: str, fps: float, *, seconds: float) -> dict[str, Any]:
    """The run with the highest peak, of as many as take so long."""
    rows = [measure(video, model, fps)]
    while sum(row["seconds"] for row in rows) < seconds:
        rows.append(measure(video, model, fps))
    return max(rows, key=lambda row: row["peak_megabytes"]) | {"runs": len(rows)}


def measure(video: Path, model: str, fps: float) -> dict[str, Any]:
    """Peak megabytes of the command and its workers, and what it said."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        words = ["caption", video, "-m", model, "--fps", fps, "--batch-size", 1, "--quiet"]
        words += ["--result-path", result]
        began = time.perf_counter()
        with subprocess.Popen([sys.executable, "-m", "kinema", *map(str, words)]) as process:
            peak = 0
            while process.poll() is None:
                peak = max(peak, memory_of(psutil.Process(process.pid)))
                time.sleep(_POLL_SECONDS)
        seconds = time.perf_counter() - began
        said = json.loads(result.read_text())
    return {
        "captions": len(said["batches"]),
        "frames": said["frames_analysed"],
        "peak_megabytes": round(peak / 1e6),
        "seconds": round(seconds, 1),
    }


def memory_of(process: psutil.Process) -> int:
    """Resident bytes of a process and its children."""
    total = 0
    with suppress(psutil.NoSuchProcess):
        for one in (process, *process.children(recursive=True)):
            total += one.memory_info().rss
    return total


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", default="echo")
    parser.add_argument("--fps", type=float, default=0.2)
    parser.add_argument("--seconds", type=float, default=120.0, help="of looking at each video")
    given = parser.parse_args()
    rows = {
        name: highest(make(clip, default_folder()), given.model, given.fps, seconds=given.seconds)
        for name, clip in _VIDEOS.items()
    }
    peaks = [row["peak_megabytes"] for row in rows.values()]
    write_result(
        "caption_memory" if given.model == "echo" else f"caption_memory_{Path(given.model).name}",
        {
            "machine": machine(),
            "model": given.model,
            "fps": given.fps,
            "videos": rows,
            "two_hours_to_one_minute": round(peaks[-1] / peaks[0], 2),
        },
    )


if __name__ == "__main__":
    main()
