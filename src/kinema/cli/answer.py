"""``kinema answer``: a file of prompts over a folder or tar of videos."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from kinema.cli.flags import (
    EngineFlags,
    JobFlags,
    JobRun,
    ModelName,
    PartFlags,
    SamplingFlags,
    WordFlags,
)
from kinema.cli.output import JobStatus, leave_stdout, put, put_record, say
from kinema.cli.processes import slices
from kinema.cli.sources import HydraFlags, is_override, reads_neva
from kinema.engines import EngineSettings, rank
from kinema.errors import PartialFailure, UsageError
from kinema.jobs.progress import Progress
from kinema.messages import SamplingParams
from kinema.tasks.answer import AnswerJob, AnswerOptions, check_files
from kinema.tasks.chosen import default_model
from kinema.tasks.imports import CheckpointParts
from kinema.tasks.models import Model, find_model
from kinema.tasks.neva_yaml import read_neva
from kinema.tasks.prompts_file import medium_of, prompts_by_medium
from kinema.types import FrameSampling

_RULE = "-" * 45


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """What is read and written, and who answers."""

    prompt_file: Path | None = None
    """The prompt file, where it is not the command's first word."""
    output: Annotated[Path | None, Parameter(alias="-o")] = None
    """Where the answers go: a .json list, or one record a line."""
    model: Annotated[str | None, ModelName] = None
    """spotter, a checkpoint folder, a .nemo archive, family:PATH, or a name on a model hub."""
    engine: str | None = None
    """The backend, instead of the family's first: see `kinema models`."""
    config: Path | None = None
    """NeVA's own inference YAML; words like inference.temperature=0.2 change it, and flags win."""
    all_probs: bool = False
    """Without --logprobs: report the log-probability of every token of the vocabulary."""


@reads_neva("--config", read_neva, script_reads="neva_inference.yaml")
def answer(
    *words: str,
    files: Annotated[FileOptions, Parameter(name="*")] = FileOptions(),
    hydra: Annotated[HydraFlags, Parameter(name="*")] = HydraFlags(),
    work: JobFlags = JobRun(),
    options: Annotated[AnswerOptions, Parameter(name="*")] = AnswerOptions(),
    sampling: SamplingFlags = FrameSampling(),
    params: WordFlags = SamplingParams(),
    settings: EngineFlags = EngineSettings(),
    parts: PartFlags = CheckpointParts(),
) -> int:
    """Answer a file of prompts about videos and images.

    Records come from a .json list or a .jsonl file: `video` or `image`, and `prompt`, `text` or
    `question`. The output keeps their order. A run that was stopped goes on where it ended.

    Examples:
      kinema answer prompts.jsonl -o answers.jsonl --media-base-path videos/
      kinema answer prompts.jsonl -o a.json --media-base-path v.tar --insert-media-token right
      kinema answer --config neva_inference.yaml inference.temperature=0.2 prompt_file=p.jsonl
      kinema answer --config-path conf --config-name neva_inference.yaml prompt_file=p.jsonl

    Args:
        words: The prompt file; with --config, overrides of its keys.
    """
    reads_yaml = files.config is not None or hydra.given
    prompt_file, output = _files(words, files, reads_yaml=reads_yaml)
    base = options.media_base_path
    records = check_files(prompt_file, output, media_base_path=base, force=work.force)
    records = records[: work.limit]
    model = find_model(files.model or default_model(), engine=files.engine, parts=parts)
    settings = _sliced(model, settings, may_be_whole=reads_yaml)
    with slices(model, settings):
        if rank() > 0:
            return model.follow(settings)
        return _answer(
            model, records, prompt_file, output,
            files=files, work=work, options=options, sampling=sampling, params=params,
            settings=settings,
        )  # fmt: skip


def _answer(  # noqa: PLR0913
    model: Model,
    records: Sequence[Any],
    prompt_file: Path,
    output: Path,
    *,
    files: FileOptions,
    work: JobRun,
    options: AnswerOptions,
    sampling: FrameSampling,
    params: SamplingParams,
    settings: EngineSettings,
) -> int:
    """Answer the records and show what is said of them."""
    if files.all_probs and params.logprobs is None:
        config = model.checkpoint.config  # as many alternatives as the vocabulary has tokens
        params = replace(params, logprobs=config.get("text_config", config)["vocab_size"])
    job = AnswerJob(
        prompt_file=prompt_file,
        output=output,
        model=model,
        params=params,
        settings=settings,
        options=options,
        sampling=sampling,
        limit=work.limit,
        **work.settings,
    )
    console = _Console(work, prompts_by_medium(records))
    with JobStatus("records", quiet=work.quiet, complains=False) as status:

        def show(progress: Progress) -> None:
            status.clear()
            if progress.result is not None:
                try:
                    console.show(progress.result)
                except BrokenPipeError:
                    leave_stdout()  # the answers go to the file all the same
            status(progress)

        failed = job.run(show)
    if failed:
        raise PartialFailure(
            f"{failed} records failed; the rest is in {job.output}.",
            hint="Their field `error` says why; --retry-failed tries them again.",
        )
    return 0


def _sliced(model: Model, settings: EngineSettings, *, may_be_whole: bool) -> EngineSettings:
    """The settings, in one piece where a YAML asks for slices that the model does not have.

    Raises:
        UsageError: flags ask for them.
    """
    count = settings.tensor_parallel
    if count == 1 or model.engine != "hf":
        return settings
    config = model.checkpoint.config
    text = config.get("text_config", config)
    queries = text.get("num_attention_heads") or 0
    keys = text.get("num_key_value_heads") or queries
    if queries % count == keys % count == 0 and queries:
        return settings
    sentence = f"{model.name} has {keys} heads of keys, which do not go into {count} slices"
    if not may_be_whole:
        raise UsageError(f"{sentence}.", hint="Choose another --tensor-parallel.")
    say(f"note: {sentence}: one process holds it whole")
    return replace(settings, tensor_parallel=1)


def _files(words: tuple[str, ...], files: FileOptions, *, reads_yaml: bool) -> tuple[Path, Path]:
    """The prompt file and the output."""
    plain = [word for word in words if not reads_yaml or not is_override(word)]
    if len(plain) > 1:
        raise UsageError(f"{len(plain)} prompt files were given.", hint="Give one.")
    prompt_file = Path(plain[0]) if plain else files.prompt_file
    if prompt_file is None or files.output is None:
        missing = "prompt file" if prompt_file is None else "output"
        raise UsageError(f"There is no {missing}.", hint="kinema answer prompts.jsonl -o out.jsonl")
    return prompt_file, files.output


@dataclass(frozen=True)
class _Console:
    """Prints answers: the console form that NeVA's users parse, or records."""

    work: JobRun
    num_prompts: Counter[str]
    """Of each medium."""
    _seen: Counter[str] = field(default_factory=Counter)

    def show(self, record: Mapping[str, Any]) -> None:
        if self.work.json:
            put_record(record)
        if self.work.json or self.work.quiet:
            return
        medium = medium_of(record)
        self._seen[medium] += 1
        put(
            f"------------- PROMPT {self._seen[medium]} of {self.num_prompts[medium]} ------------ "
        )
        put(f"{record['full_text']}\n")
        put(f"CLEAN RESPONSE: {record['pred_answer']}")
        put(f"{_RULE}\n")
