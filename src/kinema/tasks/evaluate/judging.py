"""Put a judge over the free-text answers of a run, and remember every verdict."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from kinema.config import fingerprint
from kinema.engines import EngineSettings
from kinema.errors import UsageError
from kinema.evaluation.judge import (
    Case,
    Protocol,
    Verdict,
    cases_of,
    judge_case,
    prompt_hash,
    summarise,
)
from kinema.files import sha256_of, write_json
from kinema.jobs.ledger import Ledger, Outcome, Unit
from kinema.jobs.progress import Meter
from kinema.jobs.runner import unfinished, work_off
from kinema.jobs.site import Site
from kinema.messages import Ask, Conversation, SamplingParams, TextPart
from kinema.tasks.deciding import model_identity
from kinema.tasks.evaluate.stored import PREDICTIONS, Run
from kinema.tasks.models import Model, find_model
from kinema.tasks.site import open_site

JUDGEMENT, CACHE = "judgement.json", "judge.sqlite"
_PARAMS = SamplingParams(max_new_tokens=1024)
"""Room for a judge that thinks first; a verdict alone takes about 20 tokens."""
_WINDOW = 64
_KEY_ENV = "KINEMA_JUDGE_KEY"


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """Who judges."""

    judge: str | None = None
    """Address of an OpenAI-compatible server (http://host:8000/v1), or a local model's name."""
    judge_model: str = ""
    """The model's name on that server."""

    def __post_init__(self) -> None:
        if self.is_server and not self.judge_model:
            raise UsageError(
                "--judge is an address and --judge-model is missing.",
                hint="Name the model on that server; its key is read from KINEMA_JUDGE_KEY.",
            )

    @property
    def is_server(self) -> bool:
        """Whether the judge is behind an address."""
        return bool(self.judge) and str(self.judge).startswith(("http://", "https://"))

    @property
    def name(self) -> str:
        """How results call the judge."""
        return self.judge_model or self.judge or ""

    @property
    def loading(self) -> EngineSettings:
        """How the judge is reached."""
        if not self.is_server:
            return EngineSettings()
        return EngineSettings(base_url=self.judge, api_key_env=_KEY_ENV)

    def find(self) -> Model:
        """The model that judges.

        Raises:
            ModelError: there is none of this name.
        """
        if self.is_server:
            return find_model(self.judge_model, engine="openai")
        return find_model(str(self.judge))


def judge_run(run: Run, settings: JudgeSettings) -> dict[str, Any] | None:
    """Judge every free-text answer that has no verdict yet, and write ``judgement.json``.

    None when the benchmark has no free-text answers or no judge was named.

    Raises:
        Unfinished: the judge's engine failed; verdicts that it gave are kept, and nothing is
            summed up before all are there.
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
        "predictions": sha256_of(run.folder / PREDICTIONS),
        "date": datetime.now(UTC).date().isoformat(),
        **summarise(run.records, cases, verdicts, kind),
    }
    write_json(run.folder / JUDGEMENT, judgement)
    return judgement


def read_judgement(run: Run) -> dict[str, Any] | None:
    """What a judge said of a run; None when it was not asked, or judged other predictions."""
    path = run.folder / JUDGEMENT
    if not path.is_file():
        return None
    found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    judged = found.get("predictions")  # kinema 0.1 did not write which ones
    return found if judged in (None, sha256_of(run.folder / PREDICTIONS)) else None


def _verdicts(
    path: Path, cases: Sequence[Case], protocol: Protocol, settings: JudgeSettings
) -> list[Verdict]:
    """A verdict a case, asked for once in the life of a run; failures are asked for again.

    Verdicts of several judges stand in one file, so that none is lost when another judge is asked.
    """
    model = settings.find()
    judge = fingerprint({"params": _PARAMS.to_dict(), **model_identity(model, settings.loading)})
    keys = [f"{case.key}-{judge}" for case in cases]
    wanted = dict(zip(keys, cases, strict=True))

    async def one(site: Site, unit: Unit) -> Outcome:
        async def ask(system: str, question: str) -> str:
            said = Conversation.asked(TextPart(question), system=system)
            if not settings.is_server:  # not every template has a place for a system prompt
                said = Conversation.asked(TextPart(f"{system}\n\n{question}"))
            key = fingerprint({"system": system, "question": question})
            reply = await site.answer(Ask(key=key, conversation=said, params=_PARAMS))
            return reply.completion.text

        verdict = await judge_case(wanted[unit.id], protocol, ask)
        return Outcome(verdict.to_dict(), is_partial=verdict.score is None)

    about = {"prompt": prompt_hash(protocol)}
    with Ledger(path, settings=about, restart=True, noun="verdicts") as ledger:
        ledger.enter(((key, {}) for key in wanted), retry_failed=True)
        problem = work_off(one, open_site(model, settings.loading), Meter(ledger), window=_WINDOW)
        if problem is not None:
            raise unfinished(problem, ledger) from problem
        units = {unit.id: unit for unit in ledger.units() if unit.result is not None}
    return [Verdict(**units[key].result) if key in units else Verdict(None) for key in keys]
