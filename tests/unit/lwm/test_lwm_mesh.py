"""Meshes: how they are written, what they cut, and that they never change an answer."""

import json
import math
import os
import subprocess
import sys
from pathlib import Path

import jax
import pytest
from jax.sharding import PartitionSpec as P

from kinema.errors import UsageError
from kinema.models.lwm.config import load_config
from kinema.models.lwm.llama import decoder_shapes
from kinema.models.lwm.mesh import make_mesh, partition

SAME_ANSWERS = Path(__file__).with_name("mesh_answers.py")


@pytest.fixture(scope="module")
def on_four_devices():
    """What the script next to this file prints on four simulated devices."""
    environment = {
        **os.environ,
        # Machine code need not be good here; compiling it well would take most of the time.
        "XLA_FLAGS": "--xla_force_host_platform_device_count=4"
        " --xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true",
        "JAX_PLATFORMS": "cpu",
    }
    done = subprocess.run(
        [sys.executable, "-W", "error", str(SAME_ANSWERS)],
        env=environment, capture_output=True, text=True, timeout=300, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    return json.loads(done.stdout)


@pytest.mark.slow
@pytest.mark.parametrize(
    "name", ["tp2", "sp2", "tp2×sp2", "dp2×fsdp2", "tp2×sp2 by layer", "dp2×fsdp2 by layer"]
)
def test_answers_are_the_same_on_every_mesh(on_four_devices, name):
    alone, meshed = on_four_devices["answers"]["one"], on_four_devices["answers"][name]
    assert meshed["tokens"] == alone["tokens"]
    assert meshed["max_logit_difference"] < 1e-4


@pytest.mark.slow
def test_weights_are_cut_and_not_copied(on_four_devices):
    cut = on_four_devices["shard_of_w1"]
    assert cut["tp2"] == [2, 64, 48]
    assert cut["sp2"] == [2, 32, 96]
    assert cut["dp2×fsdp2"] == [2, 32, 96]
    assert cut["tp2×sp2 by layer"] == [32, 48]


@pytest.mark.slow
def test_mesh_that_does_not_fit_says_which_rule_fails_and_what_fits(on_four_devices):
    refused = on_four_devices["refused"]
    assert "tp = 4, which does not divide the 2 attention heads" in refused["heads"]
    assert "tp may be 1, 2" in refused["heads"]
    assert "wants 3 devices" in refused["devices"]
    assert "1,1,-1,1" in refused["devices"]


@pytest.mark.slow
def test_order_and_names_are_understood(on_four_devices):
    assert on_four_devices["named"] == on_four_devices["plain"] == [1, 1, 2, 2]
    assert on_four_devices["bang"] == [0, 1, 2, 3]


@pytest.mark.parametrize("text", ["1,-1,1,1", "!1,1,-1,1", "dp:1,fsdp:1,tp:-1,sp:1", "1,1,1,1"])
def test_one_device_needs_no_mesh(text):
    assert make_mesh(text, devices=jax.devices()[:1]) is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("1,1,2,1", "wants 2 devices and there are 1"),
        ("1,1,1", "3 dimensions"),
        ("1,1,x,1", "numbers"),
        ("-1,-1,1,1", "more than one -1"),
        ("1,1,0,1", "below 1"),
        ("dp:1,tp:1,tp:1,sp:1", "name each"),
    ],
)
def test_mesh_that_cannot_be_read_is_explained(text, complaint):
    with pytest.raises(UsageError, match=complaint):
        make_mesh(text, devices=jax.devices()[:1])


def test_partition_rules_cut_the_released_tensors():
    specs = {n: partition(n, len(s)) for n, s in decoder_shapes(load_config("7b")).items()}
    layer, wide = "transformer/h/scan_decoder", ("fsdp", "sp")
    assert specs == {
        "transformer/wte/embedding": P("tp", wide),
        "transformer/vte/embedding": P("tp", wide),
        f"{layer}/attention/wq/kernel": P(None, wide, "tp"),
        f"{layer}/attention/wk/kernel": P(None, wide, "tp"),
        f"{layer}/attention/wv/kernel": P(None, wide, "tp"),
        f"{layer}/attention/wo/kernel": P(None, "tp", wide),
        f"{layer}/feed_forward/w1/kernel": P(None, wide, "tp"),
        f"{layer}/feed_forward/w3/kernel": P(None, wide, "tp"),
        f"{layer}/feed_forward/w2/kernel": P(None, "tp", wide),
        f"{layer}/attention_norm/kernel": P(),
        f"{layer}/ffn_norm/kernel": P(),
        "transformer/ln_f/kernel": P(),
        "lm_head/kernel": P(wide, "tp"),
        "vision_head/kernel": P(wide, "tp"),
    }
    assert sum(math.prod(s) for s in decoder_shapes(load_config("7b")).values()) == 6_807_621_632
