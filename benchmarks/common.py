"""What every benchmark shares: interleaved runs, medians, a result file."""

from __future__ import annotations

import importlib.metadata
import json
import os
import platform
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median
from typing import Any

import kinema

__all__ = ["machine", "median", "timed", "write_result"]

RESULTS = Path(__file__).parent / "results"
_PACKAGES = ("torch", "transformers", "av", "numpy")


def timed(work: Mapping[str, Callable[[], object]], *, runs: int) -> dict[str, list[float]]:
    """Wall seconds of each piece of work; all take turns, so that drift hits all alike."""
    seconds: dict[str, list[float]] = {name: [] for name in work}
    for round_number in range(runs + 1):
        for name, run in work.items():
            began = time.perf_counter()
            run()
            if round_number > 0:  # the first round warms caches
                seconds[name].append(time.perf_counter() - began)
    return seconds


def machine() -> dict[str, Any]:
    """The processor, the cores this process may use, and the versions that matter."""
    versions = {name: importlib.metadata.version(name) for name in _PACKAGES}
    return {
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "kinema": kinema.__version__,
        **versions,
    }


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def write_result(name: str, result: Mapping[str, Any]) -> None:
    """Write ``results/NAME.json`` and show it."""
    RESULTS.mkdir(exist_ok=True)
    text = json.dumps(result, indent=2)
    (RESULTS / f"{name}.json").write_text(text + "\n")
    print(text)
