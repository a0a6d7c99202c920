from __future__ import annotations

from pathlib import Path

import pytest

from kinema.config import cache_dir, fingerprint, from_mapping
from kinema.errors import UnknownName
from kinema.types import FrameSampling


def test_unknown_settings_are_refused_with_the_nearest(monkeypatch):
    with pytest.raises(UnknownName) as caught:
        from_mapping(FrameSampling, {"num_frmes": 8})
    assert "'num_frames'" in caught.value.hint
    assert from_mapping(FrameSampling, {"num_frames": 8}).num_frames == 8


def test_fingerprint_changes_with_values_and_not_with_order():
    assert fingerprint({"a": 1, "b": [2]}) == fingerprint({"b": [2], "a": 1})
    assert fingerprint({"a": 1}) != fingerprint({"a": 2})


def test_cache_folder_follows_the_environment(monkeypatch):
    monkeypatch.setenv("KINEMA_HOME", "/somewhere")
    assert cache_dir() == Path("/somewhere")
    monkeypatch.delenv("KINEMA_HOME")
    monkeypatch.setenv("XDG_CACHE_HOME", "/xdg")
    assert cache_dir() == Path("/xdg/kinema")
