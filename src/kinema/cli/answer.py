"""``kinema answer``: a file of prompts over a folder or tar of videos."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

from cyclopts import Parameter

from kinema.cli.flags import EngineFlags, PartFlags, SamplingFlags, WordChoice, WordFlags
from kinema.cli.output import put, say
from kinema.config import from_mapping
from kinema.engines import EngineSettings, rank
from kinema.errors import PartialFailure, UsageError
from kinema.messages import SamplingParams
from kinema.tasks.answer import AnswerJob, AnswerOptions, Progress, check_files
from kinema.tasks.imports import CheckpointParts
from kinema.tasks.models import DEFAULT_MODEL, Model, find_model
from kinema.tasks.neva_yaml import ALL_PROBS, NevaRequest, read_neva
from kinema.tasks.parallel import follow
from kinema.tasks.site import Runner
from kinema.types import FrameSampling

_RULE = "-" * 45


@dataclass(frozen=True, kw_only=True)
class FileOptions:
    """What is read and written, and who answers."""

    output: Annotated[Path | None, Parameter(alias="-o")] = None
    """Where the answers go: a .json list, or one record a line."""
    model: Annotated[str | None, Parameter(alias="-m")] = None
    """tiny, a checkpoint folder, a .nemo archive, family:PATH, or a name on a model hub."""
    engine: str | None = None
    """The backend, instead of the family's first: see `kinema models`."""
    config: Path | None = None
    """NeVA's own inference YAML; words like inference.temperature=0.2 override it."""
    force: bool = False
    """Start over where another run with other settings left answers."""
    retry_failed: bool = False
    """Try records again that failed in an earlier run."""
    workers: int = 2
    """Processes that decode; with --runner ray, workers that have an engine each."""
    runner: Runner = "local"
    """Where the work is done: this process, or a Ray cluster (RAY_ADDRESS, or a local one)."""
    quiet: Annotated[bool, Parameter(alias="-q")] = False
    """Print no answer, only write the file."""


def answer(
    *words: str,
    files: Annotated[FileOptions, Parameter(name="*")] = FileOptions(),
    options: Annotated[AnswerOptions, Parameter(name="*")] = AnswerOptions(),
    sampling: SamplingFlags = FrameSampling(),
    params: WordFlags = WordChoice(),
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
    asked = _ask(words, files)
    check_files(asked.prompt_file, asked.output)
    model_name, parts = _model(files, asked, parts)
    model = find_model(model_name, engine=files.engine, parts=parts)
    job = AnswerJob(
        prompt_file=asked.prompt_file,
        output=asked.output,
        model=model,
        params=_merged_params(params, asked.neva, model),
        settings=replace(settings, **_fields(asked.neva, "settings", EngineSettings)),
        options=replace(options, **_fields(asked.neva, "options", AnswerOptions)),
        sampling=sampling,
        force=files.force,
        retry_failed=files.retry_failed,
        workers=files.workers,
        runner=files.runner,
    )
    if rank() > 0:
        return follow(model.open(job.settings))
    failed = job.run(lambda progress: None if files.quiet else _show(progress))
    if failed:
        raise PartialFailure(
            f"{failed} records failed; the rest is in {job.output}.",
            hint="Their field `error` says why; --retry-failed tries them again.",
        )
    return 0


@dataclass(frozen=True)
class _Asked:
    """Files and NeVA's settings, whichever way they were given."""

    prompt_file: Path
    output: Path
    neva: NevaRequest | None


def _ask(words: tuple[str, ...], files: FileOptions) -> _Asked:
    neva = None
    given: dict[str, str] = {}
    if files.config is not None:
        neva = read_neva(files.config, [word for word in words if "=" in word])
        given = neva.files
        for note in neva.notes:
            say(f"note: {note}")
    plain = [word for word in words if files.config is None or "=" not in word]
    if len(plain) > 1:
        raise UsageError(f"{len(plain)} prompt files were given.", hint="Give one.")
    prompt_file = plain[0] if plain else given.get("prompt_file")
    output = files.output or given.get("output_file")
    if prompt_file is None or output is None:
        missing = "prompt file" if prompt_file is None else "output"
        raise UsageError(f"There is no {missing}.", hint="kinema answer prompts.jsonl -o out.jsonl")
    return _Asked(Path(prompt_file), Path(output), neva)


def _model(
    files: FileOptions, asked: _Asked, parts: CheckpointParts
) -> tuple[str, CheckpointParts]:
    given = asked.neva.files if asked.neva else {}
    if parts.base_model is None and "base_model_file" in given:
        parts = replace(parts, base_model=Path(given["base_model_file"]))
    if files.model is None and "neva_model_file" in given:
        return f"neva:{given['neva_model_file']}", parts
    return files.model or DEFAULT_MODEL, parts


def _merged_params(
    params: SamplingParams, neva: NevaRequest | None, model: Model
) -> SamplingParams:
    if neva is None:
        return params
    values = dict(neva.params)
    if values.get("logprobs") == ALL_PROBS:
        config = model.checkpoint.config
        values["logprobs"] = config.get("text_config", config)["vocab_size"]
    return replace(params, **values)


def _fields(neva: NevaRequest | None, name: str, kind: type[Any]) -> dict[str, Any]:
    """Fields of a NeVA request, checked against the dataclass that takes them."""
    values: dict[str, Any] = getattr(neva, name) if neva else {}
    if "media_base_path" in values:
        values = values | {"media_base_path": Path(values["media_base_path"])}
    from_mapping(kind, values)
    return values


def _show(progress: Progress) -> None:
    """The console form that NeVA's users parse."""
    record = progress.record
    put(f"------------- PROMPT {progress.number} of {progress.of} ------------ ")
    put(f"{record['full_text']}\n")
    put(f"CLEAN RESPONSE: {record['pred_answer']}")
    put(f"{_RULE}\n")
