"""The vLLM engine: bulk work and streams, on this machine's GPUs or its CPU."""

from __future__ import annotations

import itertools
import time
from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vllm import LLM
from vllm.exceptions import VLLMError
from vllm.platforms import current_platform
from vllm.renderers.inputs.preprocess import parse_model_prompt
from vllm.transformers_utils.config import get_config
from vllm.v1.engine.exceptions import EngineDeadError

from kinema.engines.base import EngineSettings, Inbox, failed
from kinema.engines.vllm.folder import readable_folder
from kinema.engines.vllm.prompts import PromptMaker, sampling_params
from kinema.errors import MissingCapability, ModelError
from kinema.families import Family
from kinema.families.weights import check_weights
from kinema.messages import Completion, Delta, Request, TokenLogprob, Usage

_IN_FLIGHT = 256
"""Requests handed to vLLM's scheduler before the first is finished, at most."""
_ANY = 999
"""Media of a kind in one prompt: as many as its context holds."""
_STRUCTURED = {"backend": "guidance", "disable_any_whitespace": True}
"""The grammars of the engine hf: white space between fields could fill a whole answer."""
_REFUSALS = (VLLMError, ValueError, AssertionError, TypeError, RuntimeError)


class VLLMEngine:
    """Runs a checkpoint folder through vLLM's own scheduler.

    vLLM sees exactly our frames, as arrays with their clock. Prefix caching is on, so a
    follow-up on the same video is read from its first new word.

    Args:
        folder: a checkpoint in Hugging Face layout, with safetensors weights.
        family: the facts about it.
        settings: number format, parallelism, memory and the like.

    Raises:
        ModelError: the folder is not whole, not safe, or vLLM cannot load it.
        MissingCapability: pipeline parallel on CPUs.
    """

    name = "vllm"

    def __init__(self, folder: Path, *, family: Family, settings: EngineSettings) -> None:
        _check_parallel(settings)
        check_weights(folder, verify=settings.verify)
        readable = readable_folder(folder, family)
        with _load_errors(folder.name):
            self._llm = LLM(str(readable), **_arguments(folder, family, settings))
        self._family = family
        self._maker = PromptMaker(folder, family)
        self._names = map(str, itertools.count())
        self.context_length: int | None = int(self._llm.model_config.max_model_len)

    def count_tokens(self, request: Request) -> int:
        """Length of the prompt as vLLM's own processor expands it."""
        # What is counted may never run. vLLM's cache would believe its media with the engine.
        return len(self._render(request, skip_mm_cache=True)["prompt_token_ids"])

    def generate(self, requests: Iterable[Request]) -> Iterator[Completion]:
        """Completions as they get ready. A request that vLLM refuses does not end the others."""
        queue = _Queue(requests, self._family)
        running: dict[str, _Running] = {}
        while True:
            for request in queue.take(_IN_FLIGHT - len(running), idle=not running):
                try:
                    running |= self._start(request, streamed=False)
                except _REFUSALS as problem:
                    yield failed(request, _translated(problem))
            if not running and queue.empty:
                return
            for output in self._step() if running else ():
                if output.finished and output.request_id in running:
                    yield running.pop(output.request_id).completion(output)

    def stream(self, request: Request) -> Iterator[Delta]:
        """Text as it is generated; the last delta carries the completion."""
        try:
            started = self._start(request, streamed=True)
        except _REFUSALS as problem:
            raise _translated(problem) from problem
        ((name, running),) = started.items()
        try:
            yield from self._pieces(name, running)
        finally:
            self._llm.llm_engine.abort_request([name])

    def serve(self, inbox: Inbox) -> Iterator[Delta]:
        """See :class:`kinema.engines.Serves`: vLLM's scheduler takes requests as they arrive."""
        running: dict[str, _Running] = {}
        while True:
            yield from self._admit(inbox, running)
            self._drop_cancelled(inbox, running)
            if not running:
                return
            for output in self._step():
                if output.request_id in running:
                    yield from _news(output, running)

    def close(self) -> None:
        """Stop vLLM and give the memory back."""
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None

    def _pieces(self, name: str, started: _Running) -> Iterator[Delta]:
        running = {name: started}
        while running:
            for output in (o for o in self._step() if o.request_id == name):
                yield from _news(output, running)

    def _admit(self, inbox: Inbox, running: dict[str, _Running]) -> Iterator[Delta]:
        """Hand vLLM what waits; of those families whose clips it cannot mix, one length a time."""
        alike = _any_length if self._family.ragged_batch_ok else _clip_lengths
        while room := _IN_FLIGHT - len(running):
            taken = inbox.take(room, alike=alike, beside=[one.request for one in running.values()])
            if not taken:
                return
            for request in taken:
                try:
                    running |= self._start(request, streamed=True)
                except _REFUSALS as problem:
                    yield Delta(request.id, "", failed(request, _translated(problem)))

    def _drop_cancelled(self, inbox: Inbox, running: dict[str, _Running]) -> None:
        gone = [n for n, one in running.items() if inbox.is_cancelled(one.request.id)]
        if gone:
            self._llm.llm_engine.abort_request(gone)
        for name in gone:
            del running[name]

    def _start(self, request: Request, *, streamed: bool) -> dict[str, _Running]:
        began = time.perf_counter()
        rendered = self._render(request)
        name = next(self._names)
        params = sampling_params(request.params, streamed=streamed)
        name = self._llm.llm_engine.add_request(name, rendered, params) or name
        # vLLM may add a suffix of its own; outputs carry the name that was given.
        return {name.split("-")[0]: _Running(request, _visual_tokens(rendered), began)}

    def _render(self, request: Request, *, skip_mm_cache: bool = False) -> Any:
        """The request processed by vLLM."""
        renderer = self._llm.llm_engine.renderer
        prompt = parse_model_prompt(self._llm.model_config, self._maker.make(request))
        params = renderer.default_cmpl_tok_params
        (rendered,) = renderer.render_cmpl([prompt], params, skip_mm_cache=skip_mm_cache)
        return rendered

    def _step(self) -> list[Any]:
        try:
            outputs: list[Any] = self._llm.llm_engine.step()
        except EngineDeadError as problem:
            raise ModelError(
                "vLLM's engine died.", hint="Its own log above says why; memory is the usual cause."
            ) from problem
        return outputs


def _check_parallel(settings: EngineSettings) -> None:
    # Its worker gives no output to the scheduler then, which fails on the first request (0.32).
    if settings.pipeline_parallel > 1 and current_platform.is_cpu():
        raise MissingCapability(
            "vLLM does not do --pipeline-parallel on CPUs.",
            hint="Use --tensor-parallel, which it does there.",
        )


def _arguments(folder: Path, family: Family, settings: EngineSettings) -> dict[str, Any]:
    # vLLM's reader, which knows model types that transformers does not.
    config = get_config(str(folder), trust_remote_code=settings.trust_remote_code)
    own = getattr(config.get_text_config(), "max_position_embeddings", None)
    takes = {"image": family.takes_image, "video": family.takes_video}
    return dict(family.vllm_arguments) | {
        "dtype": settings.dtype,
        "load_format": "safetensors",
        "tensor_parallel_size": settings.tensor_parallel,
        "pipeline_parallel_size": settings.pipeline_parallel,
        "gpu_memory_utilization": settings.gpu_memory,
        "max_model_len": min(filter(None, (settings.max_context, own)), default=None),
        "trust_remote_code": settings.trust_remote_code,
        "limit_mm_per_prompt": {kind: _ANY for kind, taken in takes.items() if taken},
        "enable_prefix_caching": True,
        "structured_outputs_config": _STRUCTURED,
        "skip_mm_profiling": settings.device == "cpu",
        "enforce_eager": not settings.compile,
    }


class _load_errors:
    """What goes wrong while loading, as one sentence."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: type[BaseException] | None, problem: Any, trace: Any) -> None:
        if isinstance(problem, (*_REFUSALS, OSError, ImportError)):
            raise ModelError(
                f"vLLM cannot load {self._name}: {_first_line(problem)}",
                hint="Its log above says more. The engine hf may run the model: --engine hf.",
            ) from problem


class _Queue:
    """Hands out requests, only clips of one length at a time where a family cannot stack others.

    vLLM encodes clips of several requests in one call, and for those families it fails on
    different lengths.
    """

    def __init__(self, requests: Iterable[Request], family: Family) -> None:
        self._coming = iter(requests)
        self._apart = not family.ragged_batch_ok and family.takes_video
        self._waiting: deque[Request] = deque()
        self._length: frozenset[int] = frozenset()
        self._fill()

    @property
    def empty(self) -> bool:
        return not self._waiting

    def take(self, room: int, *, idle: bool) -> list[Request]:
        """Up to ``room`` requests that may run now; ``idle`` when nothing else does."""
        if idle:
            self._length = next(filter(None, map(self._lengths, self._waiting)), frozenset())
        taken = [r for r in self._waiting if self._lengths(r) in (frozenset(), self._length)]
        taken = taken[:room] or ([self._waiting[0]] if idle and self._waiting else [])
        self._waiting = deque(r for r in self._waiting if not any(r is t for t in taken))
        self._fill()
        return taken

    def _fill(self) -> None:
        more = itertools.islice(self._coming, _IN_FLIGHT - len(self._waiting))
        self._waiting.extend(more)

    def _lengths(self, request: Request) -> frozenset[int]:
        return _clip_lengths(request) if self._apart else frozenset()


def _clip_lengths(request: Request) -> frozenset[int]:
    return frozenset(len(m.frames) for m in request.media if m.kind == "video")


def _any_length(request: Request) -> None:
    return None


@dataclass
class _Running:
    """A request on its way through vLLM."""

    request: Request
    visual_tokens: int
    began: float
    first: float | None = None
    said: str = ""

    def completion(self, output: Any) -> Completion:
        """What vLLM answered."""
        answer = output.outputs[0]
        if answer.finish_reason not in ("stop", "length"):
            problem = ModelError(f"vLLM ended the request: {answer.finish_reason}.")
            return failed(self.request, problem)
        return Completion(
            request_id=self.request.id,
            text=answer.text.strip(),
            finish_reason=answer.finish_reason,
            usage=Usage(len(output.prompt_token_ids), len(answer.token_ids), self.visual_tokens),
            token_ids=tuple(answer.token_ids),
            logprobs=_logprobs(answer, self.request.params.logprobs),
            seconds=time.perf_counter() - self.began,
            first_token_seconds=self.first,
        )


def _news(output: Any, running: dict[str, _Running]) -> Iterator[Delta]:
    """What one step added to a request; one that is finished runs no more."""
    one = running[output.request_id]
    text = output.outputs[0].text
    if text != one.said:
        one.first = one.first or time.perf_counter() - one.began
        yield Delta(one.request.id, text[len(one.said) :])
        one.said = text
    if output.finished:
        del running[output.request_id]
        yield Delta(one.request.id, "", one.completion(output))


def _visual_tokens(rendered: Any) -> int:
    ranges = (r for found in rendered.get("mm_placeholders", {}).values() for r in found)
    return sum(int(r.get_num_embeds()) for r in ranges)


def _logprobs(answer: Any, alternatives: int | None) -> tuple[TokenLogprob, ...] | None:
    if alternatives is None:
        return None
    return tuple(
        TokenLogprob(
            steps[token].decoded_token or "",
            steps[token].logprob,
            tuple((s.decoded_token or "", s.logprob) for s in _ranked(steps)[:alternatives]),
        )
        for token, steps in zip(answer.token_ids, answer.logprobs, strict=True)
    )


def _ranked(steps: dict[int, Any]) -> list[Any]:
    return sorted(steps.values(), key=lambda step: step.rank or 0)


def _translated(problem: Exception) -> ModelError:
    return ModelError(
        f"vLLM refused the request: {_first_line(problem)}",
        hint="`kinema models` says what the family takes.",
    )


def _first_line(problem: BaseException) -> str:
    return next(iter(str(problem).strip().splitlines()), type(problem).__name__)
