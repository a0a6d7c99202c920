"""Sampled frames of long videos: kinema against every other Python reader, in one run.

    python benchmarks/video_read.py            all cases, on 1 and on all cores
    python benchmarks/video_read.py --quick    three cases, two repeats

Readers take turns, another one first each time. After a first round only those that could still
win go on: kinema, and peers within a third of the fastest; each number is the median of a reader's
rounds. The limit is libavcodec's own rate, on the same cores, over the frames that had to be
decoded. Each case is written to ``benchmarks/results/video_read.json`` as it is done, beside those
measured before.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

import video_corpus as corpus
from kinema.types import FrameSampling
from kinema.video import cache, plan, probe
from kinema.video.runs import plan_runs
from kinema.video.source import open_media
from video_readers import READERS, versions

HERE = Path(__file__).parent
OURS = ("kinema", "kinema_224", "kinema_cached")
WARM_UP = "h264_10s"
STILL_IN = 4 / 3
"""Of the fastest peer's seconds in the first round."""


Answers = dict[str, list[dict[str, Any]]]
"""What each reader said, round after round."""


@dataclass(frozen=True)
class Case:
    clip: str
    num_frames: int


CASES = [
    Case("h264_5min", 8),
    Case("h264_5min", 64),
    Case("h264_5min", 300),
    Case("h264_2h", 8),
    Case("h264_2h", 64),
    Case("h264_10s", 8),
    Case("h264_10s", 64),
    Case("h264_4k_20s", 8),
    Case("hevc_1min", 8),
    Case("hevc_1min", 64),
    Case("vp9_1min", 8),
    Case("vp9_1min", 64),
    Case("av1_1min", 8),
    Case("av1_1min", 64),
]
QUICK = [Case("h264_5min", 8), Case("h264_5min", 64), Case("h264_10s", 8)]


class Child:
    """One process per reader and number of cores, so that no library disturbs another."""

    def __init__(self, cores: int) -> None:
        usable = ",".join(str(core) for core in sorted(os.sched_getaffinity(0))[:cores])
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", str(HERE / "video_readers.py"), usable],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def ask(self, **request: Any) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "the process died"}
        return answer

    def close(self) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._process.wait()


def fits(reader: str, case: Case) -> bool:
    """Leave out what would take minutes and cannot win: whole films, hundreds of seeks."""
    whole_film = reader in ("pyav_loop", "opencv_grab")
    if case.clip == "h264_2h":
        return not whole_film and not (reader == "opencv_seek" and case.num_frames > 8)
    return not (reader == "opencv_seek" and case.num_frames > 8)


def measure(case: Case, path: Path, warm_up: Path, cores: int, *, repeats: int) -> dict[str, Any]:
    indices = list(plan(str(path), FrameSampling(num_frames=case.num_frames)).indices)
    info = probe(str(path))
    num_bytes = len(indices) * info.height * info.width * 3
    children = {name: Child(cores) for name in READERS if fits(name, case)}
    limit = Child(cores)
    for name, child in children.items():  # imports, and starts the library
        child.ask(reader=name, path=str(warm_up), indices=[0, 1])
    answers: Answers = {name: [] for name in children}
    rates, going_on = [], set(children)
    for turn in range(repeats):
        for name in begun_elsewhere([n for n in READERS if n in going_on], turn):
            asked = {"reader": name, "path": str(path), "indices": indices, "bytes": num_bytes}
            answers[name].append(children[name].ask(**asked))
        rates.append(limit.ask(rate=True, path=str(path), packets=500))
        going_on = contenders(answers)
    for child in (*children.values(), limit):
        child.close()
    return summary(case, path, cores, indices, answers, rates)


def begun_elsewhere(names: list[str], turn: int) -> list[str]:
    """The first of a turn may pay for what the machine did before: somebody else each turn."""
    first = turn % len(names)
    return names[first:] + names[:first]


def contenders(answers: Answers) -> set[str]:
    first = {n: a[0]["seconds"] for n, a in answers.items() if "error" not in a[0]}
    peers = honest_peers(answers)
    best = min(first[name] for name in peers)
    return {"kinema", *(name for name in peers if first[name] < STILL_IN * best)}


def honest_peers(answers: Answers) -> list[str]:
    """Those that did the work: a reader that returns other frames than asked for has not."""
    same = same_pictures(answers)
    return [
        n for n in answers if n not in OURS and "error" not in answers[n][0] and same.get(n, True)
    ]


def same_pictures(answers: Answers) -> dict[str, bool]:
    """Whether the frames are kinema's, of readers that give pictures of the same size."""
    ours = answers["kinema"][0]
    return {
        n: a[0]["sums"] == ours["sums"]
        for n, a in answers.items()
        if a[0].get("shape") == ours["shape"]
    }


def summary(
    case: Case,
    path: Path,
    cores: int,
    indices: list[int],
    answers: Answers,
    rates: list[dict[str, float]],
) -> dict[str, Any]:
    skipped = {n: a[0]["error"] for n, a in answers.items() if "error" in a[0]}
    fine = {n: a for n, a in answers.items() if n not in skipped}
    seconds = {n: statistics.median(r["seconds"] for r in a) for n, a in fine.items()}
    peers = {name: seconds[name] for name in honest_peers(answers)}
    best = min(peers, key=lambda n: peers[n])
    limit = decode_limit(path, indices, rates)
    return {
        "clip": case.clip,
        "num_frames": case.num_frames,
        "cores": cores,
        "seconds": {n: round(s, 4) for n, s in seconds.items()},
        "cpu_seconds": {
            n: round(statistics.median(r["cpu_seconds"] for r in a), 4) for n, a in fine.items()
        },
        "fastest_peer": best,
        "times_faster_than_fastest_peer": round(peers[best] / seconds["kinema"], 3),
        "limit_seconds": round(limit, 4),
        "over_limit": round(seconds["kinema"] / limit, 3),
        "peak_mib": {
            n: round(statistics.median(r["peak_mib"] for r in a), 1) for n, a in fine.items()
        },
        "same_pixels_as_kinema": same_pictures(answers),
        "rounds": {n: len(a) for n, a in fine.items()},
        "skipped": skipped,
    }


def decode_limit(path: Path, indices: list[int], rates: list[dict[str, float]]) -> float:
    """Seconds that libavcodec needs for the frames that the indices depend on."""
    index = cache.cached_index(open_media(path))
    packets = sum(len(run) for run in plan_runs(index, np.array(indices)))
    rate = statistics.median(r["frames_per_second"] for r in rates)
    kept = rates[0]["kept_share"]
    return max(packets * kept, len(indices)) / rate


def table(results: list[dict[str, Any]]) -> str:
    head = "clip          frames cores  kinema   limit  ratio  fastest peer                 gain"
    rows = [
        f"{r['clip']:13} {r['num_frames']:6} {r['cores']:5} {r['seconds']['kinema']:7.3f} "
        f"{r['limit_seconds']:7.3f} {r['over_limit']:6.2f}  {r['fastest_peer']:20} "
        f"{r['seconds'][r['fastest_peer']]:7.3f} {r['times_faster_than_fastest_peer']:5.2f}x"
        for r in results
    ]
    return "\n".join([head, *rows])


def machine() -> dict[str, Any]:
    cpu = [x for x in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in x]
    return {
        "cpu": cpu[0].split(":")[1].strip() if cpu else platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "system": platform.system(),
        "versions": versions(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--repeats", type=int)
    parser.add_argument("--cores", type=int, nargs="*")
    parser.add_argument("--clips", nargs="*", help="only these clips")
    parser.add_argument("--corpus", type=Path, default=corpus.default_folder())
    parser.add_argument("--out", type=Path, default=HERE / "results" / "video_read.json")
    flags = parser.parse_args()
    usable = len(os.sched_getaffinity(0))
    all_cores = flags.cores or ([usable] if flags.quick else sorted({1, usable}))
    cases = [
        c for c in (QUICK if flags.quick else CASES) if not flags.clips or c.clip in flags.clips
    ]
    warm_up = corpus.make(corpus.CLIPS[WARM_UP], flags.corpus)
    for case in cases:
        path = corpus.make(corpus.CLIPS[case.clip], flags.corpus)
        for cores in all_cores:
            repeats = flags.repeats or (2 if flags.quick else 5)
            result = measure(case, path, warm_up, cores, repeats=repeats)
            print(table([result]).splitlines()[-1], file=sys.stderr, flush=True)
            keep(result, flags.out)
    print(table(json.loads(flags.out.read_text())["results"]))


def keep(result: dict[str, Any], out: Path) -> None:
    """Write a case into the report, in the order of ``CASES``, in place of an older one."""
    order = [(c.clip, c.num_frames) for c in CASES]
    cases = json.loads(out.read_text())["results"] if out.exists() else []
    kept = {(r["clip"], r["num_frames"], r["cores"]): r for r in [*cases, result]}
    ordered = sorted(
        kept.values(), key=lambda r: (order.index((r["clip"], r["num_frames"])), r["cores"])
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({"machine": machine(), "results": ordered}, indent=1) + "\n")


if __name__ == "__main__":
    main()
