"""``--multithreading --max-threads N``: the same videos with more and more requests at once.

The demo's threads mix up captions and are slower than one; here a request more is never slower.
The model is shapes.SMALL unless another one is named; the committed result is
of one of 135 million parameters.

    PYTHONPATH=tests python benchmarks/caption_threads.py [--model NAME] [--videos 8] [--runs 3]
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
from shapes import SMALL, small_shape

_REQUESTS = (1, 2, 4, 8)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--model")
    parser.add_argument("--videos", type=int, default=8)
    parser.add_argument("--runs", type=int, default=3)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        found = find_model(given.model or str(small_shape(Path(folder) / "model")))
        models = {
            n: Loaded.of(
                found, Meter(found.open(EngineSettings(batch_size=n, keep_conversations=0)))
            )
            for n in _REQUESTS
        }
        videos = different(Path(folder), given.videos)
        said = [ours(model, videos)[1] for model in models.values()]
        work = {str(n): partial(ours, model, videos) for n, model in models.items()}
        seconds = {n: median(runs) for n, runs in timed(work, runs=given.runs).items()}
    write_result(
        "caption_threads",
        {
            "machine": machine(),
            "model": given.model or SMALL,
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
