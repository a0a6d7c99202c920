"""Released file formats, written by flax itself, read back slice by slice."""

import json
import pickle
import struct
from collections import OrderedDict
from dataclasses import replace

import flax.serialization
import jax
import jax.numpy as jnp
import msgpack
import numpy as np
import pytest
import safetensors.numpy
from flax.core import freeze

from kinema.errors import ModelError, ModelNotFound, UnsafeModel, UsageError
from kinema.models.lwm.checkpoint import (
    configure,
    find_files,
    load_decoder,
    load_vqgan,
    open_params,
)
from kinema.models.lwm.config import LWMConfig
from kinema.models.lwm.convert import convert
from kinema.models.lwm.llama import decoder_shapes
from kinema.models.lwm.stored import index_safetensors
from kinema.models.lwm.stream import index_stream
from kinema.models.lwm.unpickle import unpickle_arrays
from kinema.models.lwm.vqgan import VQGANConfig, flatten, unflatten, vqgan_shapes

CONFIG = LWMConfig(
    vocab_size=40, vision_vocab_size=24, hidden_size=16, intermediate_size=24,
    num_hidden_layers=3, num_attention_heads=2,
)  # fmt: skip
TINY_VQGAN = VQGANConfig(resolution=32, channels=(32, 32), num_codes=16, z_channels=4)


def random_leaves(config=CONFIG, dtype="bfloat16"):
    rng = np.random.default_rng(0)
    make = lambda shape: np.asarray(jnp.asarray(rng.normal(size=shape), dtype))  # noqa: E731
    return {name: make(shape) for name, shape in decoder_shapes(config).items()}


def write_stream(path, leaves, prefix=()):
    """As the original's streaming checkpointer does it."""
    packer = msgpack.Packer()
    with path.open("wb") as file:
        for name, value in sorted(leaves.items()):
            file.write(packer.pack((
                (*prefix, *name.split("/")), flax.serialization.to_bytes(value)
            )))  # fmt: skip


def assert_same(params, leaves, dtype="float32"):
    found = flatten(params)
    assert set(found) == set(leaves)
    for name, value in leaves.items():
        assert found[name].dtype == jnp.dtype(dtype)
        np.testing.assert_array_equal(np.asarray(found[name], "f4"), value.astype("f4"))


@pytest.fixture
def small_chunks(monkeypatch):
    """Everything above 100 bytes goes in chunks, as tensors above 2^30 bytes do in real files."""
    monkeypatch.setattr(flax.serialization, "MAX_CHUNK_SIZE", 100)


@pytest.mark.parametrize("kind", ["params", "trainstate_params", "flax_params", "safetensors"])
def test_every_kind_of_file_gives_the_same_weights(tmp_path, small_chunks, kind):
    leaves, path = random_leaves(), tmp_path / "weights"
    if kind == "params":
        write_stream(path, leaves)
    elif kind == "trainstate_params":
        write_stream(path, leaves | {"momentum": np.ones(3)}, prefix=("params", "params"))
        with path.open("ab") as file:
            file.write(msgpack.packb((["step"], flax.serialization.to_bytes(np.int32(7)))))
            file.write(msgpack.packb((["opt_state", "0"], flax.serialization.to_bytes({}))))
    elif kind == "flax_params":
        path.write_bytes(flax.serialization.to_bytes({"params": unflatten(leaves)}))
    else:
        safetensors.numpy.save_file(leaves, path)
    tensors = open_params(f"{kind}::{path}")
    config = configure(tensors, None, CONFIG)
    assert_same(load_decoder(tensors, config, mesh=None, dtype=jnp.float32), leaves)


def test_chunks_are_read_where_they_lie(tmp_path, small_chunks):
    values = np.arange(7 * 11 * 13, dtype="f4").reshape(7, 11, 13)
    write_stream(tmp_path / "p", {"a/b": values})
    (tensor,) = index_stream(tmp_path / "p").values()
    assert len(tensor.spans) > 30
    for index in [(), (slice(2, 5),), (slice(6, 7), slice(3, 9), slice(0, 13, 2))]:
        np.testing.assert_array_equal(tensor.read(index, np.float32), values[index])


def test_single_layers_and_stacked_layers_are_read_from_each_other(tmp_path):
    leaves = random_leaves()
    single = {n: v for n, v in leaves.items() if "scan_decoder" not in n}
    for name in set(leaves) - set(single):
        layers = enumerate(leaves[name])
        single |= {name.replace("scan_decoder", str(i)): v for i, v in layers}
    write_stream(tmp_path / "stacked", leaves)
    write_stream(tmp_path / "single", single)
    for file in ("stacked", "single"):
        tensors = open_params(f"params::{tmp_path / file}")
        for scan, wanted in ((True, leaves), (False, single)):
            config = replace(CONFIG, scan_layers=scan)
            assert_same(load_decoder(tensors, config, mesh=None, dtype=jnp.float32), wanted)


def test_sizes_come_from_the_file_and_text_only_files_make_text_models(tmp_path):
    text = replace(CONFIG, vision_vocab_size=0)
    write_stream(tmp_path / "p", random_leaves(text))
    tensors = open_params(str(tmp_path / "p"))
    assert configure(tensors, None, CONFIG).sees is False
    found = configure(tensors, None, None)
    assert (found.vocab_size, found.num_hidden_layers, found.sees) == (40, 3, False)


def test_truncated_stream_names_tensor_and_byte(tmp_path):
    path = tmp_path / "params"
    write_stream(path, random_leaves())
    whole = path.read_bytes()
    for cut in range(1, len(whole), 997):
        path.write_bytes(whole[:cut])
        with pytest.raises(ModelError, match=rf"ends at byte {cut}, inside \S+"):
            index_stream(path)
    path.write_bytes(whole[:-1])
    with pytest.raises(ModelError, match=rf"inside vision_head/kernel, .* byte {len(whole)}"):
        index_stream(path)


def test_other_bytes_are_refused_with_their_place(tmp_path):
    path = tmp_path / "params"
    for content in (b"\x93abc", b"PK\x03\x04 zip", b"\xc1", b"{}" * 50, bytes(64)):
        path.write_bytes(content)
        for read in (f"params::{path}", f"flax_params::{path}"):
            with pytest.raises(ModelError, match="byte"):
                open_params(read)


def test_damaged_array_is_named(tmp_path):
    path = tmp_path / "params"
    write_stream(path, {"a/b": np.zeros((2, 3), "f4")})
    path.write_bytes(path.read_bytes().replace(b"float32", b"float99"))
    with pytest.raises(ModelError, match=r"float99.* in a/b"):
        index_stream(path)
    write_stream(path, {"a/b": np.zeros((2, 3), "f4")})
    path.write_bytes(path.read_bytes().replace(b"\x92\x02\x03", b"\x92\x02\x04"))
    with pytest.raises(ModelError, match=r"24 bytes for float32\[2, 4\].* in a/b"):
        index_stream(path)


def test_wrong_vocabulary_names_the_tensor(tmp_path):
    write_stream(tmp_path / "p", random_leaves())
    tensors = open_params(str(tmp_path / "p"))
    wrong = replace(CONFIG, vocab_size=41)
    with pytest.raises(ModelError, match=r"wte/embedding, at byte \d+, is \[40, 16\].* \[41, 16\]"):
        load_decoder(tensors, wrong, mesh=None, dtype=jnp.float32)
    del tensors["lm_head/kernel"]
    with pytest.raises(ModelError, match="no tensor lm_head/kernel"):
        load_decoder(tensors, CONFIG, mesh=None, dtype=jnp.float32)


@pytest.mark.parametrize(
    ("source", "error"),
    [
        ("trainstate::{}", UsageError),
        ("paramz::{}", UsageError),
        ("params::missing", ModelNotFound),
    ],
)
def test_source_that_cannot_be_loaded_is_explained(tmp_path, source, error):
    write_stream(tmp_path / "p", {"a": np.zeros(1)})
    with pytest.raises(error) as caught:
        open_params(source.format(tmp_path / "p"))
    assert caught.value.hint


def vqgan_tree(config=TINY_VQGAN):
    rng = np.random.default_rng(1)
    return {n: rng.normal(size=s).astype("f4") for n, s in vqgan_shapes(config).items()}


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("make", [np.asarray, jnp.asarray, lambda x: jnp.asarray(x, "bfloat16")])
def test_vqgan_pickles_of_every_kind_are_read(tmp_path, protocol, make):
    leaves = vqgan_tree()
    tree = jax.tree.map(make, unflatten(leaves))
    for wrapped in (tree, freeze(tree), OrderedDict(params=tree)):
        (tmp_path / "vqgan").write_bytes(pickle.dumps(wrapped, protocol))
        config, params = load_vqgan(tmp_path / "vqgan", resolution=32)
        assert config == TINY_VQGAN
        wanted = {n: np.asarray(make(v), "f4") for n, v in leaves.items()}
        assert_same(params, wanted)


class Attack:
    def __reduce__(self):
        return (open, ("made-by-pickle", "w"))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickle_that_runs_code_is_refused_and_runs_nothing(tmp_path, monkeypatch, protocol):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "vqgan").write_bytes(pickle.dumps({"a": np.ones(2), "b": Attack()}, protocol))
    with pytest.raises(UnsafeModel, match="open"):
        unpickle_arrays(tmp_path / "vqgan")
    assert [path.name for path in tmp_path.iterdir()] == ["vqgan"]


@pytest.mark.parametrize("tree", [{"a": "text"}, [1, 2], {"a": np.array([{}])}])
def test_pickle_of_other_things_is_refused(tmp_path, tree):
    (tmp_path / "vqgan").write_bytes(pickle.dumps(tree))
    with pytest.raises(UnsafeModel, match="no array"):
        unpickle_arrays(tmp_path / "vqgan")


def test_damaged_pickle_is_named(tmp_path):
    whole = pickle.dumps(unflatten(vqgan_tree()))
    for content in (b"", whole[: len(whole) // 2], b"no pickle"):
        (tmp_path / "vqgan").write_bytes(content)
        with pytest.raises(ModelError, match="vqgan is no pickle"):
            unpickle_arrays(tmp_path / "vqgan")
    with pytest.raises(ModelNotFound, match="no VQGAN file"):
        load_vqgan(tmp_path / "missing")


def test_vqgan_and_params_taken_for_each_other_are_named(tmp_path):
    (tmp_path / "vqgan").write_bytes(pickle.dumps(unflatten(random_leaves(dtype="float32"))))
    with pytest.raises(ModelError, match="encoder/DownsamplingBlock_0"):
        load_vqgan(tmp_path / "vqgan")
    write_stream(tmp_path / "p", vqgan_tree())
    with pytest.raises(ModelError, match="transformer/wte/embedding"):
        configure(open_params(str(tmp_path / "p")), None, None)


def test_conversion_keeps_every_value_and_reads_back_alike(tmp_path, small_chunks):
    released, converted = tmp_path / "released", tmp_path / "converted"
    released.mkdir()
    leaves = random_leaves()
    write_stream(released / "params", leaves)
    (released / "vqgan").write_bytes(pickle.dumps(unflatten(vqgan_tree())))
    (released / "tokenizer.model").write_bytes(b"pieces")
    counts = convert(find_files(released), converted, config=replace(CONFIG, theta=1e7))
    assert counts == {"model.safetensors": 14, "vqgan.safetensors": len(vqgan_tree())}
    written = safetensors.numpy.load_file(converted / "model.safetensors")
    assert {n: v.tobytes() for n, v in written.items()} == {
        n: v.tobytes() for n, v in leaves.items()
    }
    files = find_files(converted)
    tensors = open_params(files.params)
    assert configure(tensors, files, None) == replace(CONFIG, theta=1e7)
    assert_same(load_decoder(tensors, CONFIG, mesh=None, dtype=jnp.bfloat16), leaves, "bfloat16")
    assert_same(load_vqgan(converted / "vqgan.safetensors", resolution=32)[1], vqgan_tree())
    assert (converted / "tokenizer.model").read_bytes() == b"pieces"
    assert json.loads((converted / "config.json").read_text())["model_type"] == "lwm"
    with pytest.raises(UsageError, match="not empty"):
        convert(find_files(released), converted)


def test_conversion_of_what_is_incomplete_writes_nothing(tmp_path):
    released = tmp_path / "released"
    released.mkdir()
    write_stream(released / "params", random_leaves())
    with pytest.raises(ModelNotFound, match=r"released holds no tokenizer\.model"):
        convert(find_files(released), tmp_path / "converted", config=CONFIG)
    assert not (tmp_path / "converted").exists()


def test_truncated_safetensors_names_tensor_and_byte(tmp_path):
    path = tmp_path / "a.safetensors"
    safetensors.numpy.save_file({"x": np.zeros((4, 4), "f4")}, path)
    size = path.stat().st_size
    path.write_bytes(path.read_bytes()[:-1])
    with pytest.raises(ModelError, match=rf"ends at byte {size - 1}, inside x"):
        index_safetensors(path)
    for content in (b"abc", struct.pack("<Q", 2**62) + b"{}"):
        path.write_bytes(content)
        with pytest.raises(ModelError, match="no safetensors"):
            index_safetensors(path)


def test_folder_without_weights_is_named(tmp_path):
    with pytest.raises(ModelNotFound, match="no params"):
        find_files(tmp_path)
