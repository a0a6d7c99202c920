"""Pixels for the VQGAN, and memory of long prompts."""

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

from kinema.messages import SamplingParams
from kinema.models.lwm import frames as frames_module
from kinema.models.lwm.config import LWMConfig
from kinema.models.lwm.frames import FrameCoder, crop_square
from kinema.models.lwm.generate import PickWords, begin, settings_of
from kinema.models.lwm.llama import Decoder, Tokens, decoder_shapes
from kinema.models.lwm.vqgan import VQGANConfig, unflatten, vqgan_shapes

TINY = VQGANConfig(
    resolution=32, channels=(32, 32, 32), num_res_blocks=1, z_channels=8, num_codes=64
)


@pytest.mark.parametrize(
    ("width", "height", "left", "top"),
    [(341, 256, 42, 0), (455, 256, 100, 0), (256, 300, 0, 22), (256, 256, 0, 0)],
)
def test_crop_rounds_its_middle_to_the_even_pixel(width, height, left, top):
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    cropped = crop_square(frame, 256)
    np.testing.assert_array_equal(cropped, frame[top : top + 256, left : left + 256])


@pytest.mark.parametrize("shape", [(40, 90), (720, 1280), (1000, 300), (256, 10000)])
def test_every_size_becomes_a_square_as_pil_resizes_it(shape):
    height, width = shape
    frame = np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8)
    size = (256, int(256 * height / width)) if width < height else (int(256 * width / height), 256)
    image = Image.fromarray(frame).resize(size)
    w, h = image.size
    box = ((w - 256) / 2, (h - 256) / 2, (w + 256) / 2, (h + 256) / 2)
    np.testing.assert_array_equal(crop_square(frame, 256), np.asarray(image.crop(box)))


@pytest.fixture(scope="module")
def coder():
    rng = np.random.default_rng(0)
    leaves = {n: rng.normal(0, 0.1, s).astype("f4") for n, s in vqgan_shapes(TINY).items()}
    return FrameCoder(TINY, unflatten(leaves))


def test_clips_of_any_length_share_batches_and_keep_their_codes(coder):
    rng = np.random.default_rng(1)
    clips = [rng.integers(0, 256, (n, 32, 48, 3), dtype=np.uint8) for n in (3, 1, 7)]
    together = coder.encode(clips)
    assert [codes.shape for codes in together] == [(3, 64), (1, 64), (7, 64)]
    for clip, codes in zip(clips, together, strict=True):
        one_by_one = np.concatenate([coder.encode([clip[i : i + 1]])[0] for i in range(len(clip))])
        assert codes.tolist() == one_by_one.tolist()


def test_frames_of_a_clip_are_encoded_together(coder, monkeypatch):
    sizes, encode = [], frames_module._encode

    def counted(config, params, pixels):
        sizes.append(len(pixels))
        return encode(config, params, pixels)

    monkeypatch.setattr(frames_module, "_encode", counted)
    coder.encode([np.zeros((8, 32, 32, 3), np.uint8)])
    assert sizes == [8]


def test_codes_become_pixels(coder):
    pixels = coder.decode(np.arange(3 * 64).reshape(3, 64) % 64)
    assert (pixels.dtype, pixels.shape) == (np.uint8, (3, 32, 32, 3))


def prefill_bytes(length, config):
    """Working memory of a compiled prefill beyond weights and cache."""
    decoder = Decoder(config)
    shape = jax.ShapeDtypeStruct
    params = unflatten({n: shape(s, jnp.float32) for n, s in decoder_shapes(config).items()})
    tokens = Tokens(shape((1, length), jnp.int32), shape((1, length), bool), shape((1,), jnp.int32))
    settings = settings_of([SamplingParams(max_new_tokens=1)], decoder)
    compiled = begin.lower(decoder, PickWords(2), params, tokens, settings, 128).compile()
    return compiled.memory_analysis().temp_size_in_bytes


def test_memory_of_a_prompt_grows_linearly_and_not_with_the_longest_possible_one():
    config = LWMConfig(
        vocab_size=64, vision_vocab_size=64, hidden_size=32, intermediate_size=64,
        num_hidden_layers=2, num_attention_heads=2, max_sequence_length=1 << 20,
    )  # fmt: skip
    short, long = prefill_bytes(4096, config), prefill_bytes(16384, config)
    assert long < 4.5 * short
    # One matrix of scores for one head would already be four times as much.
    assert long < 4 * 16384**2
    assert prefill_bytes(4096, replace(config, max_sequence_length=4224)) == short
