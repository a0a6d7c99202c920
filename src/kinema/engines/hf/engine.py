"""The transformers engine: any image-text-to-text checkpoint, on this machine."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from kinema.engines.base import EngineSettings, Inbox, failed
from kinema.engines.device import pick_device
from kinema.engines.hf.batching import batches, collate, company
from kinema.engines.hf.errors import translated
from kinema.engines.hf.followup import Conversations, FollowUp, inputs_of, resume
from kinema.engines.hf.generation import (
    answer_ids,
    cut_at_stop,
    generation_config,
    seeded,
    timed,
    token_logprobs,
)
from kinema.engines.hf.inputs import InputMaker, Inputs, Tensors, placed
from kinema.engines.hf.loading import context_length, load
from kinema.engines.hf.parallel import Crew, agreed, find_crew
from kinema.engines.hf.shared import FEWEST_SAVED, READING, about_one_input, join, may_share
from kinema.engines.hf.streaming import Row, stream_rows
from kinema.errors import MissingCapability, ModelError, OutOfMemory, UsageError
from kinema.families import Family
from kinema.lazy import Row as TableRow
from kinema.lazy import Table
from kinema.messages import Completion, Delta, Request, SamplingParams, TokenLogprob, Usage

_PARTS = Table(
    "part",
    {
        "schemas": TableRow(
            "kinema.engines.hf.structured:Schemas",
            needs=("llguidance",),
            install="pip install 'kinema[schema]'",
        )
    },
)


class HFEngine:
    """Runs a checkpoint folder through ``AutoProcessor`` and ``generate``.

    Requests run in left-padded batches; a request that goes on with the conversation before it
    runs from the keys and values of that conversation.

    Args:
        folder: a checkpoint in Hugging Face layout, with safetensors weights.
        family: the facts about it.
        settings: device, number format and the like.

    Raises:
        ModelError: the folder is not whole, not safe, or transformers cannot load it.
    """

    name = "hf"

    def __init__(self, folder: Path, *, family: Family, settings: EngineSettings) -> None:
        self._family = family
        self._settings = settings
        device = pick_device(settings.device)
        self._crew: Crew | None = find_crew(settings)
        self.processor, self.model = load(folder, family=family, settings=settings, device=device)
        self._tokenizer = self.processor.tokenizer
        self._maker = InputMaker(self.processor, self.model.config, family)
        kept = 0 if settings.compile or self._crew else settings.keep_conversations
        self._conversations = Conversations(self._maker, capacity=kept)
        self._may_share = not settings.compile and may_share(self.model.config, family)
        self._prepared: OrderedDict[str, tuple[Request, Inputs | FollowUp]] = OrderedDict()
        self.context_length: int | None = context_length(self.model.config)

    def count_tokens(self, request: Request) -> int:
        """Length of the processor's own output for this request."""
        return len(inputs_of(self._prepare(request)))

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """One completion per request, batch by batch.

        A request that the processor refuses gets a completion that says so; the rest go on.
        """
        size = self._settings.batch_size
        for batch in batches(requests, size=size, family=self._family):
            if len(batch) == 1:
                yield self._answer_alone(batch[0])
            else:
                yield from self._answer_together(batch)

    def stream(self, request: Request) -> Iterator[Delta]:
        """Text as it is generated; the last delta carries the completion.

        Under tensor parallel the text comes in one piece: slices must end together.
        """
        if self._crew is not None:
            completion = self._answer_alone(request)
            yield Delta(request.id, completion.text, completion)
            return
        said = False
        try:
            for delta in self._stream([self._prepare(request)], _never):
                said = True
                yield delta
        except OutOfMemory:
            if said:
                raise
            self._make_room()
            yield from self._stream([self._prepare(request)], _never)

    def serve(self, inbox: Inbox) -> Iterator[Delta]:
        """What waits, in batches; what comes meanwhile waits for the next one.

        A follow-up of a kept conversation is quick when it runs alone, so it does when nothing
        that could share its batch is waiting. Under tensor parallel each answer is one piece.
        """
        size = self._settings.batch_size
        while requests := inbox.take(size, alike=lambda r: company(r, self._family)):
            if self._crew is None:
                yield from self._serve(requests, inbox.is_cancelled)
            else:
                whole = self.generate(requests)
                yield from (Delta(done.request_id, done.text, done) for done in whole)

    def follow(self) -> None:
        """Run what the first process of a torchrun runs, until it closes its engine.

        Raises:
            UsageError: this process leads.
        """
        if self._crew is None or self._crew.leads:
            raise UsageError("The first process leads.", hint="Start with torchrun.")
        while (call := self._crew.hear()) is not None:
            with suppress(ModelError, OutOfMemory):  # the leader has the same, and reports it
                self._run(self._placed(call[0]), call[1])

    def close(self) -> None:
        """Drop the weights and what was kept."""
        if self._crew is not None and self.model is not None:
            self._crew.dismiss()
        self._prepared.clear()
        self._conversations.clear()
        self.model = None
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _prepare(self, request: Request) -> Inputs | FollowUp:
        """The request's tensors; kept for the last few, which are counted and then run."""
        found = self._prepared.get(request.id)
        if found is None or found[0] is not request:
            made = self._conversations.match(request) or self._maker.make(request)
            self._prepared[request.id] = found = (request, made)
        while len(self._prepared) > self._settings.batch_size:
            self._prepared.popitem(last=False)
        return found[1]

    def _take(self, request: Request, *, alone: bool) -> Inputs | FollowUp:
        """The request's tensors, to be run now: alone, or with others from its first token."""
        _, prepared = self._prepared.pop(request.id, (None, None))
        if isinstance(prepared, Inputs) and prepared.request is request:
            return prepared
        followed = self._conversations.match(request) if alone else None
        return followed or self._maker.make(request)

    def _serve(
        self, requests: list[Request], is_cancelled: Callable[[str], bool]
    ) -> Iterator[Delta]:
        prepared = []
        for request in requests:
            try:
                prepared.append(self._take(request, alone=len(requests) == 1))
            except ModelError as problem:
                yield Delta(request.id, "", failed(request, problem))
        said = False
        try:
            for delta in self._stream(prepared, is_cancelled) if prepared else ():
                said = True
                yield delta
        except ModelError as problem:
            self._make_room()
            left = [inputs_of(p).request for p in prepared]
            if isinstance(problem, OutOfMemory) and len(left) > 1 and not said:
                for request in left:
                    yield from self._serve([request], is_cancelled)
            else:
                yield from (Delta(r.id, "", failed(r, problem)) for r in left)

    def _stream(
        self, prepared: list[Inputs | FollowUp], is_cancelled: Callable[[str], bool]
    ) -> Iterator[Delta]:
        """Pieces of a batch's answers; each row's completion as soon as it is known."""
        began = time.perf_counter()
        batch = [inputs_of(p) for p in prepared]
        params = batch[0].request.params
        rows = [Row(self._tokenizer, params, self._end_ids()) for _ in batch]
        tensors = self._open(prepared)

        def run(**more: Any) -> Any:
            return self._generate(tensors, params, **more)

        pieces = stream_rows(run, rows, lambda row: is_cancelled(batch[row].request.id))
        first: dict[int, float] = {}
        # Log-probabilities are read, and keys and values kept, when all of it is over.
        at_end = len(batch) == 1 or params.logprobs is not None
        for row, text in pieces:
            if text:
                first.setdefault(row, time.perf_counter() - began)
                yield Delta(batch[row].request.id, text)
            if rows[row].ended and not at_end:
                done = self._completion(batch[row], rows[row].ids)
                yield rows[row].last(timed(done, began, first.get(row)))
        if len(prepared) == 1:
            self._keep(prepared[0], pieces.output)
        for row, inputs in enumerate(batch if at_end else ()):
            if rows[row].ended:
                done = self._completion(inputs, rows[row].ids, pieces.output, row)
                yield rows[row].last(timed(done, began, first.get(row)))

    def _open(self, prepared: list[Inputs | FollowUp]) -> Tensors:
        """Tensors for ``generate``, with the kept cache where the beginning has been read."""
        batch = [inputs_of(p) for p in prepared]
        for inputs in batch:
            self._prepared.pop(inputs.request.id, None)
        tensors = self._placed(collate(batch, pad_id=self._tokenizer.pad_token_id or 0))
        followed = prepared[0]
        if isinstance(followed, Inputs):
            return tensors
        self._conversations.take(followed.kept)
        # Others that were counted as its follow-ups have to look for another one.
        waiting = self._prepared.items()
        self._prepared = OrderedDict((i, p) for i, p in waiting if isinstance(p[1], Inputs))
        return tensors | {"past_key_values": resume(followed, self.model)}

    def _keep(self, prepared: Inputs | FollowUp, output: Any) -> None:
        cache, inputs = output.past_key_values, inputs_of(prepared)
        self._conversations.keep(inputs, output.sequences[0], cache, self.model)

    def _answer_alone(self, request: Request) -> Completion:
        began = time.perf_counter()
        try:
            prepared = self._prepare(request)
            output = self._generate(self._open([prepared]), request.params)
        except OutOfMemory:
            self._make_room()
            prepared = self._maker.make(request)
            output = self._generate(self._open([prepared]), request.params)
        except ModelError as problem:
            return failed(request, problem)
        self._keep(prepared, output)
        return timed(self._row_completion(inputs_of(prepared), output, 0), began)

    def _answer_together(self, requests: list[Request]) -> Iterator[Completion]:
        """Questions about one input on what was read of it once; the others as they are."""
        apart: list[Request] = []
        shared: list[FollowUp] = []
        for group in about_one_input(requests) if self._may_share else [requests]:
            followed = self._read_once(group) if len(group) > 1 and self._may_share else []
            shared.extend(followed)
            apart.extend([] if followed else group)
        if shared:
            yield from self._answer_shared(shared)
        if apart:
            yield from self._answer_apart(apart)

    def _read_once(self, group: list[Request]) -> list[FollowUp]:
        """The group's questions as follow-ups of what they share; none where that is no gain."""
        try:
            first = inputs_of(self._take(group[0], alone=False))
            if int(self._maker.is_visual(first.ids).sum()) * (len(group) - 1) < FEWEST_SAVED:
                self._prepared[group[0].id] = (group[0], first)
                return []
            output = self._generate(self._placed(first.tensors), READING)
        except ModelError:  # answered apart, each with its own error
            return []
        read = Conversations(self._maker, capacity=1)
        read.keep(first, output.sequences[0], output.past_key_values, self.model)
        self._may_share = read.holds_any  # a model whose cache cannot be cut is not tried again
        followed = [read.match(request) for request in group]
        return [] if None in followed else [f for f in followed if f is not None]

    def _answer_shared(self, rows: list[FollowUp]) -> Iterator[Completion]:
        began = time.perf_counter()
        requests = [row.inputs.request for row in rows]
        try:
            tensors = join(rows, self.model, pad_id=self._tokenizer.pad_token_id or 0)
            output = self._generate(self._placed(tensors), requests[0].params)
        except OutOfMemory:
            self._make_room()
            yield from self._answer_apart(requests)
            return
        for number, row in enumerate(rows):
            yield timed(self._row_completion(row.inputs, output, number), began)

    def _answer_apart(self, requests: list[Request]) -> Iterator[Completion]:
        batch = []
        for request in requests:
            try:
                batch.append(inputs_of(self._take(request, alone=False)))
            except ModelError as problem:
                yield failed(request, problem)
        if batch:
            yield from self._answer_batch(batch, may_halve=True)

    def _answer_batch(self, batch: list[Inputs], *, may_halve: bool) -> Iterator[Completion]:
        began = time.perf_counter()
        try:
            output = self._generate(self._open([*batch]), batch[0].request.params)
        except OutOfMemory:
            if not may_halve:
                raise
            self._make_room()
            half = (len(batch) + 1) // 2
            for part in filter(None, (batch[:half], batch[half:])):
                yield from self._answer_batch(part, may_halve=False)
            return
        for row, inputs in enumerate(batch):
            yield timed(self._row_completion(inputs, output, row), began)

    def _make_room(self) -> None:
        self._conversations.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def _placed(self, tensors: Tensors) -> Tensors:
        return placed(tensors, self.model.device, self.model.dtype)

    def _generate(self, tensors: Tensors, params: SamplingParams, **more: Any) -> Any:
        if self._crew is not None:
            params = agreed(params)
            self._crew.tell((tensors, params))
        return self._run(tensors, params, **more)

    def _run(self, tensors: Tensors, params: SamplingParams, **more: Any) -> Any:
        own = self.model.generation_config
        options: dict[str, Any] = {
            "generation_config": generation_config(own, params, compiled=self._settings.compile)
        }
        if params.stop:
            options["tokenizer"] = self._tokenizer
        if params.json_schema is not None:
            rows = len(tensors["input_ids"])
            held = self._schemas.processor(params.json_schema, num_rows=rows)
            options["logits_processor"] = [held]
        with translated(), seeded(params.seed):
            output = self.model.generate(**tensors, **options, **more)
        output.prompt_length = tensors["input_ids"].shape[1]
        return output

    @cached_property
    def _schemas(self) -> Any:
        if not self._family.writes_freely:
            raise MissingCapability(
                f"{self._family.title} has its own sentences and writes no JSON.",
                hint="Leave --schema out, or use another model.",
            )
        return _PARTS.load("schemas")(self._tokenizer, end_ids=self._end_ids())

    def _row_completion(self, inputs: Inputs, output: Any, row: int) -> Completion:
        """What row ``row`` of a finished batch said."""
        answer = output.sequences[row][output.prompt_length :]
        return self._completion(inputs, answer_ids(answer, self._end_ids()), output, row)

    def _completion(
        self, inputs: Inputs, ids: list[int], output: Any = None, row: int = 0
    ) -> Completion:
        params = inputs.request.params
        text = self._tokenizer.decode(ids, skip_special_tokens=True)
        cut, stopped = cut_at_stop(text, params.stop)
        ended = stopped or (bool(ids) and ids[-1] in self._end_ids())
        return Completion(
            request_id=inputs.request.id,
            text=cut.strip(),
            finish_reason="stop" if ended else "length",
            usage=Usage(len(inputs), len(ids), int(self._maker.is_visual(inputs.ids).sum())),
            token_ids=tuple(ids),
            logprobs=self._logprobs(output, row, ids, params.logprobs),
        )

    def _logprobs(
        self, output: Any, row: int, ids: list[int], alternatives: int | None
    ) -> tuple[TokenLogprob, ...] | None:
        if alternatives is None:
            return None
        return token_logprobs(output.logits, row, ids, alternatives, self._tokenizer)

    def _end_ids(self) -> list[int]:
        end = self.model.generation_config.eos_token_id
        return end if isinstance(end, list) else [] if end is None else [end]


def _never(request_id: str) -> bool:
    return False
