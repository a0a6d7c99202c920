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
from collections import Counter
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from kinema.errors import KinemaError
from kinema.evaluation.normalise import answer_of
from kinema.evaluation.records import Record
from kinema.evaluation.statistics import Measured, interval
from kinema.plain import Plain

Protocol = Literal["answer", "aspects"]
Ask = Callable[[str, str], Awaitable[str]]
"""System prompt and question in, the judge's reply out; raises KinemaError when it fails."""

ATTEMPTS = 3
_MOST_REASONS = 5
_NO_VERDICT = "The judge's reply holds no verdict."

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
    problem: str = ""
    """Why the judge did not reply, in its server's words."""


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
_QUOTES = str.maketrans("“”„‘’", '"""\'\'')
_YES_NO = {"yes": True, "no": False, "true": True, "false": False}
_GAP = r"[\s:*=,;.\"'`]*"
_LONE_SCORE = re.compile(
    rf"{_GAP}(?:score{_GAP})?([0-5])(?:\.0+)?(?:\s*/\s*5)?{_GAP}", re.IGNORECASE
)
_PRED_AND_SCORE = re.compile(
    rf"{_GAP}pred(?:iction)?{_GAP}(yes|no){_GAP}score{_GAP}([0-5])(?:\.0+)?(?:\s*/\s*5)?{_GAP}",
    re.IGNORECASE,
)


def parse_verdict(reply: str, protocol: Protocol) -> Verdict | None:
    """Read a judge's reply: the one verdict in it, or None.

    A verdict is an object with the wanted keys, whatever stands around it or beside them, or the
    same in words (``Score: 4``). JSON and Python literals are read, never evaluated; reasoning is
    passed over. A score that is no whole number from 0 to 5 is no score, a "pred" that is not yes
    or no is no verdict, and two different verdicts are none.
    """
    text = answer_of(reply).translate(_QUOTES)
    found = {_verdict(values, protocol) for values in _objects(text)} - {None}
    if not found:
        found = {_in_words(text, protocol)}
    verdict = found.pop() if len(found) == 1 else None
    return None if verdict is None else Verdict(*verdict, reply)


def _objects(text: str) -> Iterator[Mapping[str, Any]]:
    """Every object in a text, its keys in small letters; those inside of others are left out."""
    decoder, at = json.JSONDecoder(), text.find("{")
    while at >= 0:
        try:
            values, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            literal = _OBJECT.match(text, at)
            values, end = _literal(literal[0]) if literal else None, at + 1
        if isinstance(values, dict):
            yield {str(name).strip().lower(): value for name, value in values.items()}
        at = text.find("{", end)


def _verdict(values: Mapping[str, Any], protocol: Protocol) -> tuple[int, bool | None] | None:
    score = _score(values.get("score"))
    said = str(values.get("pred")).strip(" .!\"'").lower()
    if score is None or (protocol == "answer" and said not in _YES_NO):
        return None
    return score, _YES_NO[said] if protocol == "answer" else None


def _score(value: Any) -> int | None:
    """5, 5.0 and "5"; neither 4.8 nor true."""
    if isinstance(value, str):
        match = _LONE_SCORE.fullmatch(value)
        return int(match[1]) if match else None
    whole = isinstance(value, int | float) and not isinstance(value, bool) and value in range(6)
    return int(value) if whole else None


def _in_words(text: str, protocol: Protocol) -> tuple[int, bool | None] | None:
    if protocol == "aspects":
        lone = _LONE_SCORE.fullmatch(text)
        return (int(lone[1]), None) if lone else None
    both = _PRED_AND_SCORE.fullmatch(text)
    return (int(both[2]), both[1].lower() == "yes") if both else None


def _literal(text: str) -> Any:
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return None


async def judge_case(case: Case, protocol: Protocol, ask: Ask) -> Verdict:
    """The judge's verdict, without a score when no attempt gave a usable reply.

    Raises:
        KinemaError: of the judge's engine or of the run, which says nothing about the case.
    """
    reply = problem_said = ""
    for attempt in range(1, ATTEMPTS + 1):
        try:
            reply = await ask(case.system, case.question)
        except KinemaError as problem:
            if problem.blame in ("engine", "run"):
                raise
            reply, problem_said = "", problem.sentence
            continue
        problem_said = ""
        if verdict := parse_verdict(reply, protocol):
            return Verdict(verdict.score, verdict.match, reply, attempt)
    return Verdict(None, None, reply, ATTEMPTS, problem_said or _NO_VERDICT)


def summarise(
    records: Sequence[Record],
    cases: Sequence[Case],
    verdicts: Sequence[Verdict],
    protocol: Protocol,
) -> dict[str, Any]:
    """Accuracy and mean score, or the mean of each aspect; over all items, judged or not."""
    judged = {(c.item_id, c.aspect): v for c, v in zip(cases, verdicts, strict=True)}
    unjudged = [verdict for verdict in verdicts if verdict.score is None]
    result: dict[str, Any] = {"cases": len(cases), "unjudged": len(unjudged)}
    if unjudged:
        reasons = Counter(verdict.problem or _NO_VERDICT for verdict in unjudged)
        result["unjudged_because"] = dict(reasons.most_common(_MOST_REASONS))
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
