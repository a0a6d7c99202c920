"""What a checkout measures: size, the machinery of jobs, settings, import cycles, comments.

    python scripts/figures.py                    this checkout, as a table
    python scripts/figures.py --repo DIR --json  another one, for a program

Two layouts are measured side by side, and of each what exists: the first one, in which every verb
had a pipeline of its own, and the one that has ``kinema/jobs`` and a scheduler. Statements are
nodes of the syntax tree, docstrings left out, so that neither layout nor prose changes them.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import re
import tokenize
from collections.abc import Iterable, Iterator, Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

FIRST_LAYOUT = (
    "tasks/answer.py",
    "tasks/answer_record.py",
    "tasks/parallel.py",
    *(
        f"tasks/caption/{name}.py"
        for name in (
            *("job", "feed", "session", "plan", "describe", "asking", "work", "memo", "progress"),
            *("ray_runner", "stage"),
        )
    ),
    *(f"tasks/evaluate/{name}.py" for name in ("feeding", "predicting", "runs", "judging")),
    *(f"tasks/features/{name}.py" for name in ("job", "pipeline")),
    "server/batcher.py",
    "server/lending.py",
    "ledger.py",
)
"""23 files, which had 4,304 lines when the second layout was begun."""

SECOND_LAYOUT = (
    "jobs/**/*.py",
    "engines/scheduler.py",
    *(f"tasks/{verb}/**/*.py" for verb in ("answer", "caption", "evaluate", "features")),
)
VERBS: Mapping[str, tuple[str, ...]] = {
    "answer": ("tasks/answer.py", "tasks/answer_record.py", "tasks/answer/**/*.py"),
    "caption": ("tasks/caption/**/*.py",),
    "evaluate": ("tasks/evaluate/**/*.py",),
    "features": ("tasks/features/**/*.py",),
}
_REFERENCE = re.compile(r"(kinema(?:\.\w+)*):\w[\w.]*")


class Module:
    """One source file."""

    def __init__(self, path: Path, package: Path) -> None:
        self.path = path
        self.text = path.read_text(encoding="utf-8")
        self.tree = ast.parse(self.text)
        words = path.relative_to(package.parent).with_suffix("").parts
        self.is_package = words[-1] == "__init__"
        self.name = ".".join(words[:-1] if self.is_package else words)

    @cached_property
    def docstrings(self) -> list[ast.stmt]:
        """Texts that stand first in something, and those behind a field."""
        bodies = (getattr(node, "body", None) for node in ast.walk(self.tree))
        statements = (stmt for body in bodies if isinstance(body, list) for stmt in body)
        return [
            stmt
            for stmt in statements
            if isinstance(stmt, ast.Expr)
            and isinstance(stmt.value, ast.Constant)
            and isinstance(stmt.value.value, str)
        ]

    @property
    def num_lines(self) -> int:
        return len(self.text.splitlines())

    @property
    def num_statements(self) -> int:
        every = sum(isinstance(node, ast.stmt) for node in ast.walk(self.tree))
        return every - len(self.docstrings)

    @property
    def num_docstring_lines(self) -> int:
        return sum((s.end_lineno or s.lineno) - s.lineno + 1 for s in self.docstrings)

    @property
    def num_comment_lines(self) -> int:
        """Lines that are a comment; what stands behind code does not count."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return sum(t.type == tokenize.COMMENT and t.line.lstrip().startswith("#") for t in tokens)

    def references(self) -> Iterator[tuple[str, str]]:
        """(kind, dotted name) of all that this file refers to, now or later, also as text."""
        yield from _imports(self.tree.body, "import")
        for node in ast.walk(self.tree):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield from _imports(node.body, "function")
            text = node.value if isinstance(node, ast.Constant) else None
            if isinstance(text, str) and (found := _REFERENCE.fullmatch(text)):
                yield "text", found[1]

    def settings(self) -> Iterator[int]:
        """Number of fields of each frozen dataclass that looks like settings.

        Three of four fields or more have a default: nobody has to choose, and somebody may.
        """
        for node in ast.walk(self.tree):
            if isinstance(node, ast.ClassDef) and any(map(_is_frozen, node.decorator_list)):
                made = [s for s in node.body if isinstance(s, ast.AnnAssign) and not _is_shared(s)]
                defaults = sum(s.value is not None for s in made)
                if made and defaults >= 0.75 * len(made):
                    yield len(made)


def _is_shared(field: ast.AnnAssign) -> bool:
    return "ClassVar" in ast.unparse(field.annotation)


def _is_frozen(decorator: ast.expr) -> bool:
    return isinstance(decorator, ast.Call) and "frozen=True" in ast.unparse(decorator)


def _imports(body: Iterable[ast.stmt], kind: str) -> Iterator[tuple[str, str]]:
    """Imports among these statements, and inside their conditions; not inside functions."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from ((kind, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield from ((kind, f"{node.module}.{alias.name}") for alias in node.names)
        elif isinstance(node, ast.If | ast.Try | ast.ClassDef | ast.With | ast.For | ast.While):
            typing = isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
            yield from _imports(node.body, "typing" if typing else kind)
            for name in ("orelse", "finalbody"):
                yield from _imports(getattr(node, name, ()), kind)


def cycles(modules: Iterable[Module], kinds: Iterable[str]) -> list[list[str]]:
    """Groups of modules that lead to each other.

    A package's ``__init__`` that is imported on the way to a module in it is not counted.
    """
    by_name = {module.name: module for module in modules}
    graph: dict[str, set[str]] = {name: set() for name in by_name}
    for name, module in by_name.items():
        for kind, wanted in module.references():
            # ``from kinema.video import pyav`` names a module, ``import Frames`` something in one.
            target = next((t for t in (wanted, wanted.rpartition(".")[0]) if t in by_name), name)
            if kind in kinds and target != name:
                graph[name].add(target)
    return sorted(sorted(group) for group in components(graph) if len(group) > 1)


def components(graph: Mapping[str, Iterable[str]]) -> list[list[str]]:
    """The strongly connected components of a graph (Tarjan 1972)."""
    found: list[list[str]] = []
    stack: list[str] = []
    index: dict[str, int] = {}
    low: dict[str, int] = {}

    def visit(node: str) -> None:
        index[node] = low[node] = len(index)
        stack.append(node)
        for target in graph[node]:
            if target not in index:
                visit(target)
                low[node] = min(low[node], low[target])
            elif target in stack:
                low[node] = min(low[node], index[target])
        if low[node] == index[node]:
            start = stack.index(node)
            found.append(stack[start:])
            del stack[start:]

    for node in graph:
        if node not in index:
            visit(node)
    return found


def figures(package: Path) -> dict[str, Any]:
    """All figures of a source folder ``.../src/kinema``."""
    modules = {path: Module(path, package) for path in sorted(package.rglob("*.py"))}

    def part(patterns: Iterable[str]) -> dict[str, int]:
        paths = {path for pattern in patterns for path in package.glob(pattern)}
        return _size([modules[path] for path in paths])

    every = list(modules.values())
    lines = sum(module.num_lines for module in every)
    settings = [count for module in every for count in module.settings()]
    return {
        "src": _size(every),
        "first layout": part(FIRST_LAYOUT),
        "second layout": part(SECOND_LAYOUT),
        "verbs": {verb: part(patterns) for verb, patterns in VERBS.items()},
        "settings": {"classes": len(settings), "fields": sum(settings)},
        "cycles": {
            "of imports": cycles(every, ["import"]),
            "and for type checkers": cycles(every, ["import", "typing"]),
            "and inside functions": cycles(every, ["import", "typing", "function"]),
            "and in text": cycles(every, ["import", "typing", "function", "text"]),
        },
        "references in text": sum(k == "text" for m in every for k, _ in m.references()),
        "comment percent": round(100 * sum(m.num_comment_lines for m in every) / lines, 2),
        "docstring percent": round(100 * sum(m.num_docstring_lines for m in every) / lines, 2),
    }


def _size(modules: list[Module]) -> dict[str, int]:
    return {
        "files": len(modules),
        "lines": sum(module.num_lines for module in modules),
        "statements": sum(module.num_statements for module in modules),
    }


def table(found: Mapping[str, Any]) -> str:
    """The figures for people."""
    sizes = {
        "src": found["src"],
        "jobs, first layout": found["first layout"],
        "jobs, second layout": found["second layout"],
        **{f"tasks/{verb}": size for verb, size in found["verbs"].items()},
    }
    rows = [f"{'':24}{'files':>8}{'lines':>8}{'statements':>12}"]
    for name, size in sizes.items():
        rows.append(f"{name:24}{size['files']:8}{size['lines']:8}{size['statements']:12}")
    settings = found["settings"]
    rows += [
        "",
        f"settings: {settings['classes']} classes, {settings['fields']} fields",
        f"references in text: {found['references in text']}",
        f"of all lines: comments {found['comment percent']} %, "
        f"docstrings {found['docstring percent']} %",
    ]
    for name, groups in found["cycles"].items():
        rows.append(f"cycles {name}: {len(groups)}")
        rows += [f"  {', '.join(group)}" for group in groups]
    return "\n".join(rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--repo", type=Path, default=Path(__file__).parents[1])
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    found = figures(options.repo / "src" / "kinema")
    print(json.dumps(found, indent=2) if options.json else table(found))


if __name__ == "__main__":
    main()
