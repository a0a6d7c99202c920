"""``kinema answer``: a file of prompts over a folder or tar of videos."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kinema.cli.flags import EngineFlags, JobFlags, JobRun, PartFlags, SamplingFlags, WordFlags
from kinema.cli.output import leave_stdout, put, put_record
from kinema.cli.sources import is_override, reads_neva
from kinema.engines import EngineSettings, rank
from kinema.errors import PartialFailure, UsageError
from kinema.messages import SamplingParams
from kinema.tasks.answer import AnswerJob, AnswerOptions, Progress, check_files
from kinema.tasks.imports import CheckpointParts
from kinema.tasks.models import DEFAULT_MODEL, Model, find_model
from kinema.tasks.neva_yaml import read_neva
from kinema.tasks.parallel import follow
from kinema.types import FrameSampling

_RULE = "-" * 45


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """What is read and written, and who answers."""

    prompt_file: Path | None = None
    """The prompt file, where it is not the command's first word."""
    output: Annotated[Path | None, Parameter(alias="-o")] = None
    """Where the answers go: a .json list, or one record a line."""
    model: Annotated[str, Parameter(alias="-m")] = DEFAULT_MODEL
    """tiny, a checkpoint folder, a .nemo archive, family:PATH, or a name on a model hub."""
    engine: str | None = None
    """The backend, instead of the family's first: see `kinema models`."""
    config: Path | None = None
    """NeVA's own inference YAML; words like inference.temperature=0.2 change it, and flags win."""
    all_probs: bool = False
    """Without --logprobs: report the log-probability of every token of the vocabulary."""


@reads_neva("--config", read_neva)
def answer(
    *words: str,
    files: Annotated[FileOptions, Parameter(name="*")] = FileOptions(),
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

    Args:
        words: The prompt file; with --config, overrides of its keys.
    """
    prompt_file, output = _files(words, files)
    check_files(prompt_file, output, force=work.force)
    model = find_model(files.model, engine=files.engine, parts=parts)
    if rank() > 0:
        return follow(model.open(settings))
    job = AnswerJob(
        prompt_file=prompt_file,
        output=output,
        model=model,
        params=_with_all_probs(params, model) if files.all_probs else params,
        settings=settings,
        options=options,
        sampling=sampling,
        limit=work.limit,
        force=work.force,
        retry_failed=work.retry_failed,
        workers=work.workers,
        runner=work.runner,
    )

    def show(progress: Progress) -> None:
        try:
            _show(progress, work)
        except BrokenPipeError:
            leave_stdout()  # the answers go to the file all the same

    failed = job.run(show)
    if failed:
        raise PartialFailure(
            f"{failed} records failed; the rest is in {job.output}.",
            hint="Their field `error` says why; --retry-failed tries them again.",
        )
    return 0


def _files(words: tuple[str, ...], files: FileOptions) -> tuple[Path, Path]:
    """The prompt file and the output."""
    plain = [word for word in words if files.config is None or not is_override(word)]
    if len(plain) > 1:
        raise UsageError(f"{len(plain)} prompt files were given.", hint="Give one.")
    prompt_file = Path(plain[0]) if plain else files.prompt_file
    if prompt_file is None or files.output is None:
        missing = "prompt file" if prompt_file is None else "output"
        raise UsageError(f"There is no {missing}.", hint="kinema answer prompts.jsonl -o out.jsonl")
    return prompt_file, files.output


def _with_all_probs(params: SamplingParams, model: Model) -> SamplingParams:
    """As many alternatives as the vocabulary has tokens, where no number was given."""
    if params.logprobs is not None:
        return params
    config = model.checkpoint.config
    return replace(params, logprobs=config.get("text_config", config)["vocab_size"])


def _show(progress: Progress, work: JobRun) -> None:
    """The console form that NeVA's users parse, or a record."""
    record = progress.record
    if work.json:
        put_record(record)
    if work.json or work.quiet:
        return
    put(f"------------- PROMPT {progress.number} of {progress.of} ------------ ")
    put(f"{record['full_text']}\n")
    put(f"CLEAN RESPONSE: {record['pred_answer']}")
    put(f"{_RULE}\n")
