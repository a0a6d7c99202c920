"""``kinema caption`` over 100 videos, killed at 50 random points, against a run left alone.

    python benchmarks/caption_kills.py [--videos 100] [--kills 50]

Writes results/caption_kills.json; fails where a file of the two runs differs.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from common import machine, write_result

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from faults.kill_captions import kill_and_compare


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--videos", type=int, default=100)
    parser.add_argument("--kills", type=int, default=50)
    given = parser.parse_args()
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        hits = kill_and_compare(Path(folder), num_videos=given.videos, kills=given.kills)
    write_result(
        "caption_kills",
        {
            "what": "SIGKILL at random points of one run, which was started again each time; then"
            " every file compared with those of a run left alone, and the ledger and the answers"
            " counted",
            "videos": given.videos,
            "kills": given.kills,
            "kills_of_a_running_job": hits,
            "files_that_differ": 0,
            "videos_lost_or_done_twice": 0,
            "seconds": round(time.monotonic() - began, 1),
            "machine": machine(),
        },
    )


if __name__ == "__main__":
    main()
