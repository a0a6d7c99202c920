"""Weights are told apart by their content, however large, old or far away their files are."""

from __future__ import annotations

import hashlib
import os
import shutil
import time

import pytest

from kinema import files, identity
from kinema.errors import ModelError
from kinema.identity import hub_sha256, identity_of, weights_sha256


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    monkeypatch.setenv("KINEMA_HOME", str(tmp_path / "home"))


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "model"
    made.mkdir()
    for name in ("config.json", "tokenizer.json", "chat_template.jinja", "processor_config.json"):
        (made / name).write_text("{}")
    (made / "model.safetensors").write_bytes(bytes(100))
    return made


@pytest.fixture
def reads(monkeypatch):
    """How often a file was hashed."""
    seen = []
    real = hashlib.file_digest
    monkeypatch.setattr(
        files.hashlib, "file_digest", lambda file, name: seen.append(file.name) or real(file, name)
    )
    return seen


def test_weights_of_the_same_size_and_time_are_others(folder):
    before = identity_of(folder)
    weights = folder / "model.safetensors"
    status = weights.stat()
    weights.write_bytes(b"\1" * 100)
    os.utime(weights, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert identity_of(folder) != before


@pytest.mark.parametrize(
    "name", ["config.json", "tokenizer.json", "chat_template.jinja", "processor_config.json"]
)
def test_settings_tokenizer_template_and_processor_count(folder, name):
    before = identity_of(folder)
    (folder / name).write_text("[]")
    assert identity_of(folder) != before


def test_the_same_bytes_elsewhere_are_the_same(folder, tmp_path):
    copy = shutil.copytree(folder, tmp_path / "elsewhere" / "renamed", copy_function=shutil.copy)
    assert identity_of(copy) == identity_of(folder)


def test_what_nobody_answers_from_does_not_count(folder):
    before = identity_of(folder)
    for name in ("README.md", ".gitattributes", "optimizer.pt", "trainer_state.json", "LICENSE"):
        (folder / name).write_text("text")
    (folder / "checkpoint-5").mkdir()
    (folder / "checkpoint-5" / "model.safetensors").write_bytes(b"other")
    assert identity_of(folder) == before
    assert identity_of(folder, nested=True) != before


def test_a_file_of_the_hub_is_called_by_its_hash(tmp_path, reads):
    content = b"weights"
    blob = tmp_path / "blobs" / hashlib.sha256(content).hexdigest()
    blob.parent.mkdir()
    blob.write_bytes(content)
    file = tmp_path / "model.safetensors"
    file.symlink_to(blob)
    assert weights_sha256(file) == hub_sha256(file) == blob.name
    assert not reads
    plain = tmp_path / "plain.safetensors"
    plain.write_bytes(content)
    assert hub_sha256(plain) is None
    assert weights_sha256(plain) == blob.name


def test_a_large_file_is_read_once_on_a_machine(tmp_path, reads, monkeypatch):
    monkeypatch.setattr(identity, "_LARGE_BYTES", 10)
    monkeypatch.setattr(files, "_SETTLED_SECONDS", 0.0)
    file = tmp_path / "model.safetensors"
    file.write_bytes(b"one weight")
    time.sleep(0.02)  # longer than a tick of the file system's clock
    first = weights_sha256(file)
    files._sha256.cache_clear()  # as in another process
    assert weights_sha256(file) == first == hashlib.sha256(b"one weight").hexdigest()
    assert len(reads) == 1
    file.write_bytes(b"two weight")
    time.sleep(0.02)
    assert weights_sha256(file) == hashlib.sha256(b"two weight").hexdigest()
    (note,) = (tmp_path / "home" / "sha256").iterdir()
    note.write_text("{")
    files._sha256.cache_clear()
    assert weights_sha256(file) == hashlib.sha256(b"two weight").hexdigest()


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ModelError, match="nowhere cannot be read: No such file"):
        identity_of(tmp_path / "nowhere")
