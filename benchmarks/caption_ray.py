"""``kinema caption --runner ray`` with one worker and with two, each with one thread.

A worker's start (Ray's processes, imports, the model) takes the same for few videos and for many,
so each number of workers runs over some videos and over twice as many: the difference is what
the captions take. ``whole`` has the start in it. The model is shapes.SMALL unless another one is
named; the committed result is of one of 135 million parameters, with ``--videos 80 --runs 1``.

    PYTHONPATH=tests python benchmarks/caption_ray.py [--model NAME] [--videos 16] [--runs 3]
"""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

import ray

from caption import different, ours
from common import machine, median, write_result
from kinema.tasks.models import find_model
from shapes import SMALL, small_shape

_CPUS = 4
"""That Ray may hand out: a worker of each job holds one, and the next job's start meanwhile."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model")
    parser.add_argument("--videos", type=int, default=16)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    # One thread a worker, whatever the environment says.
    os.environ["OMP_NUM_THREADS"] = "1"
    os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
    os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
    ray.init(num_cpus=_CPUS, log_to_driver=False, include_dashboard=False)
    seconds: dict[tuple[int, int], list[float]] = {}
    said = []
    with tempfile.TemporaryDirectory() as folder:
        model = find_model(given.model or str(small_shape(Path(folder) / "model")))
        videos = different(Path(folder), 2 * given.videos)
        ours(model, videos[:2], workers=1, runner="ray")  # the first run warms caches
        for _ in range(given.runs):
            for workers in (1, 2):
                for count in (given.videos, 2 * given.videos):
                    took, captions = ours(model, videos[:count], workers=workers, runner="ray")
                    seconds.setdefault((workers, count), []).append(took)
                    said.append(captions[: len(captions) * given.videos // count])
    ray.shutdown()
    taken = {key: median(runs) for key, runs in seconds.items()}
    whole = {w: taken[w, 2 * given.videos] for w in (1, 2)}
    more = {w: taken[w, 2 * given.videos] - taken[w, given.videos] for w in (1, 2)}
    write_result(
        "caption_ray",
        {
            "machine": machine(),
            "model": given.model or SMALL,
            "videos": [given.videos, 2 * given.videos],
            "captions_of_the_difference": len(said[0]),
            "threads_a_worker": 1,
            "runs": given.runs,
            "same_captions": all(one == said[0] for one in said),
            "seconds": {f"{w} workers, {n} videos": round(t, 2) for (w, n), t in taken.items()},
            "whole_ratio": round(whole[1] / whole[2], 2),
            "ratio_without_start": round(more[1] / more[2], 2),
        },
    )


if __name__ == "__main__":
    main()
