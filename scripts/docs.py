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
import re
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from pathlib import Path

from kinema.__main__ import main as kinema
from kinema.tasks.models import model_table

ROOT = Path(__file__).parents[1]
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


def _printed(words: list[str]) -> str:
    printed = io.StringIO()
    with redirect_stdout(printed):
        kinema(words)
    return "\n".join(line.rstrip() for line in printed.getvalue().splitlines()) + "\n"


GENERATORS: dict[str, Callable[[], str]] = {
    "tree": file_tree,
    "first answer": first_answer,
    "families": family_table,
    "help": lambda: help_page("--help"),
    **{
        f"help {name}": (lambda name=name: help_page(f"{name} --help"))
        for name in ("chat", "caption", "answer", "probe", "models", "doctor")
    },
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
    return int(check and bool(stale))


def snippets() -> Iterator[tuple[Path, str, str]]:
    for page in pages():
        found = SNIPPET.findall(page.read_text())
        for language, code in found[1:] if page.name == "README.md" else found:
            yield page, language, code


def run_all() -> int:
    """Run every snippet from the repository's root; what it writes goes to a temporary folder."""
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        (Path(scratch) / "examples").symlink_to(ROOT / "examples")
        for page, language, code in snippets():
            command = ["bash", "-euc", code] if language == "sh" else [sys.executable, "-c", code]
            done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)
            print(f"{'ok    ' if done.returncode == 0 else 'FAILED'} {page.name}: {_title(code)}")
            if done.returncode != 0:
                failed += 1
                print(done.stdout[-2000:], done.stderr[-2000:])
    return int(failed > 0)


def _title(code: str) -> str:
    return code.strip().splitlines()[0]


if __name__ == "__main__":
    sys.exit(run_all() if "--run" in sys.argv else write_or_check("--check" in sys.argv))
