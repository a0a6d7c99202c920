"""Features from disk give the tokens of features that were computed."""

from __future__ import annotations

import pytest

from kinema.engines import EngineSettings
from kinema.messages import ImagePart, SamplingParams, VideoPart
from kinema.tasks.chat import Chat
from support.by_hand import NEW_TOKENS, clip
from support.tiny_families import HF_FAMILIES

PARAMS = SamplingParams(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)


def _ask(folder, cache, *media, damage=False):
    settings = EngineSettings(device="cpu", dtype="float32", cache=cache and str(cache))
    with Chat(str(folder), params=PARAMS, settings=settings) as session:
        return session.ask("why?", *media).completion.token_ids


@pytest.mark.parametrize("name", HF_FAMILIES)
def test_answers_are_the_same_with_cached_features(family_folder, tmp_path, name):
    folder, media = family_folder(name), (VideoPart(clip(1)),)
    plain = _ask(folder, None, *media)
    assert _ask(folder, tmp_path, *media) == plain
    files = {f: f.stat().st_mtime_ns for f in tmp_path.iterdir()}
    assert files
    assert _ask(folder, tmp_path, *media) == plain
    assert {f: f.stat().st_mtime_ns for f in tmp_path.iterdir()} == files


def test_another_picture_is_another_entry(family_folder, tmp_path):
    folder = family_folder("video-llava")
    first = _ask(folder, tmp_path, ImagePart(clip(1, 1)))
    assert _ask(folder, tmp_path, ImagePart(clip(2, 1))) != first
    assert len(list(tmp_path.iterdir())) == 2


def test_a_damaged_entry_is_computed_again(family_folder, tmp_path):
    folder, media = family_folder("video-llava"), (VideoPart(clip(1)),)
    plain = _ask(folder, tmp_path, *media)
    (file,) = tmp_path.iterdir()
    file.write_bytes(file.read_bytes()[:50])
    assert _ask(folder, tmp_path, *media) == plain
    assert file.stat().st_size > 50
