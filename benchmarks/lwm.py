"""LWM's decoder beside transformers' LLaMA: the same shapes and weights, in one run.

    python benchmarks/lwm.py                 # CPU, float32: tokens a second, memory, compile time
    python benchmarks/lwm.py --only long     # 32K tokens in a measured budget
    python benchmarks/lwm.py --only load     # memory while a released file is loaded
    python benchmarks/lwm.py --only floor    # 7B random bfloat16 weights against memory bandwidth

Prefill and decode take turns, so that a busy machine slows both; ratios are ratios of medians.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import flax.serialization
import jax
import jax.numpy as jnp
import msgpack
import numpy as np

from kinema.messages import SamplingParams
from kinema.models.lwm.checkpoint import load_decoder, open_params
from kinema.models.lwm.config import LWMConfig, load_config
from kinema.models.lwm.generate import PickWords, advance, batch, begin, settings_of
from kinema.models.lwm.llama import Decoder, Tokens, decoder_shapes
from kinema.models.lwm.prompt import words
from kinema.models.lwm.vqgan import unflatten

RESULTS = Path(__file__).parent / "results"
SHAPE = LWMConfig(
    hidden_size=1024,
    intermediate_size=2752,
    num_hidden_layers=8,
    num_attention_heads=8,
    vision_vocab_size=0,
)
"""Large enough for weights not to stay in a cache, small enough for two cores."""
PROMPT_TOKENS, NEW_TOKENS, ROUNDS = 1024, 24, 5
NO_EOS = PickWords(eos_id=1 << 30)


def random_params(config: LWMConfig, dtype: Any) -> dict[str, Any]:
    """Weights made on the device, so that 7B of them do not pass through the host."""

    @jax.jit
    def make() -> dict[str, Any]:
        shapes = decoder_shapes(config)
        keys = jax.random.split(jax.random.key(0), len(shapes))
        return {
            name: jax.random.normal(key, shape, dtype) * 0.02
            for key, (name, shape) in zip(keys, shapes.items(), strict=True)
        }

    leaves = make()
    if config.scan_layers:
        return unflatten(leaves)
    single = {n: v for n, v in leaves.items() if "scan_decoder" not in n}
    for name in set(leaves) - set(single):
        for i in range(config.num_hidden_layers):
            single[name.replace("scan_decoder", str(i))] = leaves[name][i]
    return unflatten(single)


class Ours:
    """Compiled prefill and decode loop."""

    def __init__(self, config: LWMConfig, dtype: Any, length: int, num_new: int) -> None:
        self.decoder, self.num_new = Decoder(config, jnp.dtype(dtype)), num_new
        self.params = jax.block_until_ready(random_params(config, dtype))
        ids = np.random.default_rng(0).integers(3, config.vocab_size, length)
        params = [SamplingParams(max_new_tokens=num_new)]
        self.settings = settings_of(params, self.decoder)
        self.tokens = batch(self.decoder, [words(ids.tolist())], num_new=num_new)
        self.length = length
        started = time.perf_counter()
        arguments = (self.params, self.tokens, self.settings)
        lowered = begin.lower(self.decoder, NO_EOS, *arguments, num_new)
        self.compiled_begin = lowered.compile()
        self.prefill_compile_seconds = time.perf_counter() - started
        state = self.compiled_begin(*arguments)
        started = time.perf_counter()
        until = jnp.int32(num_new)
        self.compiled_advance = advance.lower(
            self.decoder, NO_EOS, self.params, state, self.settings, until
        ).compile()
        self.decode_compile_seconds = time.perf_counter() - started

    def measure(self) -> tuple[float, float]:
        """Prefill and decode, tokens a second."""
        started = time.perf_counter()
        state = jax.block_until_ready(self.compiled_begin(self.params, self.tokens, self.settings))
        prefill = self.length / (time.perf_counter() - started)
        started = time.perf_counter()
        until = jnp.int32(self.num_new)
        jax.block_until_ready(self.compiled_advance(self.params, state, self.settings, until))
        return prefill, (self.num_new - 1) / (time.perf_counter() - started)

    def memory(self) -> dict[str, float]:
        """Bytes that the compiled programs say they need, in MiB."""
        programs = {"prefill": self.compiled_begin, "decode": self.compiled_advance}
        return {
            f"{name}_{part}_mib": _mib(getattr(p.memory_analysis(), f"{part}_size_in_bytes"))
            for name, p in programs.items()
            for part in ("temp", "argument", "output")
        }


def _mib(num_bytes: int) -> float:
    return round(num_bytes / 2**20, 1)


class Theirs:
    """transformers' LlamaForCausalLM with its own cache."""

    def __init__(self, config: LWMConfig, length: int, num_new: int) -> None:
        import torch
        from transformers import LlamaConfig, LlamaForCausalLM

        self.torch, self.num_new, self.length = torch, num_new, length
        self.model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=config.vocab_size,
                hidden_size=config.hidden_size,
                intermediate_size=config.intermediate_size,
                num_hidden_layers=config.num_hidden_layers,
                num_attention_heads=config.num_attention_heads,
                max_position_embeddings=config.max_sequence_length,
                rms_norm_eps=config.rms_norm_eps,
            )
        ).eval()
        self.ids = torch.randint(3, config.vocab_size, (1, length))

    def measure(self) -> tuple[float, float]:
        """Prefill and decode, tokens a second; only the last logits are made, as ours are."""
        with self.torch.inference_mode():
            started = time.perf_counter()
            out = self.model(self.ids, use_cache=True, logits_to_keep=1)
            prefill = self.length / (time.perf_counter() - started)
            started = time.perf_counter()
            for _ in range(self.num_new - 1):
                token = out.logits[:, -1:].argmax(-1)
                out = self.model(token, past_key_values=out.past_key_values, use_cache=True)
            return prefill, (self.num_new - 1) / (time.perf_counter() - started)


def beside_transformers() -> dict[str, Any]:
    peer = Theirs(SHAPE, PROMPT_TOKENS, NEW_TOKENS)
    forms = {"scanned": SHAPE, "unscanned": replace(SHAPE, scan_layers=False)}
    runs: dict[str, Any] = {
        name: Ours(config, jnp.float32, PROMPT_TOKENS, NEW_TOKENS) for name, config in forms.items()
    }
    runs["transformers"] = peer
    samples: dict[str, list[tuple[float, float]]] = {name: [] for name in runs}
    for _ in range(ROUNDS):
        for name, run in runs.items():
            samples[name].append(run.measure())
    result: dict[str, Any] = {
        name: {
            "prefill_tokens_per_second": round(statistics.median(p for p, _ in found[1:]), 1),
            "decode_tokens_per_second": round(statistics.median(d for _, d in found[1:]), 2),
        }
        for name, found in samples.items()
    }
    for name in forms:
        result[name] |= {
            "prefill_compile_seconds": round(runs[name].prefill_compile_seconds, 2),
            "decode_compile_seconds": round(runs[name].decode_compile_seconds, 2),
            **runs[name].memory(),
        }
        for phase in ("prefill", "decode"):
            key = f"{phase}_tokens_per_second"
            ratio = result[name][key] / result["transformers"][key]
            result[name][f"{phase}_over_transformers"] = round(ratio, 2)
    sizes = {"prompt_tokens": PROMPT_TOKENS, "new_tokens": NEW_TOKENS, "rounds": ROUNDS - 1}
    return {"shape": SHAPE.to_dict(), **sizes, **result}


def long_prompts() -> dict[str, Any]:
    """Working memory by length, and one real run of 32K tokens."""
    small = replace(SHAPE, num_hidden_layers=2, hidden_size=256, intermediate_size=688,
                    num_attention_heads=2, vocab_size=512)  # fmt: skip
    lengths = (4096, 8192, 16384, 32768)
    run = Ours(small, jnp.float32, lengths[-1], 128)
    started = time.perf_counter()
    state = run.compiled_begin(run.params, run.tokens, run.settings)
    jax.block_until_ready(state)
    prefill = time.perf_counter() - started
    started = time.perf_counter()
    jax.block_until_ready(
        run.compiled_advance(run.params, state, run.settings, jnp.int32(run.num_new))
    )
    return {
        "shape": small.to_dict(),
        "prefill_temp_mib": {str(n): prefill_memory(small, n)["temp"] for n in lengths},
        "7b_float32_mib": {str(n): prefill_memory(load_config("7b"), n) for n in lengths},
        "scores_of_one_head_at_32768_mib": 32768**2 * 4 / 2**20,
        "prefill_32768_seconds": round(prefill, 1),
        "decode_127_tokens_at_32768_seconds": round(time.perf_counter() - started, 1),
        "peak_process_mib": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }


def prefill_memory(config: LWMConfig, length: int) -> dict[str, float]:
    """MiB of a compiled prefill: weights in, cache out, and what it works with. Nothing is run."""
    decoder, shape = Decoder(config), jax.ShapeDtypeStruct
    params = unflatten({n: shape(s, jnp.float32) for n, s in decoder_shapes(config).items()})
    tokens = Tokens(shape((1, length), jnp.int32), shape((1, length), bool), shape((1,), jnp.int32))
    settings = settings_of([SamplingParams(max_new_tokens=128)], decoder)
    compiled = begin.lower(decoder, NO_EOS, params, tokens, settings, 128).compile()
    needed = compiled.memory_analysis()
    parts = {"weights": "argument", "cache": "output", "temp": "temp"}
    return {name: _mib(getattr(needed, f"{part}_size_in_bytes")) for name, part in parts.items()}


def loading() -> dict[str, Any]:
    """A released file of 14 tensors onto one device: peak memory over what the weights take."""
    config = replace(load_config("1b"), num_hidden_layers=10)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "params"
        with path.open("wb") as file:
            for name, shape in sorted(decoder_shapes(config).items()):
                value = np.ones(shape, jnp.bfloat16)
                entry = (name.split("/"), flax.serialization.to_bytes(value))
                file.write(msgpack.packb(entry))
        gc.collect()
        before = _anonymous_mib()
        with _Peak() as peak:
            began = time.perf_counter()
            params = load_decoder(
                open_params(f"params::{path}"), config, mesh=None, dtype=jnp.bfloat16
            )
            jax.block_until_ready(params)
            seconds = time.perf_counter() - began
        leaves = jax.tree.leaves(params)
        return {
            "shape": asdict(config),
            "file_mib": _mib(path.stat().st_size),
            "weights_mib": _mib(sum(leaf.nbytes for leaf in leaves)),
            "largest_tensor_mib": _mib(max(leaf.nbytes for leaf in leaves)),
            "peak_above_start_mib": round(peak.mib - before, 1),
            "seconds": round(seconds, 1),
        }


class _Peak:
    """Samples this process's own memory, file pages not counted, every few milliseconds."""

    def __enter__(self) -> _Peak:
        self.mib, self._ended = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._ended.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._ended.wait(0.003):
            self.mib = max(self.mib, _anonymous_mib())


def _anonymous_mib() -> float:
    status = Path("/proc/self/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) / 1024


def bandwidth_floor() -> dict[str, Any]:
    """7B, bfloat16, batch 1: time of a token over the time its bytes need."""
    config = replace(load_config("7b"), max_sequence_length=4096)
    bytes_per_second = measured_bandwidth()
    result: dict[str, Any] = {"measured_bandwidth_gb_per_second": round(bytes_per_second / 1e9)}
    for scan in (True, False):
        run = Ours(replace(config, scan_layers=scan), jnp.bfloat16, 1024, 128)
        samples = [run.measure() for _ in range(5)][1:]
        decode = statistics.median(d for _, d in samples)
        shapes = decoder_shapes(config)
        read = sum(
            np.prod(s) for n, s in shapes.items() if "embedding" not in n and "vision" not in n
        )
        cache = 2 * config.num_hidden_layers * config.hidden_size * run.tokens.ids.shape[1]
        floor = (read + cache) * 2 / bytes_per_second
        result["scanned" if scan else "unscanned"] = {
            "prefill_tokens_per_second": round(statistics.median(p for p, _ in samples), 1),
            "decode_tokens_per_second": round(decode, 1),
            "share_of_bandwidth_floor": round(decode * floor, 3),
            "prefill_compile_seconds": round(run.prefill_compile_seconds, 1),
            "decode_compile_seconds": round(run.decode_compile_seconds, 1),
            **run.memory(),
        }
        del run
    return result


def measured_bandwidth() -> float:
    """Bytes a second that a sum over 2 GiB reaches on this device."""
    values = jnp.ones(2**30, jnp.bfloat16)
    total = jax.jit(lambda v: v.astype(jnp.float32).sum())
    total(values).block_until_ready()
    times = []
    for _ in range(10):
        started = time.perf_counter()
        total(values).block_until_ready()
        times.append(time.perf_counter() - started)
    return values.nbytes / statistics.median(times)


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "transformers": beside_transformers,
    "long": long_prompts,
    "load": loading,
    "floor": bandwidth_floor,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", choices=PARTS)
    only = parser.parse_args().only
    if only is None:
        # Each part in a process of its own, so that peaks of memory are its own.
        for name in ("transformers", "long", "load"):
            subprocess.run([sys.executable, __file__, "--only", name], check=True)
        return
    device = jax.devices()[0]
    facts = {"device": device.device_kind, "jax": jax.__version__, "machine": platform.machine()}
    record = {**facts, "cores": len(os.sched_getaffinity(0)), **PARTS[only]()}
    RESULTS.mkdir(exist_ok=True)
    target = RESULTS / f"lwm_{only}.json"
    target.write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(record, indent=2))


if __name__ == "__main__":
    main()
