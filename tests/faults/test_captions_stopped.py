"""Captions stopped by hand and resumed; bad places to write to."""

from __future__ import annotations

import signal
import subprocess
import time

from support.stopped import answered, command, make_videos


def test_two_processes_on_one_folder_are_kept_apart_and_ctrl_c_is_resumed(tmp_path):
    videos, output = tmp_path / "videos", tmp_path / "out"
    make_videos(videos, 60)
    with subprocess.Popen(
        command(videos, output), stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    ) as first:
        while answered(output) < 1:
            assert first.poll() is None
            time.sleep(0.005)
        first.send_signal(signal.SIGSTOP)  # it holds the folder, however long the other one takes
        second = subprocess.run(
            command(videos, output), check=False, capture_output=True, text=True
        )
        first.send_signal(signal.SIGINT)
        first.send_signal(signal.SIGCONT)
        first.communicate()
    assert second.returncode == 2
    assert "Another process works on" in second.stderr
    assert first.returncode == 130
    before = answered(output)
    assert not (output / "captions.jsonl").exists()
    subprocess.run(command(videos, output), check=True, capture_output=True)
    assert answered(output) > before
    assert len((output / "captions.jsonl").read_text().splitlines()) == 60


def test_a_full_disk_is_said_and_the_run_goes_on_when_there_is_room(tmp_path):
    videos, output = tmp_path / "videos", tmp_path / "out"
    make_videos(videos, 4)
    # No file may grow beyond 60 KiB: the ledger meets that as it meets a full disk.
    limited = ["bash", "-c", 'ulimit -f 60; exec "$@"', "bash", *command(videos, output)]
    full = subprocess.run(limited, check=False, capture_output=True, text=True)
    assert full.returncode == 4  # stopped, with videos still to do
    assert "Free some disk space" in full.stderr
    assert not (output / "captions.jsonl").exists()
    subprocess.run(command(videos, output), check=True, capture_output=True)
    assert len((output / "captions.jsonl").read_text().splitlines()) == 4
