"""Keep README and docs true: regenerate their generated parts, run their snippets.

    python scripts/docs.py            rewrite the generated parts
    python scripts/docs.py --check    fail where a generated part is out of date
    python scripts/docs.py --run      execute every sh and python snippet

A generated part stands between ``<!-- generated: NAME -->`` and ``<!-- end -->``. A snippet is a
fenced block of ``sh`` or ``python``; the first of README is left out here, because ``.ci/run``
begins with it.
"""

from __future__ import annotations

import ast
import io
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from itertools import groupby
from pathlib import Path
from typing import Any

import caption_files
import lwm_tables
import speed_tables
from api_page import api_page
from kinema.__main__ import main as kinema
from kinema.cli import COMMANDS
from kinema.evaluation.benchmarks import BENCHMARKS
from kinema.families import FAMILIES
from kinema.tasks.models import model_table

ROOT = Path(__file__).parents[1]
CAPABILITIES = ("video", "image", "mixed", "batched", "quantised", "streamed", "follow-up")
BESIDE = tuple(ROOT / name for name in ("examples", "scripts", "recipes"))
"""Folders that snippets find where they run."""
GENERATED = re.compile(r"(<!-- generated: (.+?) -->\n)(.*?)(<!-- end -->)", re.DOTALL)
SNIPPET = re.compile(r"^```(sh|python)\n(.*?)^```$", re.DOTALL | re.MULTILINE)


def pages() -> list[Path]:
    return [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def file_tree() -> str:
    """Every source file with the first line of its docstring."""
    lines = []
    for path in sorted((ROOT / "src" / "kinema").rglob("*.py")):
        summary = (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n")[0]
        lines.append(f"| `{path.relative_to(ROOT / 'src')}` | {summary} |")
    return "\n".join(["| file | what lives there |", "|---|---|", *lines])


def help_page(command: str) -> str:
    return f"```text\n{_printed(command.split())}```"


def first_answer() -> str:
    """What the second command of the README shows, word for word."""
    command = shlex.split(SNIPPET.findall((ROOT / "README.md").read_text())[0][1].splitlines()[1])
    words = [sys.executable, "-m", *command[2:]]
    done = subprocess.run(words, cwd=ROOT, capture_output=True, text=True, check=True)
    return f"```text\n{done.stdout}{done.stderr}```"


def family_table() -> str:
    """The families, a row each."""
    rows = ["| family | video | engines | example |", "|---|---|---|---|"]
    for row in model_table():
        takes = "yes" if row["video"] else "as timed images"
        example = row["example"] or row["title"]
        rows.append(f"| `{row['family']}` | {takes} | {', '.join(row['engines'])} | {example} |")
    return "\n".join(rows)


def benchmark_table() -> str:
    """The benchmarks, a row each."""
    rows = ["| name | benchmark | splits | files |", "|---|---|---|---|"]
    for row in BENCHMARKS.values():
        splits = ", ".join(row.splits)
        layout = re.sub(r"<(\w+)>", r"\<\1\>", row.layout)
        rows.append(f"| `{row.name}` | {row.title} | {splits} | {layout} |")
    return "\n".join(rows)


def metric_parity_table() -> str:
    """The committed comparison with pycocoevalcap."""
    found = _result("metric_parity")
    rows = ["| metric | kinema | pycocoevalcap | largest difference |", "|---|--:|--:|--:|"]
    for name, row in found["same_tokens"].items():
        largest = row["largest_item_difference"]
        rows.append(f"| {name} | {row['kinema']} | {row['reference']} | {largest} |")
    java = found["java"]
    facts = [
        f"Captions tokenised as by Stanford's tokenizer: {java['captions_tokenised_alike']}.",
        f"CIDEr-D over our tokens: {java['cider_d_over_own_tokens']},",
        f"over Stanford's: {java['cider_d_over_stanford_tokens']}.",
        f"METEOR (nltk, words and stems): {java['meteor_nltk_stems']};",
        f"METEOR 1.5 of the same captions: {java['meteor_1.5']}. The two are different metrics.",
    ]
    return "\n".join([*rows, "", *facts])


def recipe_commands() -> str:
    """The chain that recipes/tiny/run.py runs, as one would type it."""
    sys.path.insert(0, str(ROOT / "recipes" / "tiny"))
    from run import SIZES, steps  # noqa: PLC0415  recipes are no installed package

    commands = [words for _, words in steps(SIZES["small"], use_cpu=True)]
    lines = [shlex.join(words[1:]).removeprefix("-m ") for words in commands]
    typed = [line.replace(f"{ROOT}/", "python ") for line in lines]
    return "```text\n" + "\n".join(typed) + "\n```"


def recipe_table() -> str:
    """What recipes/tiny answers about held-out scenes, trained and after the warm start alone."""
    found = _result("recipe_tiny")
    rows = [
        "| asked | clips | right, % | without the video | chance | commonest answer | aim "
        "| nearest words alone |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for skill, row in found["trained"].items():
        names = ("items", "score", "blind", "chance", "most frequent answer", "bar")
        cells = [*(row[name] for name in names), found["nearest"][skill]["score"]]
        rows.append(f"| {skill} | {' | '.join(map(str, cells))} |")
    return "\n".join(rows)


def video_speed_table() -> str:
    """Sampled frames beside the fastest other reader that returns the same ones."""
    rows = [
        "| clip | frames | cores | kinema | fastest peer | gain | of the limit | peak memory |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for case in _result("video_read")["results"]:
        seconds, peer = case["seconds"], case["fastest_peer"]
        cells = [
            case["clip"],
            case["num_frames"],
            case["cores"],
            f"{seconds['kinema']:.2f} s",
            f"{peer} {seconds[peer]:.2f} s",
            f"{case['times_faster_than_fastest_peer']:.2f}×",
            f"{case['over_limit']:.2f}",
            f"{case['peak_mib']['kinema']:.0f} MiB",
        ]
        rows.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(rows)


def container_table() -> str:
    """Which files are read by an index and which from front to back, each held against a player."""
    sys.path.insert(0, str(ROOT / "tests"))
    from parity.cells import table  # noqa: PLC0415  the tests are no installed package

    return table(_result("containers")["measured"])


def _result(name: str) -> Any:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())


def capability_table() -> str:
    """What tests showed of each family on each engine; see tests/support/capabilities.py."""
    shown = json.loads((ROOT / "docs" / "capabilities.json").read_text(encoding="utf-8"))
    rows = [["family", "engine", *CAPABILITIES], ["---"] * (2 + len(CAPABILITIES))]
    for family in (name for name in FAMILIES if name in shown):
        for engine in (name for name in ("hf", "vllm", "openai") if name in shown[family]):
            verdicts = shown[family][engine]
            cells = [verdicts.get(capability, "not run") for capability in CAPABILITIES]
            rows.append([f"`{family}`", engine, *cells])
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def difference_table() -> str:
    """What scripts/differences.py found: kinema against transformers called directly."""
    found = json.loads((ROOT / "docs" / "differences.json").read_text(encoding="utf-8"))
    titles = list(next(iter(found.values())))
    rows = [["type", *titles], ["---"] * (1 + len(titles))]
    rows += [[f"`{name}`", *(cells[title] for title in titles)] for name, cells in found.items()]
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _printed(words: list[str]) -> str:
    printed = io.StringIO()
    with redirect_stdout(printed):
        kinema(words)
    return "\n".join(line.rstrip() for line in printed.getvalue().splitlines()) + "\n"


def fault_table() -> str:
    """The faults that a video may have and the tests that say what happens then."""
    sys.path.insert(0, str(ROOT / "tests"))
    from faults.rows import table  # noqa: PLC0415  the tests are no installed package

    return table()


def server_transcript() -> str:
    """A question and two follow-ups through OpenAI's client, and the waits for a first token."""
    lines = ["| question | first token, s |", "|---|--:|"]
    for turn in _result("serve")["follow-ups"]["result"]:
        lines.append(f"| {turn['question']} | {turn['first_token_seconds']:.2f} |")
    return "\n".join(lines)


def server_load() -> str:
    """What the server adds to an answer, what company gains, and minutes of many clients."""
    results = _result("serve")
    overhead, company, load = (results[n]["result"] for n in ("overhead", "company", "load"))
    looks = load["watched"]
    counts = sorted(load["statuses"].items())
    statuses = ", ".join(f"{count:,} with status {status}" for status, count in counts)
    rows = [
        ("added to an answer of the engine", f"{overhead['median_ms']:.1f} ms"),
        ("answers a second, one client", f"{company['one_per_second']:.2f}"),
        ("answers a second, 16 clients", f"{company['sixteen_per_second']:.2f}"),
        ("16 clients against one", f"{company['ratio']:.2f} ×"),
        (f"answers to {load['clients']} clients in {load['seconds'] / 60:g} minutes", statuses),
    ]
    names = {"rss_mib": "memory, MiB", "descriptors": "descriptors", "temporary_files": "files"}
    rows += [
        (f"{title}, before and after each minute", ", ".join(str(look[name]) for look in looks))
        for name, title in names.items()
    ]
    return "\n".join(["| | |", "|---|---|", *(f"| {left} | {right} |" for left, right in rows)])


GENERATORS: dict[str, Callable[[], str]] = {
    "tree": file_tree,
    "first answer": first_answer,
    "families": family_table,
    "caption files": caption_files.files,
    "lwm parity": lwm_tables.parity,
    "lwm speed": lwm_tables.speed,
    "lwm memory": lwm_tables.memory,
    "follow-ups": speed_tables.follow_ups,
    "questions": speed_tables.questions,
    "faults": fault_table,
    "video speed": video_speed_table,
    "containers": container_table,
    "api": api_page,
    "server transcript": server_transcript,
    "server load": server_load,
    "capabilities": capability_table,
    "differences": difference_table,
    "help": lambda: help_page("--help"),
    "benchmarks": benchmark_table,
    "metric parity": metric_parity_table,
    "recipe commands": recipe_commands,
    "recipe tiny": recipe_table,
    **{f"help {name}": (lambda name=name: help_page(f"{name} --help")) for name in COMMANDS},
}


def regenerate(text: str) -> str:
    """The page with every generated part made again."""

    def fresh(match: re.Match[str]) -> str:
        opening, name, _, closing = match.groups()
        return f"{opening}{GENERATORS[name]()}\n{closing}"

    return GENERATED.sub(fresh, text)


def write_or_check(check: bool) -> int:
    stale = []
    for page in pages():
        text = page.read_text()
        fresh = regenerate(text)
        if fresh != text:
            stale.append(page.relative_to(ROOT))
            if not check:
                page.write_text(fresh)
    for page in stale:
        print(f"{page} {'is out of date: run python scripts/docs.py' if check else 'rewritten'}")
    text = "".join(page.read_text() for page in pages())
    unexplained = [name for name in COMMANDS if f"generated: help {name} -->" not in text]
    for name in unexplained:
        print(f"no page has <!-- generated: help {name} -->")
    return int((check and bool(stale)) or bool(unexplained))


def snippets() -> Iterator[tuple[Path, str, str]]:
    for page in pages():
        found = SNIPPET.findall(page.read_text())
        for language, code in found[1:] if page.name == "README.md" else found:
            yield page, language, code


STAND_INS = {
    "LanguageBind/Video-LLaVA-7B-hf": "support.checkpoints:make_wide_video_llava",
    "MBZUAI/Video-ChatGPT-7B": "support.released_videochatgpt:write_named_projection",
    "mmaaz60/LLaVA-7B-Lightening-v1-1": "support.released_videochatgpt:write_named_base",
    "neva": "support.released_neva:write_shelf",
    "openai/clip-vit-large-patch14": "support.videolm:make_clip_tower",
}
"""Small checkpoints in the forms of real ones, with random weights, and what writes each."""
MAKE_STAND_INS = """
import importlib, pathlib, sys
for name, maker in zip(sys.argv[1::2], sys.argv[2::2]):
    module, _, function = maker.partition(":")
    getattr(importlib.import_module(module), function)(pathlib.Path(name).absolute())
"""


def make_stand_ins(shared: Path) -> None:
    """Write them below a folder; snippets find what is in it."""
    paths = [str(ROOT / name) for name in ("src", "tests", "examples")]
    subprocess.run(
        [
            sys.executable,
            "-c",
            MAKE_STAND_INS,
            *(word for row in STAND_INS.items() for word in row),
        ],
        cwd=shared,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(paths)},
    )


def run_all() -> int:
    """Run every snippet, the ones of a page in one temporary folder beside the examples."""
    failed = 0
    with tempfile.TemporaryDirectory() as shared:
        make_stand_ins(Path(shared))
        for _, of_page in groupby(snippets(), key=lambda snippet: snippet[0]):
            with tempfile.TemporaryDirectory() as scratch:
                for target in (*BESIDE, *Path(shared).iterdir()):
                    (Path(scratch) / target.name).symlink_to(target)
                failed += sum(not run(*snippet, scratch) for snippet in of_page)
    return int(failed > 0)


def run(page: Path, language: str, code: str, folder: str) -> bool:
    """Whether a snippet ends well; what it printed is shown where it does not."""
    command = ["bash", "-euc", code] if language == "sh" else [sys.executable, "-c", code]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    well = done.returncode == 0
    print(f"{'ok    ' if well else 'FAILED'} {page.name}: {_title(code)}", flush=True)
    if not well:
        print(done.stdout[-2000:], done.stderr[-2000:])
    return well


def _title(code: str) -> str:
    return code.strip().splitlines()[0]


if __name__ == "__main__":
    sys.exit(run_all() if "--run" in sys.argv else write_or_check("--check" in sys.argv))
