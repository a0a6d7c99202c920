"""What serving costs and bears: overhead, company, follow-ups, and minutes under load.

    PYTHONPATH=tests python benchmarks/serve.py overhead company follow-ups load --clients 200

Every part runs against ``kinema serve`` in a process of its own; the load part also watches that
process: memory, descriptors, temporary files. Parts that are not measured again keep their result.
The model is shapes.SMALL; a result without a model's name is of one of 135 million parameters.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import openai
import psutil

from common import RESULTS, machine, median, write_result
from shapes import SMALL, small_shape
from support.clips import EXAMPLE

MODEL = "served"
QUESTIONS = ("What happens in this video?", "What comes first?", "And last?")


@contextmanager
def server(*flags: str, model: str = "") -> Iterator[tuple[str, psutil.Process, Path]]:
    """The server's address, its process and its temporary folder."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / "temporary"
        folder.mkdir()
        name = model or str(small_shape(Path(scratch) / "model"))
        words = ["serve", name, "--served-model-name", MODEL, "--port", "0", *flags]
        process = subprocess.Popen(
            [sys.executable, "-m", "kinema", *words],
            stderr=subprocess.PIPE,
            text=True,
            env=os.environ | {"TMPDIR": str(folder)},
        )
        try:
            line = next(line for line in process.stderr or () if line.startswith("Serving"))
            address = line.split(" at ")[1].split("/v1")[0]
            yield address, psutil.Process(process.pid), folder
        finally:
            process.terminate()
            process.communicate()


def body(file_id: str | None, question: str, **fields: Any) -> dict[str, Any]:
    content: list[dict[str, Any]] = [{"type": "text", "text": question}]
    if file_id is not None:
        content.insert(0, {"type": "video", "file_id": file_id, "num_frames": 8})
    return {"model": MODEL, "messages": [{"role": "user", "content": content}], **fields}


def upload(address: str) -> str:
    files = {"file": ("clip.mp4", EXAMPLE.read_bytes())}
    return str(httpx.post(f"{address}/v1/files", files=files).json()["id"])


def overhead(runs: int = 200) -> dict[str, Any]:
    """Milliseconds of a request on the echo engine, which itself takes none."""
    with server(model="echo") as (address, _, _), httpx.Client(base_url=address) as client:
        file_id = upload(address)
        took = []
        for number in range(runs + 20):
            began = time.perf_counter()
            sent = body(file_id if number % 2 else None, f"question {number}")
            answer = client.post("/v1/chat/completions", json=sent).json()
            spent = time.perf_counter() - began - answer["kinema"]["seconds"]
            took += [spent * 1000] if number >= 20 else []
    return {"median_ms": median(took), "p95_ms": sorted(took)[int(0.95 * len(took))], "runs": runs}


async def _clients(
    address: str, file_id: str, *, count: int, seconds: float
) -> tuple[Counter[int], list[float]]:
    """Statuses and seconds of the requests of ``count`` clients that ask again and again."""
    statuses: Counter[int] = Counter()
    took: list[float] = []
    give_up_at = time.monotonic() + seconds
    limits = httpx.Limits(max_connections=count)

    async def one(number: int, client: httpx.AsyncClient) -> None:
        turn = number
        while time.monotonic() < give_up_at:
            began = time.monotonic()
            sent = body(file_id, QUESTIONS[turn % 3], max_tokens=48)
            answer = await client.post("/v1/chat/completions", json=sent)
            statuses[answer.status_code] += 1
            took.extend([time.monotonic() - began] if answer.status_code == 200 else [])
            if answer.status_code == 429:
                await asyncio.sleep(float(answer.headers["Retry-After"]))
            turn += 1

    async with httpx.AsyncClient(base_url=address, limits=limits, timeout=600) as client:
        await asyncio.gather(*(one(number, client) for number in range(count)))
    return statuses, took


def company(seconds: float = 40.0) -> dict[str, Any]:
    """Answers a second of one client and of sixteen, taking turns."""
    rates: dict[int, list[float]] = {1: [], 16: []}
    with server("--batch-size", "16") as (address, _, _):
        file_id = upload(address)
        httpx.post(f"{address}/v1/chat/completions", json=body(file_id, "warm up"), timeout=600)
        for _ in range(2):
            for count, measured in rates.items():
                began = time.monotonic()
                work = _clients(address, file_id, count=count, seconds=seconds / 4)
                statuses, _ = asyncio.run(work)
                measured.append(statuses[200] / (time.monotonic() - began))
    one, sixteen = (median(measured) for measured in rates.values())
    return {"one_per_second": one, "sixteen_per_second": sixteen, "ratio": sixteen / one}


def follow_ups() -> list[dict[str, Any]]:
    """An upload, a question, two follow-ups with OpenAI's client; seconds to each first token."""
    said: list[Any] = []
    transcript = []
    with server() as (address, _, _):
        client = openai.OpenAI(base_url=f"{address}/v1", api_key="none", timeout=600)
        with EXAMPLE.open("rb") as file:
            stored = client.files.create(file=file, purpose="vision")
        video = {"type": "video", "file_id": stored.id, "num_frames": 16}
        for number, question in enumerate(QUESTIONS):
            words = {"type": "text", "text": question}
            said.append({"role": "user", "content": [video, words] if number == 0 else [words]})
            sent: dict[str, Any] = {"model": MODEL, "messages": said, "max_tokens": 48}
            began = time.perf_counter()
            text, first = "", None
            for chunk in client.chat.completions.create(**sent, stream=True):
                piece = chunk.choices[0].delta.content if chunk.choices else None
                first = first or (time.perf_counter() - began if piece else None)
                text += piece or ""
            said.append({"role": "assistant", "content": text})
            transcript.append({"question": question, "first_token_seconds": round(first or 0, 3)})
    return transcript


def load(clients: int, seconds: float) -> dict[str, Any]:
    """Many clients for minutes: statuses, and the process before, in the middle and after."""
    watched = []

    with server("--batch-size", "16") as (address, process, folder):
        file_id = upload(address)

        def look() -> dict[str, Any]:
            everyone = [process, *process.children(recursive=True)]
            return {
                "rss_mib": round(sum(p.memory_info().rss for p in everyone) / 2**20),
                "descriptors": process.num_fds(),
                "temporary_files": sum(1 for f in folder.rglob("*") if f.is_file()),
            }

        asyncio.run(_clients(address, file_id, count=16, seconds=10))
        watched.append(look())
        statuses: Counter[int] = Counter()
        took: list[float] = []
        for _ in range(5):
            work = _clients(address, file_id, count=clients, seconds=seconds / 5)
            some, durations = asyncio.run(work)
            statuses += some
            took += durations
            watched.append(look())
    return {
        "clients": clients,
        "seconds": seconds,
        "statuses": dict(statuses),
        "median_answer_seconds": median(took),
        "watched": watched,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("parts", nargs="+", choices=["overhead", "company", "follow-ups", "load"])
    parser.add_argument("--clients", type=int, default=200)
    parser.add_argument("--seconds", type=float, default=300.0)
    given = parser.parse_args()
    parts: dict[str, Callable[[], Any]] = {
        "overhead": overhead,
        "follow-ups": follow_ups,
        "company": company,
        "load": lambda: load(given.clients, given.seconds),
    }
    earlier = RESULTS / "serve.json"
    result: dict[str, Any] = json.loads(earlier.read_text()) if earlier.is_file() else {}
    result["machine"] = machine()
    for name, measure in parts.items():
        if name in given.parts:
            facts = {"model": "echo" if name == "overhead" else SMALL}
            facts |= {"load_average_before": os.getloadavg()[0]}
            result[name] = facts | {"result": measure()}
            write_result("serve", result)  # so far: the last part takes minutes


if __name__ == "__main__":
    main()
