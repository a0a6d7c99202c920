"""The network in NumPy against torch and timm, and its weights read without either."""

from __future__ import annotations

import io
import os
import pickle

import numpy as np
import pytest
import timm
import torch

from kinema.errors import ModelError, UnsafeModel
from kinema.models.pickled_tensors import read_tensors
from kinema.models.spotter.network import Network, look, weights_file
from kinema.video import load_frames
from support.clips import EXAMPLE


@pytest.fixture(scope="module")
def network() -> Network:
    return Network(weights_file())


@pytest.fixture(scope="module")
def tower() -> torch.nn.Module:
    """The same weights in timm's EfficientNet-Lite0: both list the layers in one order."""
    model = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    tensors = torch.load(weights_file(), map_location="cpu", weights_only=True)
    names = model.state_dict()
    model.load_state_dict(dict(zip(names, tensors.values(), strict=True)))
    return model


def test_tensors_are_those_that_torch_reads():
    theirs = torch.load(weights_file(), map_location="cpu", weights_only=True)
    ours = read_tensors(weights_file())
    assert list(ours) == list(theirs)
    for name, tensor in theirs.items():
        np.testing.assert_array_equal(ours[name], tensor.numpy())


@pytest.mark.parametrize("size", [224, 192])
def test_logits_are_those_of_timm(network, tower, size):
    views = np.random.default_rng(0).normal(size=(2, size, size, 3)).astype(np.float32)
    with torch.inference_mode():
        theirs = tower(torch.from_numpy(views).permute(0, 3, 1, 2)).numpy()
    np.testing.assert_allclose(network.logits(views), theirs, atol=1e-4)


def test_a_picture_is_resized_as_torch_does_and_seen_by_its_middle_too(network, tower):
    pixels = load_frames(EXAMPLE, num_frames=1).pixels
    height, width = pixels.shape[1:3]
    left = (width - height) // 2
    theirs = []
    for part in (pixels, pixels[:, :, left : left + height]):
        picture = torch.from_numpy(part.copy()).permute(0, 3, 1, 2)
        resized = torch.nn.functional.interpolate(
            picture, (224, 224), mode="bicubic", antialias=True
        )
        with torch.inference_mode():
            theirs.append(tower((resized.float() - 127) / 128).softmax(-1)[0].numpy())
    np.testing.assert_allclose(look(network, pixels[0]), np.stack(theirs), atol=0.005)


class _Command:
    def __init__(self, done):
        self.done = done

    def __reduce__(self):
        return os.mkdir, (str(self.done),)


@pytest.mark.parametrize("place", [0, 3])
def test_a_file_that_asks_for_more_than_tensors_is_refused_and_nothing_runs(tmp_path, place):
    parts: list[object] = [0x1950A86A20F9469CFC6C, 1001, {}, {}, []]
    parts[place] = _Command(tmp_path / "ran")
    file = tmp_path / "weights.pth"
    file.write_bytes(b"".join(pickle.dumps(part, protocol=2) for part in parts))
    with pytest.raises(UnsafeModel, match=r"posix\.mkdir|nt\.mkdir"):
        read_tensors(file)
    assert not (tmp_path / "ran").exists()


def _saved(tensors: dict[str, torch.Tensor]) -> bytes:
    buffer = io.BytesIO()
    torch.save(tensors, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


def test_views_of_one_storage_come_back_as_they_were(tmp_path):
    base = torch.arange(24, dtype=torch.float32).reshape(4, 6)
    tensors = {
        "whole": base,
        "turned": base.T,
        "piece": base[1:3, ::2],
        "half": base.half(),
        "count": torch.tensor(7),
        "empty": torch.empty(0, 3),
    }
    file = tmp_path / "weights.pth"
    file.write_bytes(_saved(tensors))
    found = read_tensors(file)
    for name, tensor in tensors.items():
        np.testing.assert_array_equal(found[name], tensor.numpy())


@pytest.mark.parametrize("kept", [0.0, 0.02, 0.5, 0.99])
def test_a_file_that_ends_early_is_named(tmp_path, kept):
    whole = _saved({"weight": torch.zeros(1000)})
    file = tmp_path / "weights.pth"
    file.write_bytes(whole[: int(len(whole) * kept)])
    with pytest.raises(ModelError, match=r"weights\.pth holds no tensors"):
        read_tensors(file)


def test_a_tensor_that_reaches_beyond_its_numbers_is_refused(tmp_path):
    whole = _saved({"weight": torch.zeros(3, 5)})
    small = whole.replace(b"K\x03K\x05\x86", b"K\x03K\x7f\x86")
    assert small != whole
    file = tmp_path / "weights.pth"
    file.write_bytes(small)
    with pytest.raises(ModelError, match="larger than its numbers"):
        read_tensors(file)
