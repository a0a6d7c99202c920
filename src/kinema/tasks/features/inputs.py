"""Which videos a run means, what their features files are called, and which are copies."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path, PurePath

from kinema.datasets.variants import augmented_from
from kinema.errors import UsageError
from kinema.files import stamp_of
from kinema.jobs.inputs import find_inputs, require_existing
from kinema.video.archive import split_member

_FIELD = re.compile(r"\{(\w+)\}")


@dataclass(frozen=True)
class Medium:
    """One video of a run."""

    path: Path
    name: PurePath
    """Its path below the folder that was given; features lie at the same place."""
    fields: Mapping[str, str] = field(default_factory=dict)
    """What a pattern found in the name: ``{"person": "P03", "camera": "cam01"}``."""

    @cached_property
    def stamp(self) -> str:
        """Of the file when it was first looked at, empty where there is none; nothing is read."""
        return stamp_of(self.path)


def find_media(words: Sequence[str | Path], *, pattern: str = "") -> list[Medium]:
    """Every video that the words mean, in a fixed order.

    Args:
        words: videos, folders (searched whole), globs, or lists: .txt, .csv, .jsonl.
        pattern: paths below a folder that count, as ``{person}/{camera}/{video}.avi``; a field
            stands for any part of one name, ``**`` for any folders.

    Raises:
        MediaNotFound: a word is neither a file, a folder nor a glob.
        UsageError: nothing was found, or not a file.
    """
    folders = [Path(word) for word in words if os.path.isdir(word)]
    if pattern:
        for word in words:
            require_existing(str(word))
        matcher = _matcher(pattern)
        sources = [p for f in folders for p in sorted(f.rglob("*")) if p.is_file()]
    else:
        matcher = None
        sources = [Path(found.source) for found in find_inputs(words)]
        for source in sources:
            if split_member(str(source)) is not None:
                raise UsageError(
                    f"{source} is inside a tar.", hint="Unpack it: features lie like files."
                )
    root = _root(folders, sources)
    named = [(path, path.relative_to(root)) for path in map(Path.absolute, sources)]
    media = [m for path, name in named if (m := _matched(path, name, matcher)) is not None]
    if not media:
        raise UsageError(
            f"No video below {', '.join(map(str, words))} matches {pattern}.",
            hint="A pattern is relative to the folder: {person}/{camera}/{video}.avi",
        )
    return media


def without_copies(media: Sequence[Medium]) -> tuple[list[Medium], dict[PurePath, PurePath]]:
    """The originals, and the augmented copies among the files with what each is made from."""
    names = {medium.name for medium in media}
    found = {medium.name: augmented_from(medium.name, names) for medium in media}
    copies = {name: original for name, original in found.items() if original is not None}
    return [medium for medium in media if medium.name not in copies], copies


def _root(folders: list[Path], sources: list[Path]) -> Path:
    """The folder that names start at: the one that was given, else what all videos share."""
    if len(folders) == 1 and all(path.is_relative_to(folders[0]) for path in sources):
        return folders[0].absolute()
    parents = {path.absolute().parent for path in sources}
    return Path(os.path.commonpath(parents)) if parents else Path.cwd()


def _matched(path: Path, name: PurePath, matcher: re.Pattern[str] | None) -> Medium | None:
    if matcher is None:
        return Medium(path, name)
    found = matcher.fullmatch(name.as_posix())
    return None if found is None else Medium(path, name, found.groupdict())


def _matcher(pattern: str) -> re.Pattern[str]:
    """``{camera}/*.avi`` as a regular expression over a whole relative path."""
    names = _FIELD.findall(pattern)
    if len(set(names)) < len(names):
        raise UsageError(f"--pattern {pattern} names a field twice.", hint="Give each a name.")
    pieces = re.split(r"(\{\w+\}|\*\*/|\*)", pattern)
    return re.compile("".join(map(_expression, pieces)), re.IGNORECASE)


def _expression(piece: str) -> str:
    if field_name := _FIELD.fullmatch(piece):
        return f"(?P<{field_name[1]}>[^/]+?)"
    return {"**/": "(?:.*/)?", "*": "[^/]*"}.get(piece, re.escape(piece))
