import hashlib
import os

import pytest

from kinema import files
from kinema.files import sha256_of, write_atomically, write_lines


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
