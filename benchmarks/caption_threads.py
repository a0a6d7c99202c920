"""``--multithreading --max-threads N``: the same videos with more and more requests at once.

The demo's threads mix up captions and are slower than one; here a request more is never slower.

    PYTHONPATH=tests python benchmarks/caption_threads.py [--model tiny] [--videos 8] [--runs 3]
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from pathlib import Path

import torch

from caption import Loaded, Meter, different, ours
from common import machine, median, timed, write_result
from kinema.engines import EngineSettings
from kinema.tasks.models import find_model

_REQUESTS = (1, 2, 4, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    found = find_model(given.model)
    models = {
        n: Loaded.of(found, Meter(found.open(EngineSettings(batch_size=n, keep_conversations=0))))
        for n in _REQUESTS
    }
    with tempfile.TemporaryDirectory() as folder:
        videos = different(Path(folder), given.videos)
        said = [ours(model, videos)[1] for model in models.values()]
        work = {str(n): partial(ours, model, videos) for n, model in models.items()}
        seconds = {n: median(runs) for n, runs in timed(work, runs=given.runs).items()}
    write_result(
        "caption_threads",
        {
            "machine": machine(),
            "model": given.model,
            "videos": given.videos,
            "torch_threads": torch.get_num_threads(),
            "runs": given.runs,
            "same_captions": all(one == said[0] for one in said),
            "seconds_by_requests": {n: round(s, 2) for n, s in seconds.items()},
            "times_as_fast_as_one": {n: round(seconds["1"] / s, 2) for n, s in seconds.items()},
        },
    )


if __name__ == "__main__":
    main()
