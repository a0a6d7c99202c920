"""Whether the jobs and the server are as fast as they were at another commit.

Both checkouts do the same work in turns: captions, answers, an evaluation and requests to a server,
with a small random checkpoint, on which the time that kinema itself takes weighs much; a width of
128 makes it weigh more than any real model does. Each checkout has a process that stays and keeps
its engine, so no figure includes loading.

    git worktree add ../before COMMIT
    PYTHONPATH=tests python benchmarks/against.py ../before --engine hf

With ``--engine vllm`` it runs in the environment that ``scripts/vllm_env.sh`` makes.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import httpx

HERE = Path(__file__).resolve().parents[1]
CLIPS, QUESTIONS_A_CLIP, CLIENTS = 16, 6, 8
SEEN = ("--num-frames", "8", "--max-new-tokens", "16")
QUESTIONS = tuple(f"What is seen first, number {number}?" for number in range(QUESTIONS_A_CLIP))


class Child:
    """A process of one checkout: it runs command lines and says how long each took."""

    def __init__(self, root: Path) -> None:
        paths = [str(root / "src"), str(root / "tests")]
        self._process = subprocess.Popen(
            [sys.executable, "-W", "ignore", __file__, "--child"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
        )

    def run(self, command: list[str]) -> float:
        """Seconds of ``kinema COMMAND``; a server answers one round of requests."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        print(json.dumps(command), file=self._process.stdin, flush=True)
        answer = json.loads(self._process.stdout.readline())
        if "failed" in answer:
            raise SystemExit(f"{' '.join(command)}: {answer['failed']}")
        return float(answer["seconds"])

    def close(self) -> None:
        """Let the process end, and with it the server that it may have started."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("before", type=Path, help="the other checkout")
    parser.add_argument("--engine", default="hf", choices=["hf", "vllm"])
    parser.add_argument("--width", type=int, default=512, help="of the checkpoint; 32 to 1024")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", nargs="*", default=["caption", "answer", "eval", "serve"])
    chosen = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        scratch = Path(folder)
        children = {"before": Child(chosen.before.resolve()), "now": Child(HERE)}
        try:
            seconds = _measure(children, _materials(scratch, chosen.width), chosen, scratch)
        finally:
            for child in children.values():
                child.close()
    _report(f"{chosen.engine}, {chosen.width} wide", seconds)


def _materials(scratch: Path, width: int = 128) -> Path:
    """The checkpoint, the clips, and the questions of ``answer`` and ``eval``."""
    from support.clips import make_clip
    from support.elsewhere import make_elsewhere

    make_elsewhere("qwen2-vl", scratch / "model", width=width)
    videos = scratch / "videos"
    videos.mkdir()
    lines = []
    for number in range(CLIPS):
        make_clip(videos / f"{number}.mp4", num_frames=300 + 7 * number, fps=15)
        lines += [
            json.dumps({"video": f"{number}.mp4", "question": question, "answer": "a dog"})
            for question in QUESTIONS
        ]
    (videos / "questions.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return scratch


def _command(verb: str, engine: str, materials: Path, output: Path) -> list[str]:
    model = ["--engine", engine, *(["--batch-size", "4"] if engine == "hf" else [])]
    videos = str(materials / "videos")
    questions = f"{videos}/questions.jsonl"
    checkpoint = str(materials / "model")
    match verb:
        case "caption":
            return ["caption", videos, "-m", checkpoint, "-o", str(output), *model, *SEEN[2:], "-q"]
        case "answer":
            answers = [
                "--insert-media-token",
                "left",
                "-m",
                checkpoint,
                "-o",
                str(output / "answers.jsonl"),
                "-q",
            ]
            return ["answer", questions, "--media-base-path", videos, *answers, *model, *SEEN]
        case "eval":
            measured = ["-m", checkpoint, "-o", str(output)]
            return ["eval", "jsonl", questions, *measured, *model, *SEEN]
        case _:
            return ["serve", checkpoint, "--port", "0", *model, videos]


def _measure(
    children: dict[str, Child], materials: Path, chosen: argparse.Namespace, scratch: Path
) -> dict[str, dict[str, list[float]]]:
    """Seconds of each verb in each checkout; all take turns, and the first round only warms up."""
    seconds: dict[str, dict[str, list[float]]] = {}
    for verb in chosen.only:
        seconds[verb] = {name: [] for name in children}
        for run in range(chosen.runs + 1):
            for name in list(children) if run % 2 else list(children)[::-1]:
                output = scratch / "output"
                output.mkdir()
                took = children[name].run(_command(verb, chosen.engine, materials, output))
                shutil.rmtree(output)
                if run:
                    seconds[verb][name].append(took)
        print(verb, {name: [round(s, 2) for s in took] for name, took in seconds[verb].items()})
    return seconds


def _report(name: str, seconds: dict[str, dict[str, list[float]]]) -> None:
    from common import RESULTS, machine

    kept = RESULTS / "against.json"
    result = json.loads(kept.read_text()) if kept.is_file() else {}
    result[name] = {
        "machine": machine(),
        "clips": CLIPS,
        "questions": CLIPS * QUESTIONS_A_CLIP,
        "seconds": seconds,
        "now_by_before": {
            verb: round(median(took["now"]) / median(took["before"]), 3)
            for verb, took in seconds.items()
        },
    }
    if {"answer", "eval"} <= seconds.keys():
        ratio = median(seconds["answer"]["now"]) / median(seconds["eval"]["now"])
        result[name]["answer_by_eval"] = round(ratio, 3)
    kept.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result[name]["now_by_before"], indent=2))


def child() -> None:
    """Read command lines, run each, and say how long it took."""
    talk = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    _keep_engines()
    servers = contextlib.ExitStack()
    addresses: dict[str, str] = {}
    for line in sys.stdin:
        command = json.loads(line)
        try:
            took = _serve(command, addresses, servers) if command[0] == "serve" else _run(command)
        except BaseException as error:
            print(json.dumps({"failed": repr(error)}), file=talk, flush=True)
        else:
            print(json.dumps({"seconds": took}), file=talk, flush=True)
    servers.close()


def _keep_engines() -> None:
    """Open each engine once: what is asked for again is there, and closing it does nothing."""
    from kinema.tasks import models

    opened: dict[str, Any] = {}
    really_open = models.Model.open

    def open_once(model: Any, settings: Any) -> Any:
        key = f"{model.name} {settings}"
        if key not in opened:
            opened[key] = really_open(model, settings)
            opened[key].close = lambda: None
        return opened[key]

    models.Model.open = open_once  # type: ignore[method-assign]


def _run(command: list[str]) -> float:
    from kinema.__main__ import main as kinema

    said = io.StringIO()
    began = time.perf_counter()
    with contextlib.redirect_stderr(said), contextlib.redirect_stdout(said):
        status = kinema(command)
    if status:
        raise RuntimeError(f"status {status}: {said.getvalue()[-2000:]}")
    return time.perf_counter() - began


def _serve(command: list[str], addresses: dict[str, str], servers: contextlib.ExitStack) -> float:
    """One round of requests: each question about each clip, from several clients at once."""
    *command, videos = command
    if not addresses:
        addresses["server"] = servers.enter_context(_server(command))
    began = time.perf_counter()
    with (
        httpx.Client(base_url=addresses["server"], timeout=600) as client,
        ThreadPoolExecutor(CLIENTS) as clients,
    ):

        def upload(clip: Path) -> str:
            sent = client.post("/v1/files", files={"file": (clip.name, clip.read_bytes())})
            return str(sent.raise_for_status().json()["id"])

        def ask(work: tuple[str, str]) -> None:
            file_id, question = work
            video = {"type": "video", "file_id": file_id, "num_frames": 8}
            content = [video, {"type": "text", "text": question}]
            body = {
                "model": model,
                "messages": [{"role": "user", "content": content}],
                "max_tokens": 16,
            }
            answer = client.post("/v1/chat/completions", json=body)
            if answer.is_error:
                raise RuntimeError(answer.text)

        model = client.get("/v1/models").json()["data"][0]["id"]
        ids = list(clients.map(upload, sorted(Path(videos).glob("*.mp4"))))
        list(clients.map(ask, [(i, question) for i in ids for question in QUESTIONS]))
    return time.perf_counter() - began


@contextlib.contextmanager
def _server(command: list[str]) -> Iterator[str]:
    process = subprocess.Popen(
        [sys.executable, "-W", "ignore", "-m", "kinema", *command],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        line = next(line for line in process.stderr if line.startswith("Serving"))
        threading.Thread(target=process.stderr.read, daemon=True).start()
        yield line.split(" at ")[1].split("/v1")[0]
    finally:
        process.terminate()
        process.wait()


if __name__ == "__main__":
    child() if "--child" in sys.argv else main()
