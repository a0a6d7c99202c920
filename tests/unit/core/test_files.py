import hashlib
import os
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from kinema import files
from kinema.files import locked, sha256_of, whole_folder, write_atomically, write_lines


def test_an_atomic_write_leaves_no_draft(tmp_path):
    write_atomically(tmp_path / "out.json", "new")
    assert [p.name for p in tmp_path.iterdir()] == ["out.json"]


def test_a_write_that_fails_leaves_the_old_file(tmp_path):
    out = tmp_path / "out.txt"
    write_lines(out, ["old"])
    with pytest.raises(ZeroDivisionError):
        write_lines(out, (str(1 // n) for n in (1, 0)))
    assert out.read_text() == "old\n"
    assert [p.name for p in tmp_path.iterdir()] == ["out.txt"]


def _write(path, content, *, seconds):
    path.write_bytes(content)
    os.utime(path, (seconds, seconds))


def test_a_file_is_read_again_only_when_it_has_changed(tmp_path, monkeypatch):
    path = tmp_path / "clip.mp4"
    reads = []
    real = hashlib.file_digest
    monkeypatch.setattr(files.hashlib, "file_digest", lambda *args: reads.append(1) or real(*args))
    _write(path, b"one", seconds=1000)
    assert sha256_of(path) == sha256_of(path) == hashlib.sha256(b"one").hexdigest()
    assert len(reads) == 1
    _write(path, b"two", seconds=2000)
    assert sha256_of(path) == hashlib.sha256(b"two").hexdigest()
    other = tmp_path / "other.mp4"
    _write(other, b"new", seconds=2000)
    other.replace(path)  # another inode; same path, size and time
    assert sha256_of(path) == hashlib.sha256(b"new").hexdigest()


def test_a_file_that_was_just_written_is_always_read(tmp_path):
    path = tmp_path / "clip.mp4"
    path.write_bytes(b"one")
    status = path.stat()
    assert sha256_of(path) == hashlib.sha256(b"one").hexdigest()
    path.write_bytes(b"two")
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert sha256_of(path) == hashlib.sha256(b"two").hexdigest()


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "model"

    def interrupted():
        with whole_folder(folder) as draft:
            (draft / "config.json").write_text("{}")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert os.listdir(tmp_path) == []
    left = tmp_path / ".model.part"  # of a process that was killed
    left.mkdir()
    (left / "half").touch()
    folder.mkdir()
    with whole_folder(folder) as draft:
        assert os.listdir(draft) == []
        (draft / "config.json").write_text("{}")
        assert os.listdir(folder) == []
    assert os.listdir(folder) == ["config.json"]
    assert os.listdir(tmp_path) == ["model"]


def test_one_at_a_time_holds_the_lock_of_a_path(tmp_path):
    inside, most = [], []

    def work(number):
        with locked(tmp_path / "new" / "model"):
            inside.append(number)
            most.append(len(inside))
            time.sleep(0.02)
            inside.remove(number)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(work, range(4)))
    assert most == [1] * 4
