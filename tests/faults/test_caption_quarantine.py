"""A video that kills its decoder: tried twice, set aside, and nothing else suffers."""

from __future__ import annotations

import json
import threading
import time
from contextlib import contextmanager, suppress

import psutil
import pytest

from kinema.cli.app import run
from support.clips import make_clip


@contextmanager
def whoever_opens_dies(path):
    """Kills every child of this process that has the file open; counts them."""
    killed, stop = set(), threading.Event()

    def watch():
        while not stop.is_set():
            for child in psutil.Process().children():
                with suppress(psutil.Error):
                    if any(file.path == str(path) for file in child.open_files()):
                        child.kill()
                        killed.add(child.pid)
            time.sleep(0.002)

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield killed
    finally:
        stop.set()
        thread.join()


@pytest.fixture
def videos(tmp_path):
    folder = tmp_path / "videos"
    folder.mkdir()
    make_clip(folder / "good.mp4", num_frames=20, fps=5)
    # Long enough to be caught open: finding its shots decodes every frame.
    make_clip(folder / "hostile.mp4", num_frames=300, height=720, width=1280)
    return folder


def captioned(videos, out, *words):
    command = ["caption", str(videos), "-m", "echo", "-o", str(out), "--segment-by", "shots"]
    return run([*command, *words])


def statuses(out):
    records = map(json.loads, (out / "captions.jsonl").read_text().splitlines())
    return {record["source"].rpartition("/")[2]: record["status"] for record in records}


def test_it_is_tried_twice_and_set_aside_and_tried_again_when_asked(videos, tmp_path, capsys):
    out = tmp_path / "out"
    with whoever_opens_dies(videos / "hostile.mp4") as killed:
        assert captioned(videos, out) == 3
        assert len(killed) == 2
        assert captioned(videos, out) == 3
        assert len(killed) == 2
    assert "died (SIGKILL)" in capsys.readouterr().err
    assert statuses(out) == {"good.mp4": "ok", "hostile.mp4": "quarantined"}
    assert "hostile.mp4" in (out / "failed.jsonl").read_text()
    assert captioned(videos, out, "--retry-failed") == 0
    assert statuses(out) == {"good.mp4": "ok", "hostile.mp4": "ok"}
