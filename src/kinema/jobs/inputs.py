"""Which videos a command means: files, folders, globs, manifests and tars, in a fixed order."""

from __future__ import annotations

import glob
import hashlib
import os
import tarfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from urllib.parse import unquote, urlsplit

from kinema.errors import MediaNotFound, NotMedia, UsageError
from kinema.files import VIDEO_SUFFIXES, stamp_of
from kinema.textfiles import read_json, read_json_lines, read_table, read_text
from kinema.video.archive import SEPARATOR, split_member
from kinema.video.url_gate import is_url

_MANIFESTS = (".txt", ".csv", ".tsv", ".jsonl", ".json")
_COLUMNS = ("video", "path", "source", "file")


@dataclass(frozen=True)
class VideoInput:
    """One video of a run."""

    source: str
    """Path, or ``shard.tar::member.mp4``."""
    name: str
    """Of its files in the output folder; no two are the same."""

    @property
    def file(self) -> Path:
        """The file that has to be there for it."""
        member = split_member(self.source)
        return Path(self.source if member is None else member[0])

    @cached_property
    def stamp(self) -> str:
        """Of the file when it was first looked at, found without reading it."""
        return stamp_of(self.file) or "missing"


def find_inputs(
    words: Sequence[str | Path], *, shard: tuple[int, int] | None = None
) -> list[VideoInput]:
    """Every video that the words mean, each once, or the shard's part of them.

    Args:
        words: videos, folders (searched whole), globs, tars, or manifests: a .txt with a path a
            line, a .csv or .jsonl with a column ``video``; their paths are relative to them.
        shard: (i, n) keeps the i-th of n parts, counted from 0; a video's part depends on its
            name alone.

    Raises:
        MediaNotFound: a word is neither a file, a folder nor a glob.
        UsageError: nothing was found, or a manifest cannot be read.
    """
    sources = list(dict.fromkeys(s for word in words for s in _expand(str(word))))
    if not sources:
        raise UsageError(
            f"No video was found in {', '.join(map(str, words)) or 'nothing'}.",
            hint="Give files, folders, globs, .tar archives or a .txt, .csv or .jsonl list.",
        )
    names = _names(sources)
    return [VideoInput(s, n) for s, n in zip(sources, names, strict=True) if in_shard(s, shard)]


def in_shard(source: str, shard: tuple[int, int] | None) -> bool:
    """Whether a source belongs to the i-th of n parts; by its file name, not its place."""
    if shard is None:
        return True
    index, count = shard
    digest = hashlib.sha256(Path(source).name.encode()).digest()
    return int.from_bytes(digest[:8]) % count == index


def parse_shard(text: str) -> tuple[int, int]:
    """``"2/8"``, counted from 0, as (2, 8).

    Raises:
        UsageError: it is none.
    """
    index, slash, count = text.partition("/")
    if not (slash and index.isdigit() and count.isdigit() and int(index) < int(count)):
        raise UsageError(f"--shard {text} is no shard.", hint="0/8 to 7/8 are the parts of eight.")
    return int(index), int(count)


def _expand(word: str) -> Iterator[str]:
    _refuse_address(word)
    is_glob = any(c in word for c in "*?[") and not os.path.exists(word)
    if not is_glob:
        require_existing(word)
    if split_member(word) is not None:
        yield word
    elif os.path.isdir(word):
        yield from _in_folder(Path(word))
    elif is_glob:
        for path in sorted(glob.glob(word, recursive=True)):
            # A link that leads nowhere fails by name, as one video of many.
            yield from _expand(path) if os.path.exists(path) else (path,)
    elif word.endswith(".tar"):
        yield from _in_tar(word)
    elif word.endswith(_MANIFESTS):
        yield from _in_manifest(Path(word))
    else:
        yield word


def _refuse_address(word: str) -> None:
    if is_url(word):
        raise UsageError(
            f"{word.partition('?')[0]} is an address.", hint="Download it and give the file."
        )


def require_existing(word: str) -> None:
    """Refuse a word that is neither a file nor a folder.

    Raises:
        MediaNotFound: says what may be given.
    """
    member = split_member(word)
    local = word if member is None else member[0]
    if local[:7].lower() == "file://":
        local = unquote(urlsplit(local).path)
    if not os.path.exists(os.path.expanduser(local)):
        raise MediaNotFound(
            f"There is no file or folder {local}.",
            hint="Give files, folders, globs, .tar archives or a .txt, .csv or .jsonl list.",
        )


def _in_folder(folder: Path) -> Iterator[str]:
    for root, folders, files in os.walk(folder):
        folders[:] = sorted(f for f in folders if not f.startswith("."))
        for name in sorted(files):
            if _is_video(name):
                yield str(Path(root) / name)


def _in_tar(archive: str) -> Iterator[str]:
    try:
        with tarfile.open(archive, "r:") as tar:
            names = [m.name for m in tar if m.isfile()]
    except (OSError, tarfile.TarError) as problem:
        raise NotMedia(
            f"{archive} is no readable tar: {problem}.", hint="Compressed tars must be unpacked."
        ) from problem
    for name in sorted(names):
        if _is_video(name.rpartition("/")[2]):
            yield f"{archive}{SEPARATOR}{name}"


def _is_video(file_name: str) -> bool:
    """By its ending; hidden files are other programs' notes."""
    return Path(file_name).suffix.lower() in VIDEO_SUFFIXES and not file_name.startswith(".")


def _in_manifest(path: Path) -> Iterator[str]:
    try:
        rows = list(_rows(path))
    except (OSError, ValueError, KeyError, TypeError) as problem:
        raise UsageError(
            f"{path} is no list of videos: {problem}.",
            hint="A .txt has a path a line; a .csv, .json or .jsonl has a column `video`.",
        ) from problem
    for row in rows:
        _refuse_address(row)
        yield row if os.path.isabs(row) else str(path.parent / row)


def _rows(path: Path) -> Iterator[str]:
    if path.suffix == ".txt":
        lines = (line.strip() for line in read_text(path).split("\n"))
        yield from (line for line in lines if line and not line.startswith("#"))
    elif path.suffix in (".csv", ".tsv"):
        yield from map(_video_of, read_table(path))
    elif path.suffix == ".json":
        yield from map(_video_of, read_json(path))
    else:
        for row in read_json_lines(path):
            if row.error:
                raise ValueError(f"line {row.line}: {row.error}")
            yield _video_of(row.value)


def _video_of(row: object) -> str:
    if isinstance(row, str):
        return row
    assert isinstance(row, dict)
    for column in _COLUMNS:
        if row.get(column):
            return str(row[column])
    raise KeyError(f"no column {' or '.join(_COLUMNS)}")


def _names(sources: Iterable[str]) -> list[str]:
    """File names without suffix; one that was taken already gets a mark of its whole path."""
    taken: set[str] = set()
    names = []
    for source in sources:
        member = split_member(source)
        name = Path(source if member is None else member[1]).stem or "video"
        if name in taken:
            name = f"{name}-{hashlib.sha256(source.encode()).hexdigest()[:8]}"
        taken.add(name)
        names.append(name)
    return names
