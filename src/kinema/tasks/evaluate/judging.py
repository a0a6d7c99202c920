"""Put a judge over the free-text answers of a run, and remember every verdict."""

from __future__ import annotations

import json
import os
import urllib.error
import urllib.request
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kinema.errors import ModelError, UsageError
from kinema.evaluation.judge import (
    Ask,
    Case,
    Protocol,
    Verdict,
    cases_of,
    judge_cases,
    prompt_hash,
    summarise,
)
from kinema.files import write_atomically
from kinema.ledger import Ledger
from kinema.messages import SamplingParams
from kinema.tasks.chat import Chat
from kinema.tasks.evaluate.runs import Run

JUDGEMENT, CACHE = "judgement.json", "judge.sqlite"
_TIMEOUT_SECONDS = 120.0


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """Who judges."""

    judge: str | None = None
    """Address of an OpenAI-compatible server (http://host:8000/v1), or a local model's name."""
    judge_model: str = ""
    """The model's name on that server."""

    def __post_init__(self) -> None:
        if self.judge and _is_address(self.judge) and not self.judge_model:
            raise UsageError(
                "--judge is an address and --judge-model is missing.",
                hint="Name the model on that server; its key is read from KINEMA_JUDGE_KEY.",
            )

    @property
    def name(self) -> str:
        """How results call the judge."""
        return self.judge_model or self.judge or ""


def judge_run(run: Run, settings: JudgeSettings) -> dict[str, Any] | None:
    """Judge every free-text answer that has no verdict yet, and write ``judgement.json``.

    None when the benchmark has no free-text answers or no judge was named.
    """
    protocol: Protocol | str = run.benchmark.judge
    if not settings.judge or protocol not in ("answer", "aspects"):
        return None
    kind: Protocol = "aspects" if protocol == "aspects" else "answer"
    cases = cases_of(run.records, kind)
    verdicts = _verdicts(run.folder / CACHE, cases, kind, settings)
    judgement = {
        "judge": settings.name,
        "address": settings.judge,
        "prompt_sha256": prompt_hash(kind),
        "date": datetime.now(UTC).date().isoformat(),
        **summarise(run.records, cases, verdicts, kind),
    }
    write_atomically(run.folder / JUDGEMENT, json.dumps(judgement, indent=2) + "\n")
    return judgement


def read_judgement(run: Run) -> dict[str, Any] | None:
    """What a judge said of a run; None when it was not asked."""
    path = run.folder / JUDGEMENT
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return found


def _verdicts(
    path: Path, cases: list[Case], protocol: Protocol, settings: JudgeSettings
) -> list[Verdict]:
    """A verdict a case, asked for once in the life of a run; failures are asked for again."""
    about = {"judge": settings.name, "prompt": prompt_hash(protocol)}
    with Ledger(path, settings=about, max_attempts=1_000, restart=True) as ledger:
        ledger.add((case.key, {}) for case in cases)
        known = {unit.id: unit for unit in ledger.units()}
        waiting = {c.key: c for c in cases if known[c.key].state != "done"}
        with _Asker(settings) as asker:
            for case, verdict in judge_cases(
                list(waiting.values()), protocol, asker.ask, workers=asker.workers
            ):
                if verdict.score is not None:
                    ledger.finish(case.key, verdict.to_dict())
        done = {unit.id: Verdict(**unit.result) for unit in ledger.units("done")}
    return [done.get(case.key, Verdict(None)) for case in cases]


class _Asker:
    """A judge behind an address, asked in parallel, or a local model, asked one by one."""

    def __init__(self, settings: JudgeSettings) -> None:
        self._settings = settings
        self._chat: Chat | None = None
        self.ask: Ask = self._ask_local
        self.workers = 1
        if _is_address(settings.judge or ""):
            self.ask, self.workers = self._ask_server, 8

    def __enter__(self) -> _Asker:
        return self

    def __exit__(self, *_: object) -> None:
        if self._chat is not None:
            self._chat.close()

    def _ask_local(self, system: str, question: str) -> str:
        if self._chat is None:
            self._chat = Chat(str(self._settings.judge), params=SamplingParams(max_new_tokens=64))
        self._chat.reset()
        return self._chat.ask(f"{system}\n\n{question}").text

    def _ask_server(self, system: str, question: str) -> str:
        body = {
            "model": self._settings.judge_model,
            "temperature": 0,
            "max_tokens": 64,
            "messages": [
                {"role": "system", "content": system},
                {"role": "user", "content": question},
            ],
        }
        reply = _post(f"{str(self._settings.judge).rstrip('/')}/chat/completions", body)
        try:
            return str(reply["choices"][0]["message"]["content"])
        except (KeyError, IndexError, TypeError):
            raise ModelError("The judge's server sent no completion.") from None


def _is_address(judge: str) -> bool:
    return judge.startswith(("http://", "https://"))


def _post(url: str, body: dict[str, Any]) -> Any:
    """One request; no proxy of ours, no retry: the protocol counts attempts."""
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("KINEMA_JUDGE_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    request = urllib.request.Request(url, json.dumps(body).encode(), headers)
    try:
        with urllib.request.urlopen(request, timeout=_TIMEOUT_SECONDS) as response:
            return json.load(response)
    except (OSError, ValueError) as problem:
        reason = f"status {problem.code}" if isinstance(problem, urllib.error.HTTPError) else ""
        raise ModelError(
            f"The judge did not answer: {reason or type(problem).__name__}.",
            hint="Check --judge, --judge-model and KINEMA_JUDGE_KEY.",
        ) from None
