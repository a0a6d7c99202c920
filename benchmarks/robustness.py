"""10,000 damaged inputs and 500 reads of a process: what breaks, and what is left behind.

Usage: python benchmarks/robustness.py [--inputs 10000] [--reads 500] [--only sampled]

Writes results/mutation.json, results/soak.json, and results/sampled.json: which damaged videos show
other pictures when they are sampled than when all of them is read.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

from common import machine, write_result

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

from faults.mutate import DEADLINE_SECONDS, MEMORY_BYTES, Result, examine_all
from faults.sampled import Comparison, compare_all
from faults.soak import READERS, growth_bytes, holdings, soak_apart


def mutation(count: int) -> dict[str, object]:
    """Read inputs 0 to ``count``; this process surviving is part of the result."""
    before, began = holdings(), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        result = examine_all(range(count), Path(folder), say=_progress)
    after = holdings()
    return {
        "what": "damaged inputs, each read by a worker process with a deadline and a memory limit",
        **asdict(result),
        "outcomes": dict(result.outcomes.most_common()),
        "parent_crashes": 0,
        "parent_before": asdict(before),
        "parent_after": asdict(after),
        "deadline_seconds": DEADLINE_SECONDS,
        "worker_memory_bytes": MEMORY_BYTES,
        "seconds": round(time.monotonic() - began, 1),
        "machine": machine(),
    }


def sampled(count: int) -> dict[str, object]:
    """Read videos 0 to ``count`` twice: some frames, and all."""
    began = time.monotonic()
    result = compare_all(range(count), say=_say_comparison)
    return {
        "what": "damaged videos, 8 frames of each against the same frames of a whole read",
        **asdict(result),
        "outcomes": dict(result.outcomes.most_common()),
        "seconds": round(time.monotonic() - began, 1),
        "machine": machine(),
    }


def _say_comparison(result: Comparison) -> None:
    if result.count % 1000 == 0:
        print(f"{result.count} {dict(result.outcomes)}", file=sys.stderr, flush=True)


def _progress(result: Result) -> None:
    if result.count % 1000 == 0:
        print(f"{result.count} {dict(result.outcomes)}", file=sys.stderr, flush=True)


def long_soak(reads: int) -> dict[str, object]:
    """Good and bad files in turn; the leaking reader shows what a leak would look like."""
    return {
        "what": "good, damaged and hostile files in turn, in a fresh process; after warming up,"
        " holdings at even distances, growth from the lowest of the first half to the second's",
        "reads": reads,
        **{reader: _soaked(reads, reader) for reader in READERS},
        "machine": machine(),
    }


def _soaked(reads: int, reader: str) -> dict[str, object]:
    seen = soak_apart(reads=reads, reader=reader)
    return {
        "growth_bytes": growth_bytes(seen),
        "holdings": [asdict(moment) for moment in seen],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--inputs", type=int, default=10_000)
    parser.add_argument("--reads", type=int, default=500)
    parser.add_argument("--only", choices=("soak", "mutation", "sampled"))
    chosen = parser.parse_args()
    if chosen.only in (None, "soak"):
        write_result("soak", long_soak(chosen.reads))
    if chosen.only in (None, "mutation"):
        write_result("mutation", mutation(chosen.inputs))
    if chosen.only in (None, "sampled"):
        write_result("sampled", sampled(chosen.inputs))


if __name__ == "__main__":
    main()
