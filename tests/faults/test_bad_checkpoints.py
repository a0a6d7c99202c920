"""Checkpoints that are not whole, not safe or not ours: named, and no code of theirs runs."""

from __future__ import annotations

import hashlib
import json
import pickle
import shutil
from pathlib import Path

import pytest

from kinema.engines import EngineSettings
from kinema.engines.hf.engine import HFEngine
from kinema.errors import (
    ContextTooLong,
    MissingPackage,
    ModelError,
    ModelNotFound,
    RequestRefused,
    UnsafeModel,
)
from kinema.families import FAMILIES, read_checkpoint, recognise
from kinema.families.weights import check_weights
from kinema.messages import (
    Conversation,
    Media,
    Message,
    Prompt,
    Request,
    SamplingParams,
    TextPart,
    VideoPart,
)
from kinema.prompt import prepare
from kinema.tasks.chat import Chat
from kinema.tasks.models import DEFAULT_MODEL, find_model
from support.by_hand import clip
from support.driver import answer


@pytest.fixture
def folder(video_llava_folder, tmp_path) -> Path:
    return Path(shutil.copytree(video_llava_folder, tmp_path / "checkpoint"))


def _open(folder, **settings):
    return HFEngine(
        folder, family=FAMILIES["video-llava"], settings=EngineSettings(device="cpu", **settings)
    )


class _Canary:
    """Touches a file when it is unpickled."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def __reduce__(self):
        return Path.touch, (self._file,)


def test_pickled_weights_are_refused_and_not_read(folder, tmp_path):
    canary = tmp_path / "ran"
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(_Canary(canary)))
    with pytest.raises(UnsafeModel, match="only as pickles") as caught:
        _open(folder)
    assert "safetensors" in caught.value.hint
    assert not canary.exists()


def test_a_tokenizer_without_a_padding_token_answers(folder, frames):
    """As Llama 2 and 3 are released; nothing says with what a batch is filled up."""
    config = json.loads((folder / "tokenizer_config.json").read_text())
    assert config.pop("pad_token")
    (folder / "tokenizer_config.json").write_text(json.dumps(config))
    settings = EngineSettings(device="cpu", dtype="float32")
    params = SamplingParams(max_new_tokens=2, min_new_tokens=2)
    with Chat(str(folder), params=params, settings=settings) as session:
        assert session.ask("What?", frames).completion.usage.completion_tokens == 2


def test_code_of_the_checkpoint_is_refused_and_not_run(folder, tmp_path):
    canary = tmp_path / "ran"
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "homemade", "auto_map": {"AutoConfig": "code.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "code.py").write_text(f"from pathlib import Path\nPath({str(canary)!r}).touch()\n")
    with pytest.raises(UnsafeModel, match="running Python files") as caught:
        _open(folder)
    assert "trust_remote_code" in caught.value.hint
    assert not canary.exists()


def test_a_half_downloaded_file_is_named(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    with pytest.raises(ModelError, match=r"model\.safetensors is cut short") as caught:
        _open(folder)
    assert "hf download" in caught.value.hint


def test_a_missing_shard_is_named(folder):
    shards = {"a": "model.safetensors", "b": "model-00002-of-00002.safetensors"}
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": shards}))
    with pytest.raises(ModelError, match=r"model-00002-of-00002\.safetensors is missing"):
        _open(folder)


def test_missing_weights_are_named(folder):
    (folder / "model.safetensors").unlink()
    with pytest.raises(ModelError, match=r"model\.safetensors is missing"):
        _open(folder)


def test_a_name_in_a_hub_cache_that_leads_nowhere_is_named(folder, tmp_path):
    weights = folder / "model.safetensors"
    weights.unlink()
    weights.symlink_to(tmp_path / "blob")
    with pytest.raises(ModelError, match=r"model\.safetensors is missing"):
        _open(folder)


def test_a_wrong_checksum_is_named_when_asked(folder):
    weights = folder / "model.safetensors"
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    (folder / "SHA256SUMS").write_text(f"{digest}  model.safetensors\n")
    check_weights(folder, verify=True)
    content = bytearray(weights.read_bytes())
    content[-1] ^= 1
    weights.write_bytes(content)
    check_weights(folder)
    with pytest.raises(ModelError, match="does not match its checksum"):
        check_weights(folder, verify=True)


def test_a_hub_cache_is_checked_by_the_names_of_its_blobs(folder, tmp_path):
    weights = folder / "model.safetensors"
    blob = tmp_path / hashlib.sha256(weights.read_bytes()).hexdigest()
    shutil.move(weights, blob)
    weights.symlink_to(blob)
    check_weights(folder, verify=True)
    blob.write_bytes(blob.read_bytes()[:-1] + b"\x01")
    with pytest.raises(ModelError, match="checksum"):
        check_weights(folder, verify=True)


def test_a_language_model_is_named_as_no_video_model(tmp_path):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": "llama"}))
    with pytest.raises(ModelError, match="does not read pictures"):
        recognise(read_checkpoint("text-only", tmp_path))


def test_an_unknown_model_name_without_a_network_says_how_to_go_on():
    with pytest.raises(ModelNotFound, match="hub cannot be reached") as caught:
        find_model("nobody/nothing")
    assert f"model {DEFAULT_MODEL}" in caught.value.hint


def test_flash_attention_that_is_missing_comes_with_its_install_line(folder):
    with pytest.raises(MissingPackage) as caught:
        _open(folder, attn="flash_attention_2")
    assert "pip install flash-attn" in caught.value.hint


@pytest.mark.parametrize(
    ("prompt", "kind", "given"),
    [
        ("<video> and <video>", "video", 1),
        ("nothing", "video", 1),
        ("<image> and <image>", "image", 1),
        ("<image>", "image", 2),
    ],
)
def test_placeholders_and_media_that_do_not_match_are_counted(family_engine, prompt, kind, given):
    _, engine = family_engine("video-llava")
    media = tuple(Media(kind, clip(i)) for i in range(given))
    with pytest.raises(RequestRefused) as caught:
        answer(engine, Request("0", Prompt(prompt), media))
    written = prompt.count(f"<{kind}>")
    assert f"{written} <{kind}> and the request {given} {kind}s" in str(caught.value)


def test_frames_that_do_not_fit_come_with_the_count_that_does(family_engine, family_folder):
    params = SamplingParams(max_new_tokens=4000)
    settings = EngineSettings(device="cpu")
    with (
        Chat(str(family_folder("llava-onevision")), params=params, settings=settings) as session,
        pytest.raises(ContextTooLong) as caught,
    ):
        session.ask("why?", VideoPart(clip(1, 32)))
    most = caught.value.largest_num_frames
    model, engine = family_engine("llava-onevision")

    def needed(num_frames: int) -> int:
        said = Message("user", (VideoPart(clip(1, num_frames)), TextPart("why?")))
        request = prepare(
            Conversation((said,)), family=model.family, checkpoint=model.checkpoint, params=params
        )
        return engine.count_tokens(request) + 4000

    assert caught.value.needed == needed(32) > caught.value.available == 4096
    assert needed(most) <= 4096 < needed(most + 1)
