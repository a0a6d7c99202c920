"""Run by test_lwm_mesh on four simulated devices: the same prompts on different meshes, as JSON."""

import json

import jax
import numpy as np

from kinema.errors import UsageError
from kinema.messages import SamplingParams
from kinema.models.lwm.config import LWMConfig
from kinema.models.lwm.generate import PickWords, batch, run, settings_of
from kinema.models.lwm.llama import Decoder, decoder_shapes
from kinema.models.lwm.mesh import check_model, make_mesh, partition, sharding
from kinema.models.lwm.prompt import LaidOut
from kinema.models.lwm.vqgan import unflatten

CONFIG = LWMConfig(
    vocab_size=96,
    vision_vocab_size=64,
    hidden_size=64,
    intermediate_size=96,
    num_hidden_layers=2,
    num_attention_heads=2,
    scan_query_chunk_size=32,
    scan_key_chunk_size=64,
    scan_mlp_chunk_size=64,
)
GREEDY = SamplingParams(max_new_tokens=8)
DRAWN = SamplingParams(temperature=0.8, top_k=20, top_p=0.9, seed=7, max_new_tokens=8)
MESHES = {
    "one": (1, "1,1,1,1"),
    "tp2": (2, "1,1,-1,1"),
    "sp2": (2, "1,1,1,-1"),
    "tp2×sp2": (4, "!1,1,2,2"),
    "dp2×fsdp2": (4, "2,2,1,1"),
}
BY_LAYER = ("tp2×sp2", "dp2×fsdp2")
"""Meshes on which the layers are also compiled one by one, as CPUs do."""


def prompt(length, seed):
    rng = np.random.default_rng(seed)
    is_vision = np.zeros(length, bool)
    is_vision[5 : length - 5] = True
    return LaidOut(rng.integers(0, 64, length).astype(np.int32), is_vision)


def answers(leaves, mesh):
    decoder = Decoder(CONFIG, mesh=mesh)
    check_model(mesh, CONFIG)
    placed = {
        name: jax.device_put(value, sharding(mesh, partition(name, value.ndim)))
        for name, value in leaves.items()
    }
    params, prompts = unflatten(placed), [prompt(n, n) for n in (40, 90, 61, 120)]
    hidden = decoder.hidden(params, batch(decoder, prompts, num_new=1))
    logits = np.asarray(decoder.logits(params, hidden[:, -1], "text"))
    settings = settings_of([GREEDY, DRAWN, GREEDY, DRAWN], decoder)
    *_, added = run(decoder, PickWords(eos_id=2), params, prompts, settings)
    result = {"logits": logits, "tokens": added.tolist()}
    w1 = next(value for name, value in placed.items() if "/w1/" in name)
    return result, list(w1.addressable_shards[0].data.shape)


def by_layer(leaves):
    """The stacked weights as single layers."""
    single = {n: v for n, v in leaves.items() if "scan_decoder" not in n}
    for name in set(leaves) - set(single):
        layers = enumerate(leaves[name])
        single |= {name.replace("scan_decoder", str(i)): value for i, value in layers}
    return single


def refusal(call, *arguments, **more):
    try:
        call(*arguments, **more)
    except UsageError as error:
        return f"{error} {error.hint}"
    raise AssertionError("not refused")


def main():
    rng = np.random.default_rng(0)
    leaves = {n: rng.normal(0, 0.2, s).astype("f4") for n, s in decoder_shapes(CONFIG).items()}
    found, shards = {}, {}
    for name, (count, text) in MESHES.items():
        mesh = make_mesh(text, devices=jax.devices()[:count])
        found[name], shards[name] = answers(leaves, mesh)
        if name in BY_LAYER:
            row = f"{name} by layer"
            found[row], shards[row] = answers(by_layer(leaves), mesh)
    alone = found["one"]["logits"]
    for result in found.values():
        result["max_logit_difference"] = float(np.abs(result.pop("logits") - alone).max())
    devices = jax.devices()
    named = make_mesh("sp:2,tp:-1,dp:1,fsdp:1", devices=devices)
    report = {
        "answers": found,
        "shard_of_w1": shards,
        "refused": {
            "heads": refusal(check_model, make_mesh("1,1,4,1", devices=devices), CONFIG),
            "devices": refusal(make_mesh, "1,1,3,1", devices=devices),
        },
        "named": list(named.shape.values()),
        "plain": list(make_mesh("1,1,2,2", devices=devices).shape.values()),
        "bang": [device.id for device in make_mesh("!1,1,2,2", devices=devices).devices.flat],
    }
    print(json.dumps(report))


if __name__ == "__main__":
    main()
