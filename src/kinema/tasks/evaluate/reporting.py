"""One report over several runs: scores, differences, categories, worst items, the command."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from kinema.errors import KinemaError, UsageError
from kinema.evaluation.answers import Answer, read_answer
from kinema.evaluation.metrics import METRICS, segment_frames
from kinema.evaluation.report import (
    Block,
    Code,
    Heading,
    Picture,
    Table,
    Text,
    to_html,
    to_markdown,
)
from kinema.evaluation.scoring import Score, is_hidden, measure, worst_answers
from kinema.evaluation.statistics import Difference, paired_difference
from kinema.evaluation.timeline import draw_timeline
from kinema.files import write_atomically
from kinema.messages import SamplingParams
from kinema.tasks.evaluate.judging import read_judgement
from kinema.tasks.evaluate.questions import video_of
from kinema.tasks.evaluate.stored import Run
from kinema.video import contact_sheet, load_frames

MARKDOWN, HTML = "report.md", "report.html"
_WORST = 5
_MOST_TIMELINES = 100


def write_report(
    runs: Sequence[Run], output: Path, *, failed: Mapping[str, KinemaError] = {}
) -> None:
    """Write ``report.md`` and ``report.html`` with their pictures into ``output``.

    Args:
        runs: those that are complete.
        output: the folder of all runs.
        failed: names of the runs that could not be finished, and why.
    """
    blocks = report_blocks(runs, output)
    # Above the command.
    blocks[2:2] = [Text(f"Not measured: {name}. {why.sentence}") for name, why in failed.items()]
    title = f"{runs[0].benchmark.title}, {runs[0].about['split']}"
    write_atomically(output / MARKDOWN, to_markdown(blocks))
    write_atomically(output / HTML, to_html(blocks, title=title))


def report_blocks(runs: Sequence[Run], output: Path) -> list[Block]:
    """Everything the report says."""
    first = runs[0]
    return [
        Heading(f"{first.benchmark.title}, {first.about['split']}", 1),
        Text(_what_was_measured(first)),
        Code(command_of(runs, output)),
        *_score_blocks(runs),
        *_difference_blocks(runs),
        *_answer_blocks(runs),
        *_judge_blocks(runs),
        *_category_blocks(runs),
        *(block for run in runs for block in _worst_blocks(run, output)),
    ]


def _what_was_measured(run: Run) -> str:
    limit = f"the first {run.scores.items}" if run.about["limit"] else f"{run.scores.items}"
    official = run.benchmark.counts.get(run.about["split"])
    note = f" (officially {official})" if official and official != run.scores.items else ""
    return (
        f"Scores over {limit} items{note}: missing and unparsed answers count as wrong. "
        f"Intervals are 95 %, clustered by video. Preset {run.about['preset']}; "
        f"annotations {run.about['data_sha256'][:16]}."
    )


def _score_blocks(runs: Sequence[Run]) -> list[Block]:
    names = list(dict.fromkeys(name for run in runs for name in run.scores.metrics))
    rows = [
        [_title(name), *(_cell(run.scores.metrics.get(name)) for run in runs)] for name in names
    ]
    macro = runs[0].benchmark.macro_over
    several = len({r.item.groups.get(macro) for r in runs[0].records}) > 1
    blocks: list[Block] = [Heading("Scores"), Table(["metric", *(r.name for r in runs)], rows)]
    if macro and several:
        blocks.append(Text(f"Scores are means over the values of {macro}."))
    reasons = {why for run in runs for why in run.scores.unavailable.values()}
    return [*blocks, *(Text(f"Not computed: {why}") for why in sorted(reasons))]


def _title(name: str) -> str:
    metric = METRICS[name]
    return f"{metric.title} (lower is better)" if metric.lower_is_better else metric.title


def _cell(score: Score | None) -> str:
    if score is None or math.isnan(score.score):
        return "–"
    if score.interval is None:
        return f"{score.score:.2f}"
    return f"{score.score:.2f} [{score.interval.low:.2f}, {score.interval.high:.2f}]"


def compare_runs(one: Run, other: Run) -> dict[str, Difference]:
    """The first run minus the second, metric by metric, on the same items.

    Raises:
        UsageError: the runs are not about the same items.
    """
    ours = [a for a in map(read_answer, one.records) if not is_hidden(a)]
    theirs = [a for a in map(read_answer, other.records) if not is_hidden(a)]
    if [a.item for a in ours] != [a.item for a in theirs]:
        raise UsageError(
            f"{one.folder} and {other.folder} are not about the same items.",
            hint="Compare runs on the same files, split and limit.",
        )
    shared = one.scores.metrics.keys() & other.scores.metrics.keys()
    return {
        name: _difference(ours, theirs, name, one.benchmark.macro_over)
        for name in one.scores.metrics
        if name in shared
    }


def _difference(
    ours: Sequence[Answer], theirs: Sequence[Answer], name: str, macro_over: str
) -> Difference:
    metric = METRICS[name]
    mine = [a for a in ours if a.item.task in metric.tasks]
    yours = [a for a in theirs if a.item.task in metric.tasks]
    clusters = [a.record.cluster for a in mine]
    return paired_difference(
        measure(mine, metric, macro_over), measure(yours, metric, macro_over), clusters
    )


def _difference_blocks(runs: Sequence[Run]) -> list[Block]:
    """The headline of every run against the first."""
    if len(runs) < 2:
        return []
    rows = []
    for run in runs[1:]:
        name = runs[0].scores.headline
        found = compare_runs(runs[0], run).get(name)
        if found is not None:
            rows.append([run.name, *difference_cells(found)])
    header = ["against", f"{runs[0].name} is better by", "95 % interval", "p"]
    return [Heading("Differences"), Table(header, rows)] if rows else []


def difference_cells(found: Difference) -> list[str]:
    """Value, interval and p-value for people."""
    reach = found.interval
    return [
        f"{found.value:+.2f}",
        f"[{reach.low:+.2f}, {reach.high:+.2f}]" if reach else "–",
        "–" if found.p_value is None else f"{found.p_value:.4f}",
    ]


def _answer_blocks(runs: Sequence[Run]) -> list[Block]:
    def on_answered(run: Run) -> str:
        score = run.scores.metrics.get(run.scores.headline)
        return "–" if score is None else f"{score.score_on_answered:.2f}"

    rows = [
        ["answered", *(f"{r.scores.answered} of {r.scores.items}" for r in runs)],
        ["score on answered", *map(on_answered, runs)],
        ["unparsed", *(f"{r.scores.unparsed} ({r.scores.unparsed_rate:.1%})" for r in runs)],
    ]
    for code in sorted({code for run in runs for code in run.scores.errors}):
        rows.append([f"error: {code}", *(str(r.scores.errors.get(code, 0)) for r in runs)])
    for name in dict.fromkeys(name for run in runs for name in run.scores.notes):
        counts = (str(run.scores.notes.get(name, 0)) for run in runs)
        rows.append([name.replace("_", " "), *counts])
    return [Heading("Answers"), Table(["", *(r.name for r in runs)], rows)]


def _judge_blocks(runs: Sequence[Run]) -> list[Block]:
    blocks: list[Block] = []
    for run in runs:
        found = read_judgement(run)
        if found is None:
            continue
        values = {name: v for name, v in found.items() if isinstance(v, dict)}
        rows = [
            [name, f"{v['value']:.2f}", str(v["interval"] or "–")] for name, v in values.items()
        ]
        said = f"{found['judge']}, prompt {found['prompt_sha256']}, {found['date']}"
        blocks += [
            Heading(f"Judged: {run.name}"),
            Text(f"Judge: {said}; {found['unjudged']} of {found['cases']} without a verdict."),
            Table(["judged", "mean", "95 % interval"], rows),
        ]
    return blocks


def _category_blocks(runs: Sequence[Run]) -> list[Block]:
    blocks: list[Block] = []
    for group in runs[0].scores.tables:
        for name in _table_metrics(runs[0], group):
            rows = [
                [value, f"{row['items']:g}", *(_number(r, group, value, name) for r in runs)]
                for value, row in runs[0].scores.tables[group].items()
            ]
            title = METRICS[name].title
            blocks += [
                Heading(f"By {group.replace('_', ' ')}: {title}"),
                Table([group, "items", *(r.name for r in runs)], rows),
            ]
    return blocks


def _table_metrics(run: Run, group: str) -> list[str]:
    """The first metric of each task that the table has."""
    rows = run.scores.tables.get(group, {}).values()
    present = [name for name in run.scores.metrics if any(name in row for row in rows)]
    firsts: dict[tuple[str, ...], str] = {}
    for name in present:
        firsts.setdefault(METRICS[name].tasks, name)
    return list(firsts.values())


def _number(run: Run, group: str, value: str, name: str) -> str:
    number = run.scores.tables.get(group, {}).get(value, {}).get(name, math.nan)
    return "–" if math.isnan(number) else f"{number:.2f}"


def _worst_blocks(run: Run, output: Path) -> list[Block]:
    worst = worst_answers(run.records, run.benchmark, limit=_WORST)
    blocks: list[Block] = [Heading(f"Worst items of {run.name}")] if worst else []
    for answer, score in worst:
        item, prediction = answer.item, answer.record.prediction
        right = item.options[item.answer] if item.answer is not None else "; ".join(item.references)
        blocks += [
            Heading(f"{item.id}: {score:.1f}", 3),
            Text(f"Asked: {_shortened(item.question)}"),
            Text(f"Right: {_shortened(right)}"),
            Text(f"Said: {_shortened(str(prediction.reply))}"),
            *_pictures(run, answer, output),
        ]
    return blocks


def _shortened(text: str, length: int = 300) -> str:
    words = " ".join(text.split())
    return words if len(words) <= length else words[: length - 1] + "…"


def _pictures(run: Run, answer: Answer, output: Path) -> list[Block]:
    """The frames that the model saw, and for segments the timeline."""
    place = run.folder / "pictures"
    place.mkdir(exist_ok=True)
    name = safe_name(answer.item.id)
    blocks: list[Block] = []
    if answer.item.task == "segments":
        path = place / f"{name}-timeline.png"
        _draw(answer, path)
        title = f"{answer.item.id}: prediction over truth"
        blocks.append(Picture(path.relative_to(output).as_posix(), title))
    if sheet := _sheet(run, answer, place / f"{name}.png"):
        blocks.append(Picture(sheet.relative_to(output).as_posix(), f"{answer.item.id}: frames"))
    return blocks


def _sheet(run: Run, answer: Answer, path: Path) -> Path | None:
    seen = answer.record.prediction.frames
    root = Path(run.about["data"])
    if not seen or not answer.item.video:
        return None
    times = tuple(float(t) for t in seen[0]["seconds"])
    try:
        frames = load_frames(video_of(answer.item, root), at=times)
    except KinemaError:  # the data may be elsewhere when a run is scored again
        return None
    contact_sheet(frames).save(path)
    return path


def write_timelines(run: Run) -> int:
    """``timelines/<video>.png`` of a segmentation run; returns how many were drawn."""
    answers = [read_answer(r) for r in run.records if r.item.task == "segments"]
    place = run.folder / "timelines"
    for answer in answers[:_MOST_TIMELINES]:
        place.mkdir(exist_ok=True)
        _draw(answer, place / f"{safe_name(answer.item.id)}.png")
    return min(len(answers), _MOST_TIMELINES)


def _draw(answer: Answer, path: Path) -> None:
    said, truth = segment_frames(answer)
    draw_timeline(said, truth, title=answer.item.id).save(path)


def safe_name(item_id: str) -> str:
    """An item's id as a file name."""
    return re.sub(r"[^\w.+-]+", "_", item_id).strip("_.")[:120] or "item"


def command_of(runs: Sequence[Run], output: Path) -> str:
    """The command that makes these runs again."""
    about = runs[0].about
    words = ["kinema", "eval", about["benchmark"], about["data"], "--split", about["split"]]
    for model in dict.fromkeys(run.about["model"] for run in runs):
        words += ["--model", model]
    words += ["--engine", about["engine"]]
    words += ["--blind"] if any(run.about["blind"] for run in runs) else []
    words += ["--preset", about["preset"]]
    words += ["--limit", str(about["limit"])] if about["limit"] else []
    words += ["--rank-options"] if about["rank_options"] else []
    plain = SamplingParams().to_dict()
    changed = {k: v for k, v in about["params"].items() if v != plain[k]}
    flags = {**about["sampling"], **changed, **about["parts"], **about["loading"], **_judge(runs)}
    for name, value in flags.items():
        words += _flag(name, value)
    return shlex.join([*words, "--output", str(output)])


def _judge(runs: Sequence[Run]) -> dict[str, str]:
    """Who judged the runs, as flags."""
    for run in runs:
        if found := read_judgement(run):
            flags = {"judge": found["address"], "judge_model": found["judge"]}
            return flags if found["address"] != found["judge"] else {"judge": found["judge"]}
    return {}


def _flag(name: str, value: Any) -> list[str]:
    flag = "--" + name.replace("_", "-")
    if value is True:
        return [flag]
    values = value if isinstance(value, list) else [value]
    return [word for v in values for word in (flag, str(v))]
