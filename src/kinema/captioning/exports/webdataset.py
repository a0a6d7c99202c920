"""A WebDataset shard: for each caption its middle frame, its words and what is known about it."""

from __future__ import annotations

import hashlib
import io
import json
import re
import tarfile
from collections.abc import Iterable
from pathlib import Path

from kinema.captioning.exports import Load
from kinema.captioning.exports.pictures import middles
from kinema.captioning.records import VideoRecord
from kinema.files import whole_file
from kinema.video.data_uri import jpeg


def write_webdataset(records: Iterable[VideoRecord], path: Path, load: Load | None) -> None:
    """Samples ``KEY.jpg``, ``KEY.txt`` and ``KEY.json``; the same records give the same bytes."""
    with whole_file(path) as draft, tarfile.open(draft, "w") as tar:
        for record in records:
            _add_video(tar, record, load)


def _add_video(tar: tarfile.TarFile, record: VideoRecord, load: Load | None) -> None:
    mark = hashlib.sha256(record.source.encode()).hexdigest()[:8]
    stem = re.sub(r"\W+", "-", Path(record.source).stem)
    common = {"source": record.source, "title": record.title, "fingerprint": record.fingerprint}
    for caption, picture in zip(record.captions, middles(record, load), strict=True):
        if not caption.text or picture is None:
            continue
        key = f"{stem}-{mark}-{caption.index:06d}"
        about = json.dumps(common | caption.to_dict(), ensure_ascii=False)
        _add(tar, f"{key}.jpg", jpeg(picture))
        _add(tar, f"{key}.txt", caption.text.encode())
        _add(tar, f"{key}.json", about.encode())


def _add(tar: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))
