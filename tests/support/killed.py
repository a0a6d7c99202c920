"""Commands that are run many times and killed at points of their work."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from support.clips import make_clip

KILLS = int(os.environ.get("KINEMA_KILLS", "8"))
"""How often a test kills its command."""

_RUN_AND_KILL = """
import os, signal, sys, time
import {imports}  # paid for once
from kinema.cli.app import run

TICKS = os.sysconf("SC_CLK_TCK")

def used(child):
    # Seconds of a processor, so that a busy machine moves no point.
    with open(f"/proc/{{child}}/stat") as file:
        fields = file.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS

for line in sys.stdin:
    limit = float(line)
    child = os.fork()
    if child == 0:
        sys.stdin.close()
        os._exit(run(sys.argv[1:]))
    seconds = 0.0
    while os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
        seconds = used(child)
        if limit and seconds >= limit:
            os.kill(child, signal.SIGKILL)
        time.sleep(0.002)
    _, status = os.waitpid(child, 0)
    print("ended", os.waitstatus_to_exitcode(status), seconds, flush=True)
"""
_HF = ", ".join(
    (
        *("kinema.engines.hf", "kinema.video", "transformers.generation.utils"),
        *("kinema.cli.caption", "kinema.tasks.answer", "kinema.tasks.evaluate.runs"),
        *("kinema.tasks.caption.job", "transformers.models.qwen2.modeling_qwen2"),
        "transformers.models.llava_onevision.modeling_llava_onevision",
        *("kinema.cli.features", "kinema.tasks.features.extraction"),
    )
)


class Command:
    """``kinema`` words that are run many times, a process each.

    Args:
        words: behind ``kinema``.
        imports: modules that every process finds imported.
    """

    def __init__(self, *words: str, imports: str = _HF) -> None:
        self._mother = subprocess.Popen(
            [sys.executable, "-c", _RUN_AND_KILL.format(imports=imports), *words],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            # Threads of OpenMP spin while they wait, and a point of the work would move with them.
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._mother.communicate()

    def run(self, *, kill_after: float = 0.0) -> tuple[int, float]:
        """Exit status, negative for the signal that ended it, and processor seconds used.

        Args:
            kill_after: processor seconds after which SIGKILL is sent; 0 for never.
        """
        assert self._mother.stdin is not None
        assert self._mother.stdout is not None
        self._mother.stdin.write(f"{kill_after}\n")
        self._mother.stdin.flush()
        for line in self._mother.stdout:
            if line.startswith("ended "):  # other lines are what the command printed
                _, status, seconds = line.split()
                return int(status), float(seconds)
        raise AssertionError("the command's mother process is gone")


@dataclass(frozen=True)
class Work:
    """A command without its output, and what is read of an output: every byte that must be equal.

    Every unit of work but one that cannot be read is done at the end; the status says so.
    """

    words: tuple[str, ...]
    ledger: str
    """Glob of the ledger, below the output's folder."""
    read: Callable[[Path], dict[str, Any]]
    status: int = 0

    def output(self, folder: Path) -> tuple[str, ...]:
        """The words that write into a folder."""
        out = folder / "out.jsonl" if self.words[0] == "answer" else folder
        return (*self.words, "-q", "-o", str(out))


def kill_and_compare(work: Work, folder: Path, *, kills: int = KILLS) -> dict[str, Any]:
    """Run a command whole, and again with kills at random points; what was done, in figures.

    Raises:
        AssertionError: an output differs, or a unit of work was not done.
    """
    whole, cut = folder / "whole", folder / "cut"
    for one in (whole, cut):
        one.mkdir()
    with Command(*work.output(whole)) as command:
        status, seconds = command.run()
    assert status == work.status
    expected = work.read(whole)
    struck = whole_runs = 0
    chance = random.Random(0)
    with Command(*work.output(cut)) as command:
        while struck < kills:
            status, _ = command.run(kill_after=chance.uniform(0.1, 0.9) * seconds)
            assert status in {work.status, -signal.SIGKILL}
            if status == -signal.SIGKILL:
                struck += 1
            else:  # it got through: begin again, so that all kills fall into the work
                _compare(work, cut, expected)
                shutil.rmtree(cut)
                cut.mkdir()
                whole_runs += 1
        assert command.run()[0] == work.status
    _compare(work, cut, expected)
    return {"kills_that_struck": struck, "runs_that_ended": whole_runs + 1, "identical": True}


def _compare(work: Work, folder: Path, expected: dict[str, Any]) -> None:
    found = work.read(folder)
    assert found.keys() == expected.keys()
    assert [name for name in found if found[name] != expected[name]] == []
    (ledger,) = folder.glob(work.ledger)
    with closing(sqlite3.connect(ledger)) as database:
        states = dict(database.execute("SELECT state, COUNT(*) FROM unit GROUP BY state"))
    assert states.keys() == ({"done", "failed"} if work.status else {"done"})
    assert states.get("failed", 0) <= 1


def make_works(folder: Path) -> dict[str, Work]:
    """A command of each verb, on random checkpoints of real classes: batches of four where texts
    are written, and log-probabilities where the verb has a flag for them.
    """
    from support.towers import make_clip as make_tower

    videos = folder / "videos"
    videos.mkdir()
    for i in range(6):
        make_clip(videos / f"{i}.mp4", num_frames=12 + i, fps=4)
    hf = ("-m", str(make_ranking(folder / "model")), "--device", "cpu", "--dtype", "float32")
    answer = [{"video": f"{i % 6}.mp4", "text": f"Question {i}"} for i in range(24)]
    (folder / "answer.jsonl").write_text("\n".join(map(json.dumps, answer)))
    items = []
    for i in range(24):
        item = {"video": f"{i // 4}.mp4", "question": "what " + "is " * (i % 5) + f"it, {i}?"}
        choice = {"options": ["a dog", "a cat", "a cow"], "answer": "ABC"[i % 3]}
        items.append(item | (choice if i % 2 else {"answer": "it"}))
    (videos / "q.jsonl").write_text("".join(json.dumps(item) + "\n" for item in items))
    (folder / "towered").mkdir()
    for i in range(12):
        make_clip(folder / "towered" / f"{i}.mp4", num_frames=12 + i)
    (folder / "towered" / "bad.mp4").write_bytes(b"this is no video" * 99)
    tower = str(make_tower(folder / "tower"))
    features = ("features", str(folder / "towered"), "--tower", tower, "--num-frames", "6")
    questions = ("answer", str(folder / "answer.jsonl"), "--media-base-path", str(videos))
    four = ("--num-frames", "2", "--batch-size", "4", "--max-new-tokens", "8")
    captions = ("caption", str(videos / "*.mp4"), *hf, "--fps", "4", "--batch-size", "4")
    captions += ("--max-new-tokens", "8", "--requests", "4", "--export", "srt,json")
    return {
        "caption": Work(captions, ".kinema/videos.sqlite", captioned),
        "caption_logprobs": Work(
            (*captions, "--logprobs", "2"), ".kinema/videos.sqlite", captioned
        ),
        "answer": Work(
            (*questions, "--insert-media-token", "right", "--logprobs", "2", *hf, *four),
            ".out.jsonl.ledger",
            lambda out: {"out.jsonl": (out / "out.jsonl").read_bytes()},
        ),
        "eval": Work(
            ("eval", "jsonl", str(videos), *hf, "--rank-options", *four),
            "*/ledger.sqlite",
            evaluated,
        ),
        "features": Work(
            (*features, "--augment", "flip", "--workers", "1"),
            ".kinema/features.sqlite",
            seen,
            status=3,
        ),
    }


def make_ranking(folder: Path) -> Path:
    """Random weights of LLaVA-OneVision that find letters likely enough to be ranked."""
    import torch
    from transformers import AutoModelForImageTextToText, AutoProcessor

    from support.tiny_families import make_checkpoint

    torch.manual_seed(0)
    make_checkpoint("llava-onevision", folder)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    tokenizer = AutoProcessor.from_pretrained(folder).tokenizer
    with torch.no_grad():
        model.lm_head.weight[tokenizer.convert_tokens_to_ids(list("ABC"))] *= 40
    model.save_pretrained(folder)
    return folder


def seen(folder: Path) -> dict[str, Any]:
    """Every file that users see, by its path; drafts and the ledger are hidden."""
    files = [path.relative_to(folder) for path in folder.rglob("*") if path.is_file()]
    names = [path for path in files if not any(part.startswith(".") for part in path.parts)]
    return {str(name): (folder / name).read_bytes() for name in names}


def captioned(folder: Path) -> dict[str, Any]:
    """Every file, and what the model said: its words, tokens and log-probabilities."""
    with closing(sqlite3.connect(folder / ".kinema" / "answers.sqlite")) as database:
        answers = {
            key: json.loads(value) for key, value in database.execute("SELECT * FROM answer")
        }
    for answer in answers.values():
        if isinstance(answer, dict) and "completion" in answer:
            for of_this_run in ("seconds", "first_token_seconds", "request_id"):
                answer["completion"].pop(of_this_run, None)
    return seen(folder) | answers


def evaluated(folder: Path) -> dict[str, Any]:
    """Every file but the one of measured seconds and the report, which names its folder."""
    (run,) = (path.parent for path in folder.glob("*/run.json"))
    return {n: (run / n).read_bytes() for n in ("predictions.jsonl", "results.json", "run.json")}
