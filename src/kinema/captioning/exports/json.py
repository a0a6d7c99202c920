"""Records as JSON: one file a video, or one line a video."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path

from kinema.captioning.records import VideoRecord
from kinema.files import write_atomically
from kinema.textfiles import write_json_lines


def write_json(record: VideoRecord, path: Path) -> None:
    """The whole record, indented."""
    write_atomically(path, json.dumps(record.to_dict(), ensure_ascii=False, indent=2) + "\n")


def write_jsonl(records: Iterable[VideoRecord], path: Path) -> None:
    """One record a line, failed ones too: their ``status`` and ``error`` say so."""
    write_json_lines(path, (record.to_dict() for record in records))
