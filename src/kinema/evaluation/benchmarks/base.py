"""What a benchmark is: where its files are, what it asks, how it is scored."""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from kinema.errors import UsageError
from kinema.evaluation.records import Item
from kinema.files import PICTURE_SUFFIXES, VIDEO_SUFFIXES
from kinema.textfiles import read_json, read_table, read_text


@dataclass(frozen=True)
class Style:
    """The words around a question.

    ``{question}``, ``{sentence}`` (the same with a capital and a question mark), ``{options}`` and
    ``{subtitles}`` are filled in.
    """

    template: str
    option: str = "{letter}. {text}"
    unlettered: str = "{question}\nAnswer with one of: {options}."
    """The template of options that are shown without letters."""
    system: str = ""
    """System prompt, instead of the model family's own."""


@dataclass(frozen=True)
class WrongRow:
    """A field of a row that cannot be used."""

    line: int
    """Counted from one."""
    field: str
    value: Any
    """As it was given; None where it was not."""
    allowed: str

    def __str__(self) -> str:
        given = json.dumps(self.value, ensure_ascii=False)
        given = "not given" if self.value is None else f"{given[:60]}{'…' * (len(given) > 60)}"
        return f"line {self.line}: {self.field} is {given}; it must be {self.allowed}"


class WrongRows(UsageError):
    """Rows of a file of one's own that cannot be asked or scored.

    Attributes:
        rows: each wrong field.
        items: of the other rows.
    """

    def __init__(self, path: Path, rows: Sequence[WrongRow], items: list[Item]) -> None:
        more = len({row.line for row in rows}) - 1
        super().__init__(
            f"{path}, {rows[0]}." + (f" {more} more rows are wrong." if more else ""),
            hint=f"`kinema eval check jsonl {path}` lists all that is wrong." if more else "",
        )
        self.rows = tuple(rows)
        self.items = items


@dataclass(frozen=True, kw_only=True)
class Benchmark:
    """One row of the table of benchmarks."""

    name: str
    title: str
    layout: str
    """The files it is read from, relative to the folder that the user gives."""
    read: Callable[[Folder, str], list[Item]]
    """Called with the folder and a split."""
    metrics: tuple[str, ...] = ("accuracy",)
    """Names in the table of metrics; the first one is the headline."""
    splits: tuple[str, ...] = ("test",)
    counts: Mapping[str, int] = field(default_factory=dict)
    """Items of the official split, to notice half a download."""
    macro_over: str = ""
    """The headline is the mean over the values of this group, as its authors define it."""
    tables: tuple[str, ...] = ()
    """Groups that get a table in the report; ``*`` stands for all that the items name."""
    judge: str = ""
    """The judge protocol its authors use."""
    submission: str = ""
    """File that its server wants, when the answers are hidden."""

    def items(self, root: Path, *, split: str = "") -> list[Item]:
        """Every item of a split.

        Raises:
            UsageError: no such split, a file is missing, or it is not in the official layout.
        """
        split = split or self.splits[0]
        if split not in self.splits:
            raise UsageError(
                f"{self.title} has no split {split!r}.", hint=f"It has {', '.join(self.splits)}."
            )
        folder = Folder(root, self)
        try:
            items = self.read(folder, split)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as problem:
            raise UsageError(
                f"{root} is not in the layout of {self.title}: {type(problem).__name__} {problem}.",
                hint=f"Expected: {self.layout}",
            ) from problem
        if not items:
            raise UsageError(
                f"{root} holds no item of {self.title}.", hint=f"Expected: {self.layout}"
            )
        (name, count), *_ = Counter(item.id for item in items).most_common(1)
        if count > 1:
            raise UsageError(f"{self.title}: the id {name!r} occurs twice.", hint="Ids are unique.")
        return items


class Folder:
    """A benchmark's files on disk, found wherever its mirrors put them."""

    def __init__(self, root: Path, benchmark: Benchmark) -> None:
        if not root.exists():
            raise UsageError(
                f"There is no folder {root}.",
                hint=f"Give the folder with {benchmark.layout}; nothing is downloaded.",
            )
        self.root = root
        self.name = benchmark.name
        self.read_files: list[Path] = []
        self._layout = benchmark.layout

    def path(self, *names: str) -> Path:
        """The first of some relative names that exists, in the root or one folder below.

        Raises:
            UsageError: none does.
        """
        found = self.maybe(*names)
        if found is None:
            raise UsageError(
                f"{self.root} holds no {' or '.join(names)}.", hint=f"Expected: {self._layout}"
            )
        return found

    def maybe(self, *names: str) -> Path | None:
        """Like :meth:`path`, or None."""
        for name in names:
            for found in (self.root / name, *sorted(self.root.glob(f"*/{name}"))):
                if found.exists():
                    self.read_files.append(found)
                    return found
        return None

    def json(self, *names: str) -> Any:
        """A JSON file."""
        path = self.path(*names)
        try:
            return read_json(path)
        except UsageError as problem:
            raise UsageError(f"{path} is no JSON: {problem}", hint="Fetch it again.") from None

    def tasks(self) -> Iterator[tuple[str, int, dict[str, Any]]]:
        """Rows of ``json/<task>.json``: the task's name, the row's place in its file, the row."""
        for path in sorted(self.path("json").glob("*.json")):
            self.read_files.append(path)
            for place, row in enumerate(read_json(path)):
                yield path.stem, place, row

    def table(self, *names: str) -> list[dict[str, str]]:
        """Rows of a CSV or TSV file with a header."""
        return read_table(self.path(*names))

    def lines(self, *names: str) -> list[str]:
        """Lines of a text file that are not empty."""
        lines = (line.strip() for line in read_text(self.path(*names)).split("\n"))
        return list(filter(None, lines))

    def video(self, *names: str) -> str:
        """The first video whose path ends in one of these names (suffix optional), or ""."""
        for name in names:
            wanted = Path(name)
            known = wanted.suffix.lower() in VIDEO_SUFFIXES
            stem = wanted.with_suffix("") if known else wanted
            tail = "/" + stem.as_posix().lstrip("./")
            for path in self._videos.get(stem.name, ()):
                bare = path.rpartition(".")[0] if Path(path).suffix else path
                if ("/" + bare).endswith(tail):
                    return path
        return ""

    def item(self, name: str, *, places: Collection[str] = (), **fields: Any) -> Item:
        """A question about the video ``name``; ``places`` say where it may lie, if not there."""
        return Item(video=self.video(*(places or (name,))), video_id=name, **fields)

    @cached_property
    def _videos(self) -> dict[str, list[str]]:
        """Relative paths of all videos and folders of pictures by their bare name."""
        found: dict[str, list[str]] = {}
        for parent, folders, files in os.walk(self.root):
            folders.sort()
            place = Path(parent).relative_to(self.root)
            for name in sorted(files):
                if Path(name).suffix.lower() in VIDEO_SUFFIXES:
                    found.setdefault(Path(name).stem, []).append((place / name).as_posix())
            if any(Path(name).suffix.lower() in PICTURE_SUFFIXES for name in files):
                found.setdefault(place.name, []).append(place.as_posix())
        return found
