"""The same work on a Ray cluster: three jobs, segment, caption and summarise.

Rows carry ids that depend on bytes and settings alone. What a job has made is in the memo before
the next begins, so a run that is stopped goes on at the caption where it was. A video that cannot
be read is a row with an error; it never ends a job. Ray starts a worker that died again.
"""

from __future__ import annotations

import json
import math
import os
import pickle
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import ray
import ray.data

from kinema.captioning.records import Segment
from kinema.captioning.steps import Answer, Call, Steps
from kinema.errors import KinemaError, ModelError
from kinema.ledger import Unit
from kinema.tasks.caption.describe import Described
from kinema.tasks.caption.feed import Feed, OnCaption, Video
from kinema.tasks.caption.memo import Memo
from kinema.tasks.caption.plan import VideoPlan
from kinema.tasks.caption.session import Session
from kinema.tasks.caption.work import Work
from kinema.video import Workers

Row = dict[str, Any]

_VIDEOS = 2048
"""In one round of the three jobs; bounds what the driver holds."""
_CAPTIONS = 128
"""That a worker gets at a time, where there are many: so many fill an engine, and so many are asked
again where it dies."""
_WHOLE_VIDEOS = 4
_SHARES = 4
"""Of a worker at least, so that none waits long for the last one."""
_AHEAD = 16
"""Captions whose frames a worker reads before its engine asks for them."""


def describe(
    units: Iterator[Unit],
    work: Work,
    session: Session,
    *,
    workers: int,
    on_caption: OnCaption,
) -> Iterator[tuple[Unit, Described | KinemaError]]:
    """Videos as they end, with their record or what went wrong.

    Args:
        session: of the driver; knows what was answered before, and opens no engine.
        workers: that have an engine each.
        on_caption: told of every answer about a segment, as a worker hands over its block.

    Raises:
        ModelError: the cluster failed.
    """
    # Otherwise Ray collects figures for its makers, in a thread that outlives the job.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    if not ray.is_initialized():
        ray.init(
            address=os.environ.get("RAY_ADDRESS"), log_to_driver=False, include_dashboard=False
        )
    ray.data.DataContext.get_current().enable_progress_bars = False
    while some := list(islice(units, _VIDEOS)):
        try:
            yield from _Round(some, work, session, workers, on_caption).run()
        except ray.exceptions.RayError as problem:
            raise ModelError(
                f"The Ray cluster failed: {str(problem).strip().splitlines()[-1]}",
                hint="Run the same command again; what was answered is kept.",
            ) from problem


class _Round:
    """The three jobs over some videos."""

    def __init__(
        self,
        units: list[Unit],
        work: Work,
        session: Session,
        workers: int,
        on_caption: OnCaption,
    ) -> None:
        self._units = {unit.id: unit for unit in units}
        self._work = work
        self._session = session
        self._memo = session.memo
        self._workers = workers
        self._on_caption = on_caption
        self._failed: dict[str, Any] = {}

    def run(self) -> Iterator[tuple[Unit, Described | KinemaError]]:
        """Segment, caption, summarise."""
        plans: dict[str, VideoPlan] = {}
        for key, plan in self._plans():
            if isinstance(plan, KinemaError):
                yield self._units[key], plan
            else:
                plans[key] = plan
        self._caption(plans)
        wholes = [self._whole(key, plan) for key, plan in plans.items()]
        for row in self._mapped(_Summarise, wholes, most=_WHOLE_VIDEOS):
            yield self._units[row["key"]], _outcome(row)

    def _plans(self) -> Iterator[tuple[str, VideoPlan | KinemaError]]:
        rows = [{"key": u.id, "source": u.payload["source"]} for u in self._units.values()]
        for row in self._mapped(_Segment, rows, most=_WHOLE_VIDEOS, engine=False):
            error = _error(row)
            source = self._units[row["key"]].payload["source"]
            plan = error or VideoPlan.from_dict(source, json.loads(row["plan"]))
            yield row["key"], plan

    def _caption(self, plans: dict[str, VideoPlan]) -> None:
        """Every caption that is not known yet into the memo; those that fail stay out."""
        calls = {
            call.id: (self._units[key], call)
            for key, plan in plans.items()
            for call in self._session.describer.calls(plan)
            if self._memo.get(call.id) is None
        }
        of = Counter(unit.id for unit, _ in calls.values())
        rows = [
            {"source": unit.payload["source"], "call": _packed(call)}
            for unit, call in calls.values()
        ]
        for row in self._mapped(_Describe, rows, most=_CAPTIONS):
            self._keep(row["id"], json.loads(row["answer"]))
            unit, call = calls[row["id"]]
            assert call.segment is not None
            self._on_caption(unit, call.segment, of[unit.id])

    def _keep(self, call_id: str, answer: Row) -> None:
        if answer["error"] is None:
            self._memo.put(call_id, answer)
        else:
            self._failed[call_id] = answer

    def _whole(self, key: str, plan: VideoPlan) -> Row:
        """A plan with the answers to all its captions."""
        ids = [call.id for call in self._session.describer.calls(plan)]
        answers = {i: self._failed.get(i) or self._memo.get(i) for i in ids}
        row = {"key": key, "source": plan.source, "plan": json.dumps(plan.to_dict())}
        return row | {"answers": json.dumps(answers)}

    def _mapped(
        self, worker: type, rows: list[Row], *, most: int, engine: bool = True
    ) -> Iterable[Row]:
        """Rows through a pool of workers; each gets a block, at most so many rows, at a time."""
        if not rows:
            return ()
        size = min(most, math.ceil(len(rows) / (_SHARES * self._workers)))
        data = ray.data.from_items(rows, override_num_blocks=math.ceil(len(rows) / size))
        gpus = self._work.engine.tensor_parallel if engine and _has_gpus() else 0
        mapped: Iterable[Row] = data.map_batches(
            worker,
            fn_constructor_args=(self._work,),
            batch_size=size,
            batch_format="numpy",
            compute=ray.data.ActorPoolStrategy(size=self._workers),
            num_cpus=1,
            num_gpus=gpus,
        ).iter_rows()
        return mapped


class _Segment:
    """A worker of the first job: opens files and cuts them."""

    def __init__(self, work: Work) -> None:
        self._planner = work.planner(Memo(Path(":memory:")), Workers(1))

    def __call__(self, batch: Row) -> Row:
        made = [self._plan(str(source)) for source in batch["source"]]
        plans, errors = zip(*made, strict=True)
        return {"key": list(batch["key"]), "plan": list(plans), "error": list(errors)}

    def _plan(self, source: str) -> tuple[str, bytes]:
        try:
            return json.dumps(self._planner.plan(source).to_dict()), b""
        except KinemaError as problem:
            return "", pickle.dumps(problem)


class _Asking:
    """What workers with an engine share: it is opened when the first question comes."""

    def __init__(self, work: Work) -> None:
        self._memo = Memo(Path(":memory:"))
        self._session = work.session(self._memo, load=Workers(1).load_frames)

    def _drain(self, videos: Iterable[Video]) -> dict[str, Any]:
        """What the steps of each video made, by key."""
        with ThreadPoolExecutor(1) as pool:
            feed = Feed(
                iter(videos),
                asker=self._session.asker,
                memo=self._memo,
                engine=self._session.engine,
                pool=pool,
                ahead=_AHEAD,
            )
            return dict(self._session.drain(feed))


class _Describe(_Asking):
    """A worker of the second job: captions, whichever videos they belong to."""

    def __call__(self, batch: Row) -> Row:
        calls = [_unpacked(str(text)) for text in batch["call"]]
        sources = map(str, batch["source"])
        made = self._drain(
            Video(call.id, source, _one(call)) for call, source in zip(calls, sources, strict=True)
        )
        answers = [json.dumps(made[call.id].to_dict()) for call in calls]
        return {"id": [call.id for call in calls], "answer": answers}


class _Summarise(_Asking):
    """A worker of the third job: outlines and records."""

    def __call__(self, batch: Row) -> Row:
        rows = zip(*(map(str, batch[n]) for n in ("key", "source", "plan", "answers")), strict=True)
        made = self._drain([self._video(*row) for row in rows])
        ended = [made[str(key)] for key in batch["key"]]
        failed = [isinstance(one, KinemaError) for one in ended]
        pairs = list(zip(ended, failed, strict=True))
        return {
            "key": list(batch["key"]),
            "record": ["" if bad else json.dumps(one.to_dict()) for one, bad in pairs],
            "error": [pickle.dumps(one) if bad else b"" for one, bad in pairs],
        }

    def _video(self, key: str, source: str, plan: str, answers: str) -> Video:
        known = {i: Answer.from_dict(a) for i, a in json.loads(answers).items()}
        steps = self._session.describer.steps(VideoPlan.from_dict(source, json.loads(plan)))
        return Video(key, source, _with_captions(steps, known))


def _one(call: Call) -> Steps[Answer]:
    answers = yield [call]
    return answers[call.id]


def _with_captions(steps: Steps[Described], known: Mapping[str, Answer]) -> Steps[Described]:
    """Steps whose first question, all captions, is answered already."""
    next(steps)
    try:
        calls = steps.send(known)
        while True:
            calls = steps.send((yield calls))
    except StopIteration as end:
        made: Described = end.value
        return made


def _packed(call: Call) -> str:
    assert call.segment is not None
    return json.dumps(vars(call) | {"segment": call.segment.to_dict()})


def _unpacked(text: str) -> Call:
    values = json.loads(text)
    return Call(**values | {"segment": Segment.from_dict(values["segment"])})


def _outcome(row: Row) -> Described | KinemaError:
    return _error(row) or Described.from_dict(json.loads(row["record"]))


def _error(row: Row) -> KinemaError | None:
    problem: KinemaError | None = pickle.loads(row["error"]) if row["error"] else None
    return problem


def _has_gpus() -> bool:
    return bool(ray.cluster_resources().get("GPU"))
