"""The vLLM engine: bulk work and streams, on this machine's GPUs or its CPU."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from vllm import LLM
from vllm.exceptions import VLLMError
from vllm.platforms import current_platform
from vllm.renderers.inputs.preprocess import parse_model_prompt
from vllm.transformers_utils.config import get_config
from vllm.v1.engine.exceptions import EngineDeadError

from kinema.engines.base import Inbox
from kinema.engines.failures import first_line
from kinema.engines.hf.errors import is_out_of_memory
from kinema.engines.settings import VLLMSettings
from kinema.engines.vllm.folder import readable_folder
from kinema.engines.vllm.prompts import PromptMaker, sampling_params
from kinema.errors import (
    EngineDied,
    MissingCapability,
    ModelError,
    OutOfMemory,
    RequestFailed,
    RequestRefused,
)
from kinema.families import Family
from kinema.families.weights import check_weights
from kinema.messages import Completion, Request, TokenLogprob, Usage

_IN_FLIGHT = 256
"""Requests handed to vLLM's scheduler before the first is finished, at most."""
_JOIN = 16
"""Requests that begin between two steps, at most: those that run wait while others are rendered."""
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
    batch_size: int | None = None
    """New requests may join those that run."""

    def __init__(self, folder: Path, *, family: Family, settings: VLLMSettings) -> None:
        # Its worker gives no output to the scheduler then, which fails on the first request (0.32).
        if settings.pipeline_parallel > 1 and current_platform.is_cpu():
            raise MissingCapability(
                "vLLM does not do --pipeline-parallel on CPUs.",
                hint="Use --tensor-parallel, which it does there.",
            )
        check_weights(folder, verify=settings.verify)
        readable = readable_folder(folder, family)
        with _load_errors(folder.name):
            self._llm = LLM(str(readable), **_arguments(folder, family, settings))
        self._one_length = family.takes_video and not family.ragged_batch_ok
        self._maker = PromptMaker(folder, family)
        self._names = map(str, itertools.count())
        self._rendered: dict[str, tuple[Request, Any]] = {}
        self.context_length: int | None = int(self._llm.model_config.max_model_len)

    def count_tokens(self, request: Request) -> int:
        """Length of the prompt as vLLM's own processor expands it; its rendering is kept.

        Raises:
            RequestRefused: vLLM's processor does not take the request.
        """
        rendered = self._render(request)
        self._rendered[request.id] = (request, rendered)
        return len(rendered["prompt_token_ids"])

    def pick(self, waiting: Sequence[Request], running: Sequence[Request]) -> list[Request]:
        """Those that may join now, in order of arrival, up to 256 in flight.

        Requests whose record holds log-probabilities run alone, because neighbours move floats.
        Families whose clips do not stack get one clip length at a time: vLLM encodes the clips of
        several requests in one call. When the first in line cannot join, nothing else does, so
        that those that run end and its turn comes.
        """
        if not waiting or any(map(_must_run_alone, running)):
            return []
        if _must_run_alone(waiting[0]):
            return [] if running else [waiting[0]]
        joining = [request for request in waiting if not _must_run_alone(request)]
        if self._one_length:
            lengths = map(_clip_lengths, (*running, *joining))
            length = next(filter(None, lengths), frozenset())
            joining = [r for r in joining if _clip_lengths(r) in (frozenset(), length)]
        if waiting[0] not in joining:
            return []
        return joining[: min(_JOIN, _IN_FLIGHT - len(running))]

    def serve(self, inbox: Inbox) -> None:
        """See :class:`kinema.engines.base.Engine`: vLLM's scheduler takes requests as they come.

        Raises:
            EngineDied: vLLM's engine process is gone, or cannot go on after an error.
            OutOfMemory: a step needed more memory than there is.
        """
        running: dict[str, _Running] = {}
        try:
            while (taken := inbox.take([one.request for one in running.values()])) or running:
                for request in taken:
                    self._begin(request, inbox, running)
                self._rendered.clear()  # what was counted and not taken does not run
                self._drop_cancelled(inbox, running)
                if running:
                    for output in self._llm.llm_engine.step():
                        if output.request_id in running:
                            _tell(output, inbox, running)
        except EngineDeadError as problem:
            raise EngineDied(
                "vLLM's engine died.", hint="Its own log above says why; memory is the usual cause."
            ) from problem
        except Exception as problem:
            self._clean_up(running)
            if is_out_of_memory(problem):
                raise _out_of_memory(problem) from problem
            raise

    def release(self) -> None:
        """Empty vLLM's caches: prefixes, encoded media and processed media.

        Raises:
            EngineDied: vLLM's engine process is gone.
        """
        self._rendered.clear()
        engine = self._llm.llm_engine
        # Nothing public empties the cache that goes with ``skip_mm_cache``.
        processed = getattr(engine.renderer, "_mm_processor_only_cache", None)
        if processed is not None:
            processed.clear_cache()
        try:
            engine.reset_prefix_cache()
            engine.reset_mm_cache()
            engine.reset_encoder_cache()
        except EngineDeadError as problem:
            raise EngineDied("vLLM's engine died.", hint="Its own log says why.") from problem

    def close(self) -> None:
        """Stop vLLM and give the memory back."""
        self._rendered.clear()
        if self._llm is not None:
            self._llm.llm_engine.engine_core.shutdown()
            self._llm = None

    def _begin(self, request: Request, inbox: Inbox, running: dict[str, _Running]) -> None:
        """Hand a request to vLLM; one that it refuses has failed, and the others go on."""
        began = time.perf_counter()
        name = next(self._names)
        params = sampling_params(request.params, streamed=inbox.is_streamed(request.id))
        rendered: Any
        try:
            counted, rendered = self._rendered.pop(request.id, (None, None))
            if counted is not request:
                rendered = self._render(request)
            self._llm.llm_engine.add_request(name, rendered, params)
        except EngineDeadError:
            raise
        except RequestRefused as problem:
            inbox.fail(request.id, problem)
        except _REFUSALS as problem:
            if is_out_of_memory(problem):
                raise
            inbox.fail(request.id, _refused(problem))
        else:
            media = rendered.get("mm_placeholders", {}).values()
            visual = sum(int(place.get_num_embeds()) for places in media for place in places)
            running[name] = _Running(request, visual, began)

    def _drop_cancelled(self, inbox: Inbox, running: dict[str, _Running]) -> None:
        gone = [n for n, one in running.items() if inbox.is_cancelled(one.request.id)]
        if gone:
            self._llm.llm_engine.abort_request(gone)
        for name in gone:
            del running[name]

    def _clean_up(self, running: dict[str, _Running]) -> None:
        """Make vLLM usable again after a step that failed in this process.

        vLLM writes blocks and encoded media into its caches when it schedules a step, before the
        model has filled them. After a failed step they would be read as if they were filled.
        """
        engine = self._llm.llm_engine
        engine.abort_request(list(running))
        if not engine.reset_prefix_cache():
            raise EngineDied("vLLM cannot go on after an error.", hint="Its log above says why.")
        engine.reset_encoder_cache()

    def _render(self, request: Request) -> Any:
        """The request processed by vLLM, media included.

        vLLM's usual cache of processed media has two sides: the renderer remembers what it
        rendered and from then on leaves those pixels out, and the engine must have received every
        one of these renderings, in the same order. What is counted may never run, or run in
        another order, or be refused after it was rendered. So every rendering goes through the
        renderer's other cache (``skip_mm_cache``), which makes no promise about the engine: a
        medium is processed once and sent with each request. Names of media are the same, so
        the engine's caches of encoded media and of prefixes work as ever.

        Raises:
            RequestRefused: vLLM's processor does not take the request.
            OutOfMemory: not even its pixels can be prepared.
        """
        renderer = self._llm.llm_engine.renderer
        # Without vLLM's limit, so that what is too long is counted instead of refused.
        params = replace(renderer.default_cmpl_tok_params, max_total_tokens=None)
        try:
            prompt = parse_model_prompt(self._llm.model_config, self._maker.make(request))
            (rendered,) = renderer.render_cmpl([prompt], params, skip_mm_cache=True)
        except (*_REFUSALS, MemoryError) as problem:
            if is_out_of_memory(problem):
                raise _out_of_memory(problem) from problem
            raise _refused(problem) from problem
        return rendered


def _arguments(folder: Path, family: Family, settings: VLLMSettings) -> dict[str, Any]:
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


@contextmanager
def _load_errors(name: str) -> Iterator[None]:
    """What goes wrong while loading, as one sentence."""
    try:
        yield
    except (*_REFUSALS, OSError, ImportError) as problem:
        raise ModelError(
            f"vLLM cannot load {name}: {first_line(problem)}",
            hint="Its log above says more. The engine hf may run the model: --engine hf.",
        ) from problem


def _must_run_alone(request: Request) -> bool:
    return request.params.logprobs is not None


def _clip_lengths(request: Request) -> frozenset[int]:
    return frozenset(len(m.frames) for m in request.media if m.kind == "video")


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


def _tell(output: Any, inbox: Inbox, running: dict[str, _Running]) -> None:
    """What one step added to a request; one that is finished runs no more."""
    one = running[output.request_id]
    answer = output.outputs[0]
    if inbox.is_streamed(one.request.id) and answer.text != one.said:
        one.first = one.first or time.perf_counter() - one.began
        inbox.write(one.request.id, answer.text[len(one.said) :])
        one.said = answer.text
    if not output.finished:
        return
    del running[output.request_id]
    if answer.finish_reason in ("stop", "length"):
        inbox.complete(one.completion(output))
    else:
        problem = RequestFailed(f"vLLM ended the request: {answer.finish_reason}.")
        inbox.fail(one.request.id, problem)


def _logprobs(answer: Any, alternatives: int | None) -> tuple[TokenLogprob, ...] | None:
    if alternatives is None:
        return None
    return tuple(
        TokenLogprob(
            steps[token].decoded_token or "",
            steps[token].logprob,
            tuple((s.decoded_token or "", s.logprob) for s in ranked[:alternatives]),
        )
        for token, steps in zip(answer.token_ids, answer.logprobs, strict=True)
        for ranked in [sorted(steps.values(), key=lambda step: step.rank or 0)]
    )


def _refused(problem: Exception) -> RequestRefused:
    return RequestRefused(
        f"vLLM refused the request: {first_line(problem) or type(problem).__name__}",
        hint="`kinema models` says what the family takes.",
    )


def _out_of_memory(problem: BaseException) -> OutOfMemory:
    return OutOfMemory(
        f"vLLM ran out of memory: {first_line(problem) or type(problem).__name__}",
        hint="Use fewer frames, a smaller --max-context or a lower --gpu-memory.",
    )
