from __future__ import annotations

from pathlib import Path

from kinema.config import cache_dir, fingerprint


def test_fingerprint_changes_with_values_and_not_with_order():
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_cache_folder_follows_the_environment(monkeypatch):
    monkeypatch.setenv("KINEMA_HOME", "/somewhere")
    assert cache_dir() == Path("/somewhere")
    monkeypatch.delenv("KINEMA_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_dir() == Path("/xdg/kinema")
