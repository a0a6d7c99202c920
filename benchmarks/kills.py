"""Every verb killed at random points and resumed, and on a Ray cluster, against one left alone.

    python benchmarks/kills.py [--kills 50] [--no-ray]

Writes results/kills.json; fails where a byte differs, seconds of wall time apart.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from common import machine, write_result

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from support.killed import Command, kill_and_compare, make_works


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--no-ray", action="store_true")
    given = parser.parse_args()
    verbs = {}
    with tempfile.TemporaryDirectory() as temporary:
        for name, work in make_works(Path(temporary)).items():
            began = time.monotonic()
            folder = Path(temporary) / f"killed_{name}"
            folder.mkdir()
            verbs[name] = kill_and_compare(work, folder, kills=given.kills)
            if not given.no_ray:
                (folder / "ray").mkdir()
                on_ray = replace(work, words=(*work.words, "--runner", "ray", "--workers", "2"))
                with Command(*on_ray.output(folder / "ray")) as command:
                    assert command.run()[0] == work.status, name
                assert work.read(folder / "ray") == work.read(folder / "whole"), name
                verbs[name]["identical_on_ray"] = True
            verbs[name]["seconds"] = round(time.monotonic() - began, 1)
            print(name, verbs[name], flush=True)
    write_result(
        "kills",
        {
            "what": "SIGKILL at random points of a command over random checkpoints of real"
            " classes, which was started again each time; then every output, and what the model"
            " said, compared with those of a run left alone",
            "verbs": verbs,
            "machine": machine(),
        },
    )


if __name__ == "__main__":
    main()
