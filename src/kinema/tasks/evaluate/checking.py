"""Is a benchmark's folder complete and readable? Asked before a model is loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from kinema.errors import KinemaError
from kinema.evaluation.benchmarks import BENCHMARKS, Folder, WrongRow, WrongRows
from kinema.files import sha256_of
from kinema.tasks.evaluate.questions import video_of
from kinema.types import PictureFolder
from kinema.video import load_frames

_WORKERS = 2


@dataclass(frozen=True)
class Check:
    """What was found."""

    benchmark: str
    split: str
    items: int
    official_items: int | None
    videos: int
    missing: tuple[str, ...]
    """Videos that have no file."""
    unreadable: dict[str, str]
    """Files whose first frame cannot be decoded, and why."""
    sha256: dict[str, str]
    """Annotation files; compare them with those of whoever you compare scores with."""
    wrong_rows: tuple[WrongRow, ...] = ()
    """Fields of a file of one's own that cannot be used; their rows are not among the items."""

    @property
    def complete(self) -> bool:
        """True when every item can be asked and none is lacking."""
        lacking = self.official_items not in (None, self.items)
        return not (self.wrong_rows or self.missing or self.unreadable or lacking)

    @property
    def fingerprint(self) -> str:
        """SHA-256 over names and digests of all annotation files."""
        listing = "".join(f"{name} {digest}\n" for name, digest in self.sha256.items())
        return hashlib.sha256(listing.encode()).hexdigest()

    def to_dict(self) -> dict[str, Any]:
        """Ready for JSON."""
        return asdict(self) | {"complete": self.complete, "fingerprint": self.fingerprint}


def check_benchmark(
    name: str,
    root: Path,
    *,
    split: str = "",
    on_progress: Callable[[int, int], None] = lambda done, total: None,
) -> Check:
    """Read the annotations, look for every video and decode the first frame of each.

    Raises:
        UsageError: the annotations are not in the official layout.
    """
    benchmark = BENCHMARKS[name]
    split = split or benchmark.splits[0]
    wrong: tuple[WrongRow, ...] = ()
    try:
        items = benchmark.items(root, split=split)
    except WrongRows as found:
        items, wrong = found.items, found.rows
    present = {item.video: video_of(item, root) for item in items if item.video}
    unreadable: dict[str, str] = {}
    with ThreadPoolExecutor(_WORKERS) as pool:
        problems = pool.map(_first_frame, present.values())
        for done, (video, problem) in enumerate(zip(present, problems, strict=True), start=1):
            on_progress(done, len(present))
            if problem:
                unreadable[video] = problem
    folder = Folder(root, benchmark)
    with suppress(WrongRows):
        benchmark.read(folder, split)
    base = root if root.is_dir() else root.parent
    files = sorted({path for path in folder.read_files if path.is_file()})
    return Check(
        benchmark=name,
        split=split,
        items=len(items),
        official_items=benchmark.counts.get(split),
        videos=len(present),
        missing=tuple(dict.fromkeys(i.video_id for i in items if not i.video and i.video_id)),
        unreadable=unreadable,
        sha256={path.relative_to(base).as_posix(): sha256_of(path) for path in files},
        wrong_rows=wrong,
    )


def _first_frame(video: Path | PictureFolder) -> str:
    try:
        load_frames(video, single="first")
    except KinemaError as problem:
        return f"{problem.code}: {problem}"
    return ""
