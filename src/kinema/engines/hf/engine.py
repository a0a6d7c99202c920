"""The transformers engine: any image-text-to-text checkpoint, on this machine."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from transformers import LogitsProcessorList, StoppingCriteriaList

from kinema.engines.base import Inbox
from kinema.engines.device import pick_device
from kinema.engines.hf.batching import collate, obstacle, pick, shown_memory
from kinema.engines.hf.detokenizer import Vocabulary
from kinema.engines.hf.errors import translated
from kinema.engines.hf.followup import Conversations, FollowUp, inputs_of, resume
from kinema.engines.hf.generation import (
    generation_config,
    recommended,
    sampling_of,
    stop_tokens,
    token_logprobs,
)
from kinema.engines.hf.inputs import InputMaker, Inputs, Tensors, placed
from kinema.engines.hf.loading import context_length, load
from kinema.engines.hf.logits import FirstStepIsFinite, drawing
from kinema.engines.hf.parallel import ProcessGroup, agreed, find_process_group
from kinema.engines.hf.shared import FEWEST_SAVED, READING, about_one_input, join, may_share
from kinema.engines.hf.streaming import Row, Rows
from kinema.engines.settings import HFSettings
from kinema.errors import (
    EngineDied,
    KinemaError,
    MissingCapability,
    RequestRefused,
    UsageError,
)
from kinema.families import Family
from kinema.lazy import require_packages
from kinema.messages import Completion, Request, SamplingParams, Usage
from kinema.models.per_token import is_per_token


class HFEngine:
    """Runs a checkpoint folder through ``AutoProcessor`` and ``generate``.

    Requests run in left-padded batches. Those of a batch that show one video read it once. A
    request that runs alone and goes on with a conversation before it runs from the KV cache of
    that conversation.

    Args:
        folder: a checkpoint in Hugging Face layout, with safetensors weights.
        family: the facts about it.
        settings: device, number format and the like.

    Raises:
        ModelError: the folder is not whole, not safe, or transformers cannot load it.
        OutOfMemory: the device has no room for the weights.
    """

    name = "hf"

    def __init__(self, folder: Path, *, family: Family, settings: HFSettings) -> None:
        self._family = family
        self._settings = settings
        device = pick_device(settings.device)
        self._group: ProcessGroup | None = find_process_group(settings)
        self.processor, self.model = load(folder, family=family, settings=settings, device=device)
        own = self.model.generation_config
        self._inherited = recommended(own) if settings.generation_config else None
        # What a call of generate leaves open is filled in from here.
        self._stops = self.model.generation_config = stop_tokens(own)
        self._tokenizer = self.processor.tokenizer
        self._pad_id = self._tokenizer.pad_token_id or 0
        self._vocabulary = Vocabulary(self._tokenizer)
        self._maker = InputMaker(self.processor, self.model.config, family)
        kept = 0 if settings.compile or self._group else settings.keep_conversations
        self._conversations = Conversations(self._maker, capacity=kept)
        self._last_read = Conversations(self._maker, capacity=1)
        self._may_share = not settings.compile and may_share(self.model.config, family)
        self._prepared: OrderedDict[str, Inputs | FollowUp] = OrderedDict()
        self.context_length: int | None = context_length(self.model.config)
        self.batch_size: int | None = settings.batch_size

    def count_tokens(self, request: Request) -> int:
        """Length of the processor's own output for this request.

        Raises:
            RequestRefused: the processor refuses it.
        """
        known = self._counted_with_same_media(request)
        if known is not None:
            ids = self._maker.expanded_ids(known, self._maker.plain_ids(request))
            if ids is not None:
                return len(ids)
        return len(inputs_of(self._prepare(request)))

    def pick(self, waiting: Sequence[Request], running: Sequence[Request]) -> list[Request]:
        """One batch, when nothing runs: see :func:`kinema.engines.hf.batching.pick`."""
        if running or not waiting:
            return []
        random = bool(self._inherited and self._inherited.get("temperature"))
        size = self._settings.batch_size
        return pick(waiting, size=size, family=self._family, is_random=random)

    def serve(self, inbox: Inbox) -> None:
        """Answer what waits, batch by batch; what comes meanwhile waits for the next batch.

        Raises:
            OutOfMemory: the device is too small for what was taken.
            EngineDied: the device is lost.
            RequestRefused: the model refuses something that was taken.
        """
        while requests := inbox.take():
            self._answer(requests, inbox)

    def follow(self) -> None:
        """Run what the first process of a torchrun runs, until it closes its engine.

        Raises:
            UsageError: this process leads.
        """
        if self._group is None or self._group.leads:
            raise UsageError("The first process leads.", hint="Start with torchrun.")
        while (call := self._group.receive()) is not None:
            tensors, params = call
            rows = [self._row(params) for _ in tensors["input_ids"]]
            try:
                self._run(self._placed(tensors), params, Rows(rows))
            except EngineDied:
                raise
            except KinemaError:  # the leader has the same error, and reports it
                continue

    def release(self) -> None:
        """Drop prepared inputs and kept conversations, and empty the device's cache."""
        self._prepared.clear()
        self._conversations.clear()
        self._last_read.clear()
        if torch.cuda.is_available():
            torch.cuda.empty_cache()

    def close(self) -> None:
        """Drop the weights and what was kept."""
        if self._group is not None and self.model is not None:
            self._group.leave()
        self.model = None
        self.release()

    # -- requests become tensors -----------------------------------------------------------------

    def _prepare(self, request: Request) -> Inputs | FollowUp:
        """The request's tensors; kept for the last few, which are counted and then run."""
        found = self._prepared.get(request.id)
        if found is None or inputs_of(found).request is not request:
            found = self._follow_up(request) or self._maker.make(request)
            self._prepared[request.id] = found
        while len(self._prepared) > self._settings.batch_size:
            self._prepared.popitem(last=False)
        return found

    def _follow_up(self, request: Request) -> FollowUp | None:
        """The request as one that goes on with a kept conversation.

        Log-probabilities differ in their last digits when the beginning was read earlier, so a
        request for them is always read as a whole: its record is the same whatever ran before.
        """
        if request.params.logprobs is not None:
            return None
        return self._conversations.match(request)

    def _counted_with_same_media(self, request: Request) -> Inputs | None:
        """A request that was processed and not run yet, about the very same pixels or features.

        The processor need not run again to count the tokens of another question about them.
        """
        shown = shown_memory(request)
        waiting = (p for p in self._prepared.values() if isinstance(p, Inputs))
        others = (p for p in waiting if p.request is not request and p.request.id != request.id)
        return next((p for p in others if shown and shown_memory(p.request) == shown), None)

    def _take(self, request: Request, *, alone: bool) -> Inputs | FollowUp:
        """The request's tensors, to be run now: alone, or with others from its first token."""
        found = self._prepared.pop(request.id, None)
        may_run = alone or isinstance(found, Inputs)
        if found is not None and may_run and inputs_of(found).request is request:
            return found
        followed = self._follow_up(request) if alone else None
        return followed or self._maker.make(request)

    def _placed(self, tensors: Tensors) -> Tensors:
        return placed(tensors, self.model.device, self.model.dtype)

    # -- batches ---------------------------------------------------------------------------------

    def _answer(self, requests: list[Request], inbox: Inbox) -> None:
        """Questions about one input on what was read of it once; then the others."""
        began = time.perf_counter()
        apart: list[Request] = []
        shared: list[FollowUp] = []
        for group in about_one_input(requests) if self._may_share else [[r] for r in requests]:
            followed = self._read_once(group) if len(group) > 1 and self._may_share else []
            shared.extend(followed)
            apart.extend([] if followed else group)
        if shared:
            tensors = self._placed(join(shared, self.model, pad_id=self._pad_id))
            self._answer_batch([row.inputs for row in shared], tensors, inbox, began)
            began = time.perf_counter()
        prepared: list[Inputs | FollowUp] = []
        for request in apart:
            try:
                prepared.append(self._take(request, alone=len(requests) == 1))
            except KinemaError as problem:
                if problem.blame == "engine":
                    raise
                inbox.fail(request.id, problem)
        together = prepared and obstacle(list(map(inputs_of, prepared))) is None
        for batch in [prepared] if together else [[one] for one in prepared]:
            self._answer_batch(list(map(inputs_of, batch)), self._open(batch), inbox, began)
            began = time.perf_counter()

    def _read_once(self, group: list[Request]) -> list[FollowUp]:
        """The group's questions as follow-ups of what they share; none where sharing saves little.

        What was read last is kept, because the next batch has the other questions about it. Neither
        the choice to share nor the length that is read depends on what is kept, so a job that goes
        on after a kill gives the answers that it would have given.
        """
        counted = (r for r in group if isinstance(self._prepared.get(r.id), Inputs))
        reader = next(counted, group[0])
        known = self._last_read.match(reader)
        try:
            first = known.kept.inputs if known else inputs_of(self._take(reader, alone=False))
            if int(self._maker.is_visual(first.ids).sum()) * (len(group) - 1) < FEWEST_SAVED:
                self._prepared |= {} if known else {reader.id: first}
                return []
            if known is None:
                self._read(first)
        except RequestRefused:  # answered apart, each with its own error
            return []
        followed = [f for f in map(self._last_read.match, group) if f is not None]
        return followed if len(followed) == len(group) else []

    def _read(self, first: Inputs) -> None:
        """Keep the KV cache of a prompt up to the first token behind its media."""
        length = self._maker.num_seen(first.ids) + 1
        tensors = {
            name: value[:, :length] if is_per_token(name, value, len(first)) else value
            for name, value in first.tensors.items()
        }
        self._last_read.clear()
        output = self._generate(self._placed(tensors), READING)
        self._last_read.keep(first, output.sequences[0], output.past_key_values, self.model)
        self._may_share = self._last_read.holds_any  # some caches cannot be cut, for any prompt

    def _open(self, prepared: list[Inputs | FollowUp]) -> Tensors:
        """Tensors for ``generate``, with the kept KV cache where the beginning has been read."""
        batch = [inputs_of(p) for p in prepared]
        tensors = self._placed(collate(batch, pad_id=self._pad_id))
        followed = prepared[0]
        if isinstance(followed, Inputs):
            return tensors
        self._conversations.take(followed.kept)
        # Others that were counted as its follow-ups have to look for another one.
        waiting = self._prepared.items()
        self._prepared = OrderedDict((i, p) for i, p in waiting if isinstance(p, Inputs))
        return tensors | {"past_key_values": resume(followed, self.model)}

    def _answer_batch(
        self, batch: list[Inputs], tensors: Tensors, inbox: Inbox, began: float
    ) -> None:
        """Run one batch; each answer is handed over as soon as it is known."""
        params = batch[0].request.params
        names = [inputs.request.id for inputs in batch]
        streamed = [inbox.is_streamed(name) for name in names]
        rows = [self._row(params, is_read=is_read) for is_read in streamed]
        first_seconds: dict[int, float] = {}

        def write(row: int, text: str) -> None:
            if streamed[row]:
                first_seconds.setdefault(row, time.perf_counter() - began)
                inbox.write(names[row], text)

        def complete(row: int, output: Any = None) -> None:
            ids, count = rows[row].ids, params.logprobs
            logprobs = None
            if count is not None:
                logprobs = token_logprobs(output.logits, row, ids, count, self._tokenizer)
            done = self._completion(
                batch[row],
                ids,
                logprobs=logprobs,
                seconds=time.perf_counter() - began,
                first_token_seconds=first_seconds.get(row),
            )
            if streamed[row] and (rest := rows[row].rest(done.text)):
                inbox.write(names[row], rest)
            inbox.complete(done)

        # Log-probabilities are read, and the KV cache is kept, when all of it is over.
        at_end = len(batch) == 1 or params.logprobs is not None
        # Slices of tensor parallel must end together, so they end without regard to callers.
        heeds = self._group is None
        watched = Rows(
            rows,
            is_cancelled=lambda row: heeds and inbox.is_cancelled(names[row]),
            on_text=write,
            on_end=(lambda row: None) if at_end else complete,
        )
        output = self._generate(tensors, params, watched)
        if len(batch) == 1:
            cache = output.past_key_values
            self._conversations.keep(batch[0], output.sequences[0], cache, self.model)
        for number, row in enumerate(rows if at_end else ()):
            if row.ended:
                complete(number, output)

    # -- one call of transformers ----------------------------------------------------------------

    def _row(self, params: SamplingParams, *, is_read: bool = False) -> Row:
        """An answer to come; it is decoded on the way only where that is needed."""
        vocabulary = self._vocabulary if is_read or params.stop else None
        return Row(params, self._end_ids, vocabulary)

    def _generate(self, tensors: Tensors, params: SamplingParams, rows: Rows | None = None) -> Any:
        if self._group is not None:
            params = agreed(params)
            self._group.broadcast((tensors, params))
        return self._run(tensors, params, rows)

    def _run(self, tensors: Tensors, params: SamplingParams, rows: Rows | None) -> Any:
        sampling = sampling_of(params, self._inherited)
        processors: list[Any] = []
        if self._family.writes_freely:
            processors.append(FirstStepIsFinite())
        if params.json_schema is not None:
            num_rows = len(tensors["input_ids"])
            processors.append(self._schemas.processor(params.json_schema, num_rows=num_rows))
        if sampling.get("temperature"):
            processors += drawing(sampling, params.seed)
        options: dict[str, Any] = {
            "generation_config": generation_config(
                self._stops, params, sampling, compiled=self._settings.compile
            )
        }
        if processors:
            options["logits_processor"] = LogitsProcessorList(processors)
        if rows is not None:
            options |= {"streamer": rows, "stopping_criteria": StoppingCriteriaList([rows])}
        with translated():
            return self.model.generate(**tensors, **options)

    @cached_property
    def _schemas(self) -> Any:
        if not self._family.writes_freely:
            raise MissingCapability(
                f"{self._family.title} has its own sentences and writes no JSON.",
                hint="Leave --schema out, or use another model.",
            )
        require_packages("--schema", ["llguidance"], install="pip install 'kinema[schema]'")
        from kinema.engines.hf.structured import Schemas  # noqa: PLC0415  an extra

        return Schemas(self._tokenizer, end_ids=self._end_ids)

    def _completion(self, inputs: Inputs, ids: list[int], **facts: Any) -> Completion:
        """What a row said, by the ids of its whole answer."""
        text = self._vocabulary.decode(ids)
        cut, stopped = inputs.request.params.cut_at_stop(text)
        ended = stopped or (bool(ids) and ids[-1] in self._end_ids)
        return Completion(
            request_id=inputs.request.id,
            text=cut.strip(),
            finish_reason="stop" if ended else "length",
            usage=Usage(len(inputs), len(ids), int(self._maker.is_visual(inputs.ids).sum())),
            token_ids=tuple(ids),
            **facts,
        )

    @cached_property
    def _end_ids(self) -> list[int]:
        end = self._stops.eos_token_id
        return end if isinstance(end, list) else [] if end is None else [end]
