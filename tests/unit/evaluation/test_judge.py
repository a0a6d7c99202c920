"""Judging: strict replies, bounded retries, a cache, and a real server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from kinema.errors import EngineUnreachable, RequestRefused, Unfinished, UsageError
from kinema.evaluation.judge import (
    ATTEMPTS,
    cases_of,
    judge_case,
    parse_verdict,
    prompt_hash,
    summarise,
)
from kinema.evaluation.records import Item, Prediction, Record
from kinema.messages import Request
from kinema.tasks.evaluate import judging, runs
from kinema.tasks.evaluate.judging import JudgeSettings, judge_run, read_judgement
from kinema.tasks.evaluate.runs import EvalSettings, run_benchmark
from kinema.types import FrameSampling
from support.layouts import msvd_qa, video_chatgpt
from support.scripted import ScriptedModel
from support.told_server import Server

YES, NO = '{"pred": "yes", "score": 5}', '{"pred": "no", "score": 1}'


def record(item_id: str, reply: str | None) -> Record:
    item = Item(id=item_id, task="text", question="what?", references=("dog",), video_id=item_id)
    return Record(item, Prediction(reply=reply))


@pytest.mark.parametrize(
    ("reply", "match", "score"),
    [
        (YES, True, 5),
        ("{'pred': 'no', 'score': 0}", False, 0),
        ("Here it is: {'pred': 'Yes', 'score': 4}.", True, 4),
        ('```json\n{"score": 3, "pred": "yes"}\n```', True, 3),
        ('{"pred": "yes", "score": 5.0}', True, 5),
        ('{"pred": "yes", "score": "5"}', True, 5),
        ('{"pred": "yes", "score": "4/5"}', True, 4),
        ('{"pred": "Yes.", "score": 5}', True, 5),
        ('{"pred": true, "score": 5}', True, 5),
        ('{"Pred": "No", "Score": 1}', False, 1),
        ('{"pred": "yes", "score": 4,}', True, 4),
        ("{“pred”: “yes”, “score”: 5}", True, 5),
        ('{"pred": "yes", "score": 5, "explanation": "the same {dog}"}', True, 5),
        ('{"pred": "yes", "score": 2, "parts": {"object": 1}}', True, 2),
        (f"<think>I must output {{'pred', 'score'}}, say {NO}.</think>{YES}", True, 5),
        (f"<answer>{YES}</answer>", True, 5),
        (f"The format is {{}}. {YES}", True, 5),
        (f"{YES}\n\nOnce more: {YES}", True, 5),
        ("pred: yes, score: 4", True, 4),
        ("**Pred:** no\n**Score:** 0", False, 0),
    ],
)
def test_a_verdict_is_read(reply, match, score):
    verdict = parse_verdict(reply, "answer")
    assert (verdict.match, verdict.score) == (match, score)


@pytest.mark.parametrize(
    "reply",
    [
        "",
        "yes, 5",
        '{"pred": "yes"}',
        '{"pred": "yes", "score": 4.8}',
        '{"pred": "yes", "score": 6}',
        '{"pred": "yes", "score": -1}',
        '{"pred": "yes", "score": "five"}',
        '{"pred": "yes", "score": true}',
        '{"pred": "yes", "score": null}',
        '{"pred": null, "score": 3}',
        '{"pred": "maybe", "score": 3}',
        '{"pred": ["yes"], "score": 3}',
        f"<think>{YES}",
        "{" * 5000,
        f"{YES} or {NO}",
        "{'pred': __import__('os').getcwd(), 'score': 5}",
        '{"pred": "yes", "score": 5',
    ],
)
def test_anything_else_is_no_verdict(reply):
    assert parse_verdict(reply, "answer") is None


@pytest.mark.parametrize(
    "reply",
    [
        *('{"score": 4}', '{"score": 4.0}', '{"score": "4"}', "{'score': 4}", "4", "4."),
        *("Score: 4", "**Score:** 4/5", '{"score": 4, "reason": "close"}'),
        "<think>3? 5?</think>Score: 4",
    ],
)
def test_aspects_want_a_score(reply):
    verdict = parse_verdict(reply, "aspects")
    assert (verdict.score, verdict.match) == (4, None)


@pytest.mark.parametrize("reply", ["", "3 or 4", '{"score": 4.8}', "Score: 44", "{'score': [4]}"])
def test_an_aspect_without_one_whole_score_is_unjudged(reply):
    assert parse_verdict(reply, "aspects") is None


def test_retries_are_bounded_and_failures_count_as_wrong():
    records = [record("a", "a dog"), record("b", "cat"), record("c", None)]
    asked: list[str] = []

    async def ask(system: str, question: str) -> str:
        asked.append(question)
        if "cat" in question:
            raise RequestRefused("no cats")
        return "hm" if len(asked) < 2 else YES

    cases = cases_of(records, "answer")
    verdicts = [asyncio.run(judge_case(case, "answer", ask)) for case in cases]
    assert [v.attempts for v in verdicts] == [2, ATTEMPTS]
    found = summarise(records, cases, verdicts, "answer")
    assert found["accuracy"]["value"] == pytest.approx(100 / 3, abs=1e-3)
    assert (found["accuracy"]["items"], found["unjudged"], found["cases"]) == (3, 1, 2)
    assert found["unjudged_because"] == {"no cats": 1}


def test_what_the_judges_engine_did_is_no_verdict():
    async def ask(system: str, question: str) -> str:
        raise EngineUnreachable("down")

    (case,) = cases_of([record("a", "a dog")], "answer")
    with pytest.raises(EngineUnreachable):
        asyncio.run(judge_case(case, "answer", ask))


def test_a_partner_without_an_answer_is_not_called_none():
    facts = {"aspects": ("consistency",), "partner": "b"}
    item = Item(id="a", task="text", question="what?", references=("dog",), facts=facts)
    records = [Record(item, Prediction(reply="a dog")), record("b", None)]
    (case,) = cases_of(records, "aspects")
    assert "1. (no answer)\n2. a dog" in case.question


def test_the_hash_of_the_prompts_tells_protocols_apart():
    assert prompt_hash("answer") != prompt_hash("aspects")
    assert prompt_hash("answer") == prompt_hash("answer")


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    with ExitStack() as servers:
        yield lambda reply: servers.enter_context(Server(reply))


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    def start(benchmark: str, write, reply):
        write(tmp_path / "data")
        monkeypatch.setattr(runs, "find_model", lambda *_, **__: ScriptedModel(reply))
        settings = EvalSettings(
            benchmark=benchmark, data=tmp_path / "data", sampling=FrameSampling(num_frames=1)
        )
        return run_benchmark(settings, "scripted", output=tmp_path / "out")

    (tmp_path / "data").mkdir()
    return start


def test_a_server_judges_and_its_verdicts_are_kept(run, serve, monkeypatch):
    monkeypatch.setenv("KINEMA_JUDGE_KEY", "secret")
    found = run("msvd-qa", msvd_qa, lambda request: "a dog")

    def reply(body: dict) -> tuple[int, str]:
        return 200, YES if "Correct answer: dog" in body["messages"][1]["content"] else NO

    server = serve(reply)
    settings = JudgeSettings(judge=server.address, judge_model="fixed-judge")
    judgement = judge_run(found, settings)
    assert judgement["accuracy"]["value"] == 25
    assert judgement["score"]["value"] == 2
    assert judgement["judge"] == "fixed-judge"
    assert set(judgement) >= {"prompt_sha256", "date", "unjudged"}
    assert "secret" not in (found.folder / "judgement.json").read_text()
    assert set(server.keys) == {"Bearer secret"}
    # The judge-free number stands in the results whatever the judge says.
    assert found.scores.metrics["normalised_match"].score == 25
    asked = len(server.requests)
    assert judge_run(found, settings) == judgement
    assert len(server.requests) == asked


def test_replies_that_are_no_verdict_are_asked_for_again_later(run, serve):
    found = run("msvd-qa", msvd_qa, lambda request: "a dog")
    said = ["hm"]
    server = serve(lambda body: (200, said[0]))
    settings = JudgeSettings(judge=server.address, judge_model="j")
    judgement = judge_run(found, settings)
    assert (judgement["unjudged"], judgement["accuracy"]["value"]) == (4, 0)
    assert len(server.requests) == 4 * ATTEMPTS
    said[0] = YES
    later = judge_run(found, settings)
    assert (later["unjudged"], later["accuracy"]["value"]) == (0, 100)


def test_a_judge_that_fails_judges_nothing_and_goes_on_later(run, serve, monkeypatch):
    monkeypatch.setattr("kinema.engines.openai.client._FIRST_PAUSE_SECONDS", 0.001)
    found = run("msvd-qa", msvd_qa, lambda request: "a dog")
    is_up = [False]
    server = serve(lambda body: (200, YES) if is_up[0] else (500, ""))
    settings = JudgeSettings(judge=server.address, judge_model="j")
    with pytest.raises(Unfinished, match="4 verdicts are still to do"):
        judge_run(found, settings)
    assert read_judgement(found) is None
    is_up[0] = True
    assert judge_run(found, settings)["accuracy"]["value"] == 100


def test_verdicts_of_one_judge_stay_while_another_is_asked(run, serve):
    found = run("msvd-qa", msvd_qa, lambda request: "a dog")
    server = serve(lambda body: (200, YES if body["model"] == "kind" else NO))
    kind, strict = (JudgeSettings(judge=server.address, judge_model=m) for m in ("kind", "strict"))
    values = [judge_run(found, judge)["accuracy"]["value"] for judge in (kind, strict, kind)]
    assert values == [100, 0, 100]
    assert len(server.requests) == 2 * 4


def test_a_judgement_is_of_the_predictions_that_it_was_made_of(run, serve):
    found = run("msvd-qa", msvd_qa, lambda request: "a dog")
    server = serve(lambda body: (200, YES))
    judge_run(found, JudgeSettings(judge=server.address, judge_model="j"))
    assert read_judgement(found)["accuracy"]["value"] == 100
    lines = (found.folder / "predictions.jsonl").read_text()
    (found.folder / "predictions.jsonl").write_text(lines.replace("a dog", "a cat"))
    assert read_judgement(found) is None


def test_five_aspects_are_judged_and_two_wordings_together(run, serve):
    found = run("video-chatgpt", video_chatgpt, lambda request: f"said {question_of(request)}")
    server = serve(lambda body: (200, '{"score": 3}'))
    judgement = judge_run(found, JudgeSettings(judge=server.address, judge_model="j"))
    counts = {a: judgement[a]["items"] for a in judging_aspects()}
    assert counts == {"correctness": 2, "detail": 2, "context": 2, "temporal": 1, "consistency": 1}
    assert all(judgement[a]["value"] == 3 for a in counts)
    (together,) = [
        r["messages"][1]["content"] for r in server.requests if "two" in r["messages"][0]["content"]
    ]
    assert "1. said what?" in together
    assert "2. said which thing?" in together


def question_of(request: Request) -> str:
    return request.conversation.messages[-1].text


def judging_aspects() -> list[str]:
    return ["correctness", "detail", "context", "temporal", "consistency"]


def test_a_local_model_can_judge(run, monkeypatch):
    found = run("msvd-qa", msvd_qa, lambda request: "a dog")
    judgement = judge_run(found, JudgeSettings(judge="echo"))
    # Echo repeats the instructions, which hold no single verdict.
    assert judgement["unjudged"] == judgement["cases"] == 4


def test_without_a_judge_nothing_is_asked(run):
    found = run("msvd-qa", msvd_qa, lambda request: "a dog")
    assert judge_run(found, JudgeSettings()) is None
    assert not (found.folder / judging.JUDGEMENT).exists()


def test_an_address_needs_a_model_name():
    with pytest.raises(UsageError, match="judge_model"):
        JudgeSettings(judge="http://localhost:1/v1")
