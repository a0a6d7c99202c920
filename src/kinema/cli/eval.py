"""``kinema eval``: measure models on a benchmark."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Annotated

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
from kinema.cli.output import JOB_LOG_SECONDS, JobStatus, Status, put, put_record, put_table, say
from kinema.engines import EngineSettings, rank
from kinema.errors import KinemaError, PartialFailure, Unfinished, UsageError
from kinema.evaluation.answers import read_answer
from kinema.evaluation.benchmarks import BENCHMARKS
from kinema.evaluation.presets import PresetName
from kinema.files import refuse_foreign, write_json
from kinema.messages import SamplingParams
from kinema.tasks.chosen import default_model
from kinema.tasks.evaluate.checking import Check, check_benchmark
from kinema.tasks.evaluate.judging import JudgeSettings, judge_run, read_judgement
from kinema.tasks.evaluate.reporting import (
    HTML,
    MARKDOWN,
    compare_runs,
    difference_cells,
    write_report,
    write_timelines,
)
from kinema.tasks.evaluate.runs import EvalSettings, run_benchmark, run_name
from kinema.tasks.evaluate.stored import Run, find_runs, score_run
from kinema.tasks.imports import CheckpointParts
from kinema.tasks.models import find_model
from kinema.types import FrameSampling


@dataclass(frozen=True, kw_only=True)
class EvalOptions:
    """What is measured, how, and where it is written."""

    model: Annotated[tuple[str, ...], ModelName] = ()
    """A model to measure; repeat the flag for several in one table."""
    output: Annotated[Path, Parameter(alias=("-o", "--output-dir"))] = Path("eval")
    """Folder for predictions, scores and the report."""
    split: str = ""
    """The benchmark's split; its usual one when left out."""
    preset: PresetName = "official"
    """Whose prompts and frames: official, lmms-eval or vlmevalkit."""
    engine: str | None = None
    """The backend, instead of the family's first: see `kinema models`."""
    blind: bool = False
    """Measure each model without the video as well."""
    rank_options: bool = False
    """Rank options by the log-probability of their letters: nothing is parsed."""


def evaluate(  # noqa: PLR0913  one keyword per group of flags is the point
    benchmark: str,
    data: Path,
    /,
    *,
    options: Annotated[EvalOptions, Parameter(name="*")] = EvalOptions(),
    work: JobFlags = JobRun(),
    sampling: SamplingFlags = FrameSampling(),
    params: WordFlags = SamplingParams(),
    settings: EngineFlags = EngineSettings(),
    parts: PartFlags = CheckpointParts(),
    judge: Annotated[JudgeSettings, Parameter(name="*")] = JudgeSettings(),
) -> int:
    """Measure models on a benchmark.

    The same command goes on where a killed one stopped. See also `kinema eval list`, `check`,
    `rescore` and `compare`.

    Examples:
      kinema eval check mvbench data/MVBench
      kinema eval mvbench data/MVBench --model Qwen/Qwen2.5-VL-3B-Instruct --blind
      kinema eval rescore eval

    Args:
        benchmark: A name that `kinema eval list` shows.
        data: The folder with its files in their official layout, or a .jsonl file.
    """
    measured = EvalSettings(
        benchmark=benchmark,
        data=data,
        split=options.split,
        preset=options.preset,
        limit=work.limit,
        sampling=sampling,
        params=params,
        rank_options=options.rank_options,
    )
    if not find_runs(options.output):
        refuse_foreign((options.output / name for name in (MARKDOWN, HTML)), force=work.force)
    runs: list[Run] = []
    failed: dict[str, KinemaError] = {}
    models = options.model or (default_model(),)
    asked = list(product(models, (False, True) if options.blind else (False,)))
    for model, blind in asked:
        if rank() > 0:
            find_model(model, engine=options.engine, parts=parts).follow(settings)
            continue
        try:
            with JobStatus(f"items by {model}", quiet=work.quiet, complains=False) as status:
                run = run_benchmark(
                    replace(measured, blind=blind),
                    model,
                    output=options.output,
                    engine=options.engine,
                    loading=settings,
                    parts=parts,
                    job=work,
                    on_progress=status,
                )
        except KinemaError as problem:
            if isinstance(problem, UsageError) and not (runs or failed):
                raise  # what is wrong with the call is wrong for all models
            name = run_name(model, blind=blind)
            failed[name] = problem
            # Where nothing at all was measured, the last reason is what the command ends with.
            why = "." if len(failed) == len(asked) else f": {problem.sentence}"
            say(f"{name} was not measured{why}")
        else:
            runs.append(run)
    if rank() > 0:
        return 0
    if not runs:
        raise list(failed.values())[-1]
    return _judge_and_finish(
        runs, judge, options.output, json=work.json, quiet=work.quiet, failed=failed
    )


def check(benchmark: str, data: Path, /, *, split: str = "", json: bool = False) -> int:
    """Verify a benchmark's files, counts and first frames before any model is loaded.

    Every wrong row of a .jsonl file is listed; the exit status is 3 when something is wrong.

    Args:
        benchmark: A name that `kinema eval list` shows.
        data: The folder with its files.
        split: The split to check; its usual one when left out.
        json: Print one JSON record.
    """
    status = Status(log_seconds=JOB_LOG_SECONDS)
    found = check_benchmark(
        benchmark, data, split=split, on_progress=lambda done, total: status(f"{done}/{total}")
    )
    status.clear()
    if json:
        put_record(found.to_dict())
    else:
        put_table(_check_rows(found))
    if found.wrong_rows:
        raise PartialFailure(
            f"{len({row.line for row in found.wrong_rows})} rows of {data} are wrong.",
            hint="`kinema eval` refuses the file. Repair or remove those lines.",
        )
    if found.missing or found.unreadable:
        raise PartialFailure(
            f"{len(found.missing)} videos are missing, {len(found.unreadable)} cannot be read.",
            hint="They would count as wrong. Fetch them, or publish how many there were.",
        )
    if not found.complete:
        raise PartialFailure(
            f"There are {found.items} items; this split officially has {found.official_items}.",
            hint="Numbers of another set of items are not comparable with published ones.",
        )
    return 0


def rescore(
    output: Path,
    /,
    *,
    judge: Annotated[JudgeSettings, Parameter(name="*")] = JudgeSettings(),
    json: bool = False,
) -> int:
    """Score stored predictions again: no model, no data set, no GPU.

    With `--judge` the free answers are judged as well; verdicts that are there already are kept.

    Args:
        output: A folder that `kinema eval` wrote.
        json: Print one JSON record per run.
    """
    return _judge_and_finish(_read_runs(output), judge, output, json=json)


def compare(one: Path, other: Path, /, *, json: bool = False) -> None:
    """Compare two runs on the same items: differences, intervals, p-values.

    Args:
        one: The folder of a run.
        other: The folder of another.
        json: Print one JSON record per metric.
    """
    first, second = _read_runs(one)[0], _read_runs(other)[0]
    found = compare_runs(first, second)
    if json:
        for name, difference in found.items():
            put_record({"metric": name, "difference": difference.value, "p": difference.p_value})
        return
    header = ["METRIC", f"{first.name} − {second.name}", "95 % INTERVAL", "P"]
    put_table([header, *([name, *difference_cells(d)] for name, d in found.items())])


def list_benchmarks(*, json: bool = False) -> None:
    """List the benchmarks, and the files each is read from.

    Args:
        json: Print one JSON record per benchmark.
    """
    if json:
        for row in BENCHMARKS.values():
            put_record({"name": row.name, "title": row.title, "layout": row.layout})
        return
    rows = [[b.name, b.title, ", ".join(b.splits), b.layout] for b in BENCHMARKS.values()]
    put_table([["NAME", "BENCHMARK", "SPLITS", "FILES"], *rows])


def _check_rows(found: Check) -> list[list[str]]:
    official = f" of {found.official_items}" if found.official_items else ""
    return [
        ["benchmark", f"{found.benchmark}, {found.split}"],
        ["items", f"{found.items}{official}"],
        ["videos", f"{found.videos} found, {len(found.missing)} missing"],
        *(["wrong", str(row)] for row in found.wrong_rows),
        *(["missing", name] for name in found.missing[:10]),
        *(["unreadable", f"{name}: {why}"] for name, why in list(found.unreadable.items())[:10]),
        *([name, digest] for name, digest in list(found.sha256.items())[:10]),
        ["annotations", f"{len(found.sha256)} files, together {found.fingerprint}"],
    ]


def _read_runs(output: Path) -> list[Run]:
    folders = find_runs(output)
    if not folders:
        raise UsageError(f"{output} holds no evaluation.", hint="Give a folder of kinema eval.")
    return [score_run(folder) for folder in folders]


def _judge_and_finish(
    runs: Sequence[Run],
    judge: JudgeSettings,
    output: Path,
    *,
    json: bool,
    quiet: bool = False,
    failed: Mapping[str, KinemaError] = {},
) -> int:
    """Numbers that need no judge are written and printed also when the judge does not answer."""
    finish = partial(_finish, runs, output, json=json, quiet=quiet, failed=failed)
    try:
        for run in runs:
            judge_run(run, judge)
    except Unfinished:
        with suppress(PartialFailure, Unfinished):
            finish()
        raise
    return finish()


def _finish(
    runs: Sequence[Run],
    output: Path,
    *,
    json: bool,
    quiet: bool,
    failed: Mapping[str, KinemaError],
) -> int:
    """Write what belongs to the runs, print the table, and say whether all is complete."""
    for run in runs:
        write_timelines(run)
        _write_submission(run)
    write_report(runs, output, failed=failed)
    if json:
        for run in runs:
            judged = read_judgement(run)
            extra = {"judged": judged} if judged else {}
            put_record({"run": run.about, **run.scores.to_dict(), **extra})
    elif not quiet:
        _print_table(runs)
    if not quiet:
        say(f"wrote {output / HTML}")
    if failed:
        stopped = any(isinstance(problem, Unfinished) for problem in failed.values())
        raise (Unfinished if stopped else PartialFailure)(
            f"Not measured: {', '.join(failed)}. The report holds the other runs.",
            hint="Run the same command again to go on.",
        )
    lacking = sum(run.scores.items - run.scores.answered for run in runs)
    if lacking:
        raise PartialFailure(
            f"{lacking} items have no answer; they count as wrong.",
            hint="results.json lists them by error code.",
        )
    return 0


def _print_table(runs: Sequence[Run]) -> None:
    for why in dict.fromkeys(why for run in runs for why in run.scores.unavailable.values()):
        say(f"note: {why}")
    names = list(dict.fromkeys(name for run in runs for name in run.scores.metrics))
    rows = [[name, *(_score(run, name) for run in runs)] for name in names]
    # The judge's means stand under the numbers that need no judge.
    found = [read_judgement(run) or {} for run in runs]
    for name in dict.fromkeys(k for vs in found for k, v in vs.items() if isinstance(v, dict)):
        means = (f"{vs[name]['value']:.2f}" if name in vs else "–" for vs in found)
        rows.append([f"judged {name}", *means])
    if rows:
        put_table([["METRIC", *(run.name for run in runs)], *rows])
    else:
        put("no answer of this split is public: see the submission file")


def _score(run: Run, name: str) -> str:
    score = run.scores.metrics.get(name)
    if score is None:
        return "–"
    reach = score.interval
    error = f" ± {(reach.high - reach.low) / 2:.2f}" if reach else ""
    return f"{score.score:.2f}{error}"


def _write_submission(run: Run) -> None:
    """What the benchmark's server wants: written, never sent."""
    if not run.benchmark.submission:
        return
    choices = {r.item.id: read_answer(r).value for r in run.records}
    answers = {k: -1 if v is None else v for k, v in choices.items()}
    write_json(run.folder / run.benchmark.submission, answers)
