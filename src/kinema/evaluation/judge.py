"""Language models as judges: strict protocols, bounded retries, nothing counted on a failure.

Two protocols, those of Video-ChatGPT's evaluation, asked in our own words:

    answer    does the answer mean the same as the reference: yes or no, and 0 to 5
    aspects   one whole number, 0 to 5, for one of five aspects

A judge's verdict moves with its version, so a result names the judge, the hash of the prompts and
the date, and a judge-free number stands beside it. An item without a verdict counts as wrong.
"""

from __future__ import annotations

import ast
import hashlib
import json
import re
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kinema.errors import KinemaError
from kinema.evaluation.records import Record
from kinema.evaluation.statistics import Measured, interval
from kinema.plain import Plain

Protocol = Literal["answer", "aspects"]
Ask = Callable[[str, str], Awaitable[str]]
"""System prompt and question in, the judge's reply out; raises KinemaError when it fails."""

ATTEMPTS = 3

_ANSWER_SYSTEM = (
    "You compare a predicted answer to a question about a video with the correct answer. Synonyms "
    "and paraphrases count as a match; what matters is whether the meaning is the same."
)
_ANSWER_QUESTION = (
    "Question: {question}\nCorrect answer: {reference}\nPredicted answer: {answer}\n\n"
    'Reply with one JSON object and nothing else: {{"pred": "yes" or "no", "score": N}}, where N '
    "is a whole number from 0 (nothing matches) to 5 (the same meaning)."
)
_ASPECT_SYSTEM = (
    "You rate a predicted answer to a question about a video against the correct answer. You rate "
    "one aspect only: {aspect}. Synonyms and paraphrases are fine."
)
_ASPECT_QUESTION = (
    "Question: {question}\nCorrect answer: {reference}\nPredicted answer: {answer}\n\n"
    'Reply with one JSON object and nothing else: {{"score": N}}, where N is a whole number from 0 '
    "(worst) to 5 (best)."
)
ASPECTS = {
    "correctness": "whether it agrees with the facts and says nothing false",
    "detail": "whether it covers the main points and is specific",
    "context": "whether it fits the overall context and theme of the video",
    "temporal": "whether it keeps the order of events",
    "consistency": (
        "whether two predicted answers to two wordings of one question agree with each other and "
        "with the correct answer"
    ),
}


_WORDING: dict[Protocol, tuple[str, str]] = {
    "answer": (_ANSWER_SYSTEM, _ANSWER_QUESTION),
    "aspects": (_ASPECT_SYSTEM, _ASPECT_QUESTION),
}


@dataclass(frozen=True)
class Case:
    """One thing to judge."""

    item_id: str
    aspect: str
    """Empty for the protocol "answer"."""
    system: str
    question: str
    cluster: str

    @property
    def key(self) -> str:
        """Changes exactly when what the judge reads changes."""
        return hashlib.sha256(f"{self.system}\0{self.question}".encode()).hexdigest()[:32]


@dataclass(frozen=True)
class Verdict(Plain):
    """What the judge said of a case; ``score`` is None when it said nothing usable."""

    score: int | None
    match: bool | None = None
    reply: str = ""
    attempts: int = 0


def cases_of(records: Sequence[Record], protocol: Protocol) -> list[Case]:
    """What there is to judge: free-text items with a reply."""
    answers = {r.item.id: r.prediction.answer for r in records}
    cases = []
    for record in records:
        said = answers[record.item.id]
        if record.item.task != "text" or not said:
            continue
        if protocol == "answer":
            cases.append(_case(record, "", said))
            continue
        for aspect in record.item.facts.get("aspects", ()):
            answer = said
            if partner := record.item.facts.get("partner"):
                answer = f"1. {answers.get(partner) or '(no answer)'}\n2. {answer}"
            cases.append(_case(record, aspect, answer))
    return cases


def _case(record: Record, aspect: str, answer: str) -> Case:
    words = {
        "question": record.item.question,
        "reference": " / ".join(record.item.references),
        "answer": answer,
    }
    system, question = _WORDING["aspects" if aspect else "answer"]
    system = system.format(aspect=ASPECTS.get(aspect))
    return Case(record.item.id, aspect, system, question.format(**words), record.cluster)


def prompt_hash(protocol: Protocol) -> str:
    """Sixteen hex digits of the wording that judges are given."""
    wording = [*_WORDING[protocol], *(ASPECTS.values() if protocol == "aspects" else ())]
    return hashlib.sha256("\0".join(wording).encode()).hexdigest()[:16]


_OBJECT = re.compile(r"\{[^{}]*\}")


def parse_verdict(reply: str, protocol: Protocol) -> Verdict | None:
    """Read a judge's reply: exactly one object with exactly the wanted keys, or None.

    JSON and Python literals are read, never evaluated. A score that is no whole number from 0 to 5
    is no score, and neither is a "pred" that is not yes or no.
    """
    found = _OBJECT.findall(reply)
    values = _literal(found[0]) if len(found) == 1 else None
    wanted = {"pred", "score"} if protocol == "answer" else {"score"}
    if not isinstance(values, dict) or set(values) != wanted:
        return None
    score, said = values["score"], str(values.get("pred", "yes")).strip().lower()
    whole = isinstance(score, int) and not isinstance(score, bool) and 0 <= score <= 5
    if not whole or said not in ("yes", "no"):
        return None
    return Verdict(score, said == "yes" if protocol == "answer" else None, reply)


def _literal(text: str) -> Any:
    for read in (json.loads, ast.literal_eval):
        try:
            return read(text)
        except (ValueError, SyntaxError):
            continue
    return None


async def judge_case(case: Case, protocol: Protocol, ask: Ask) -> Verdict:
    """The judge's verdict, without a score when no attempt gave a usable reply.

    Raises:
        KinemaError: of the judge's engine or of the run, which says nothing about the case.
    """
    reply = ""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            reply = await ask(case.system, case.question)
        except KinemaError as problem:
            if problem.blame in ("engine", "run"):
                raise
            reply = str(problem)
            continue
        if verdict := parse_verdict(reply, protocol):
            return Verdict(verdict.score, verdict.match, reply, attempt)
    return Verdict(None, None, reply, ATTEMPTS)


def summarise(
    records: Sequence[Record],
    cases: Sequence[Case],
    verdicts: Sequence[Verdict],
    protocol: Protocol,
) -> dict[str, Any]:
    """Accuracy and mean score, or the mean of each aspect; over all items, judged or not."""
    judged = {(c.item_id, c.aspect): v for c, v in zip(cases, verdicts, strict=True)}
    result: dict[str, Any] = {
        "cases": len(cases),
        "unjudged": sum(verdict.score is None for verdict in verdicts),
    }
    items = [r for r in records if r.item.task == "text"]
    if protocol == "answer":
        found = [judged.get((r.item.id, "")) for r in items]
        matches = [100.0 * bool(v and v.match) for v in found]
        result["accuracy"] = _mean(matches, items)
        result["score"] = _mean([float((v and v.score) or 0) for v in found], items)
        return result
    for aspect in ASPECTS:
        mine = [r for r in items if aspect in r.item.facts.get("aspects", ())]
        verdict_of = [judged.get((r.item.id, aspect)) for r in mine]
        if mine:
            result[aspect] = _mean([float((v and v.score) or 0) for v in verdict_of], mine)
    return result


def _mean(scores: Sequence[float], records: Sequence[Record]) -> dict[str, Any]:
    measured = Measured.mean(scores)
    reach = interval(measured.influence, measured.value, [r.cluster for r in records])
    return {
        "value": round(measured.value, 4),
        "interval": [round(reach.low, 4), round(reach.high, 4)] if reach else None,
        "items": len(scores),
    }
