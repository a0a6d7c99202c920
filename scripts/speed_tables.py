"""Tables of docs/families.md: how quick the hf engine is beside the same model used plainly."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results"


def follow_ups() -> str:
    """Seconds to the first token of question 2 about the same video."""
    found = _result("followup")["results"]
    rows = [
        "| model | visual tokens | kinema | transformers by hand | only the new words | vLLM |",
        "|---|--:|--:|--:|--:|--:|",
    ]
    for name, one in found.items():
        seconds = one["seconds"]
        vllm = f"{seconds['vllm']:.3f} s" if "vllm" in seconds else ""
        rows.append(
            f"| {name} | {one['visual_tokens']:,} | {seconds['ours']:.3f} s "
            f"| {seconds['plain']:.2f} s ({one['plain_over_ours']} ×) "
            f"| {seconds['floor']:.3f} s | {vllm} |"
        )
    return "\n".join(rows)


def questions() -> str:
    """Tokens a second over several questions about several videos."""
    found = _result("questions")
    speed = found["tokens_per_second"]
    rows = [
        ("kinema, all questions at once", speed["ours"], ""),
        ("transformers by hand, one by one", speed["plain"], f"{found['ours_over_plain']} ×"),
        (
            "transformers by hand, one padded batch",
            speed["plain_batch"],
            f"{found['ours_over_plain_batch']} ×",
        ),
    ]
    lines = [f"| {name} | {value} | {gain} |" for name, value, gain in rows]
    return "\n".join(["| | tokens a second | kinema's gain |", "|---|--:|--:|", *lines])


def _result(name: str) -> Any:
    return json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
