"""Tables of docs/lwm.md, from what the benchmarks wrote."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


def parity() -> str:
    """Ours beside diffusers and transformers."""
    found = _result("lwm_parity")
    vqgan, decoder = found["vqgan"], found["decoder"]
    rows = [
        ("VQGAN latents", "diffusers `VQModel`", _within(vqgan["latents"])),
        ("VQGAN token ids", "diffusers `VQModel`", f"equal, {vqgan['ids']}"),
        ("VQGAN pixels from ids", "diffusers `VQModel`", _within(vqgan["pixels"])),
        ("text logits", "`LlamaForCausalLM`", _within(decoder["text_logits"])),
        ("vision logits", "`LlamaForCausalLM`", _within(decoder["vision_logits"])),
        ("likeliest word", "`LlamaForCausalLM`", f"equal, {decoder['likeliest_words']}"),
        ("greedy continuation", "`LlamaForCausalLM`", f"equal, {decoder['greedy_continuation']}"),
    ]
    return _table(("what", "beside", "largest difference"), rows)


def speed() -> str:
    """Ours over transformers, on a CPU."""
    found = _result("lwm_transformers")
    rows = []
    for form, what in (
        ("unscanned", "each layer compiled (CPUs)"),
        ("scanned", "layers scanned (GPUs)"),
    ):
        ours = found[form]
        seconds = ours["prefill_compile_seconds"] + ours["decode_compile_seconds"]
        working = max(ours["prefill_temp_mib"], ours["decode_temp_mib"])
        ratios = (f"{ours[f'{phase}_over_transformers']} ×" for phase in ("prefill", "decode"))
        rows.append((what, *ratios, f"{seconds:.0f} s", f"{working:.0f} MiB"))
    return _table(("", "prefill", "decode", "compile, once a shape", "working memory"), rows)


def memory() -> str:
    """What a prefill needs, by length."""
    found = _result("lwm_long")
    rows = [
        (
            f"{int(length):,}",
            f"{small:,.0f} MiB",
            *(f"{found['7b_float32_mib'][length][part] / 1024:.1f} GiB"
              for part in ("temp", "cache", "weights")),
        )
        for length, small in found["prefill_temp_mib"].items()
    ]  # fmt: skip
    heads = ("tokens", "small model: working", "7B float32: working", "cache", "weights")
    return _table(heads, rows)


def _result(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text())


def _within(found: dict[str, float]) -> str:
    return f"{found['max_difference']:.1e}, of at most {found['max']:.3g}"


def _table(heads: tuple[str, ...], rows: Sequence[tuple[str, ...]]) -> str:
    lines = [heads, ("---",) * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
