"""``kinema data``: data to train on, made, validated and measured."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from kinema.cli.flags import ConvertFlags
from kinema.cli.output import bar, put, put_record, put_table, say
from kinema.errors import PartialFailure, UsageError
from kinema.tasks.data.check import check_data
from kinema.tasks.data.convert import ConvertOptions
from kinema.tasks.data.convert import convert as convert_data
from kinema.tasks.data.stats import data_stats


def convert(
    format: str,
    source: Path | None = None,
    /,
    *,
    output: Annotated[Path, Parameter(alias=("-o", "--output-json-file"))],
    input_json_file: Path | None = None,
    options: ConvertFlags = ConvertOptions(),
) -> int:
    """Make data to train on: one JSON object a line, in one format for all.

    Formats: breakfast, 50salads, video-chatgpt, llava, neva, sharegpt, messages, dataset; auto
    reads any of the last five and says which it saw. Breakfast and 50Salads are split by person.

    Examples:
      kinema data convert breakfast BreakfastII_15fps_qvga_sync/ -o data/ --fold 1 --grid 1000
      kinema data convert video-chatgpt VideoInstruct100K.json -o train.jsonl --media videos/
      kinema data convert auto chat.json -o train.jsonl --features features/

    Args:
        format: What the source is.
        source: Its folder or file.
        output: A .jsonl file, a .json file as Video-ChatGPT trains on, or a folder for
            train.jsonl and test.jsonl.
        input_json_file: Video-ChatGPT's name for SOURCE; beside SOURCE, for --questions.
    """
    if input_json_file is not None and source is not None:
        options = replace(options, questions=input_json_file)
    source = source or input_json_file
    if source is None:
        raise UsageError("There is nothing to convert.", hint="Give SOURCE, a file or folder.")
    done = convert_data(format, source, output, options)
    for note in done.notes:
        say(note)
    for path, samples in done.files.items():
        say(f"{samples} samples are in {path}.")
    return 0


def check(
    data: Path,
    /,
    *,
    media: Path | None = None,
    decode: Annotated[bool, Parameter(negative="--no-decode")] = True,
    workers: int = 2,
    model: Annotated[str | None, Parameter(alias="-m")] = None,
    model_max_length: int | None = None,
    json: bool = False,
) -> int:
    """Validate data before any time on a GPU is spent.

    Tags and media agree, files exist and decode, roles alternate, there is something to learn, and
    with --model every sample fits. Every bad row is named with its line; the exit status is 3 when
    there is one.

    Examples:
      kinema data check train.jsonl
      kinema data check train.jsonl --model MODEL_FOLDER --model-max-length 2048
      kinema data check chat.json --media videos/ --no-decode

    Args:
        data: A .jsonl, .json or .parquet file of any known shape, or a folder of them.
        media: Folder that media names are relative to, instead of the file's.
        decode: Decode two frames of each video.
        workers: Processes that decode.
        model: The VideoLM to train; its tokens are counted, no weights are loaded.
        model_max_length: Tokens of the longest sample; the model's context when left out.
        json: Print one JSON record.
    """
    report = check_data(
        data,
        media=media,
        decode=decode,
        workers=workers,
        model=model,
        max_length=model_max_length,
    )
    if json:
        put_record(report.to_dict())
    else:
        for row in report.bad:
            for problem in row.problems:
                put(f"{data}:{row.line}: {problem}")
    shapes = ", ".join(f"{count} in the shape {shape!r}" for shape, count in report.shapes.items())
    say(f"{report.rows} rows, {report.media} media{f'; {shapes}' if shapes else ''}.")
    if (longest := report.longest) is not None:
        said = f"has {longest.tokens} of {longest.limit} tokens"
        say(f"The longest sample, line {longest.line}, {said}.")
    if report.bad:
        raise PartialFailure(
            f"{len(report.bad)} of {report.rows} rows cannot be learned from.",
            hint="Repair or remove those lines.",
        )
    return 0


def stats(
    data: Path, /, *, media: Path | None = None, plot: Path | None = None, json: bool = False
) -> int:
    """Show lengths, labels and durations of data.

    Examples:
      kinema data stats train.jsonl --plot train.png

    Args:
        data: A .jsonl, .json or .parquet file of any known shape, or a folder of them.
        media: Folder that media names are relative to, instead of the file's.
        plot: Draw the histograms into this .png file.
        json: Print one JSON record.
    """
    found = data_stats(data, media=media)
    if plot is not None:
        from kinema.tasks.data.plot import save_plot  # noqa: PLC0415  imports Pillow

        save_plot(found, plot)
    if json:
        put_record(found.to_dict())
        return 0
    put(f"{found.samples} samples, {found.media} videos ({found.unreadable} unreadable)")
    for histogram in found.histograms:
        put(f"\n{histogram.title}: median {histogram.median:g}")
        most = max(histogram.counts)
        steps = zip(histogram.edges, histogram.edges[1:], histogram.counts, strict=False)
        put_table([[f"{a:.3g}-{b:.3g}", str(n), bar(n, most)] for a, b, n in steps if n])
    if found.labels:
        put("\nsegments by label")
        most = max(found.labels.values())
        put_table([[label, str(n), bar(n, most)] for label, n in found.labels.items()])
    return 0
