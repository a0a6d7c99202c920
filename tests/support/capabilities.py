"""What tests show that a family can do on an engine; docs/capabilities.json keeps it."""

from __future__ import annotations

import json
from pathlib import Path

FILE = Path(__file__).parents[2] / "docs" / "capabilities.json"
CAPABILITIES = ("video", "image", "mixed", "batched", "quantised", "streamed", "follow-up")
Verdicts = dict[str, dict[str, dict[str, str]]]
"""By family, engine and capability."""


class Shown:
    """What tests have shown until now."""

    def __init__(self) -> None:
        self.verdicts: Verdicts = {}

    def __call__(self, family: str, engine: str, capability: str, verdict: str = "yes") -> None:
        """Note a verdict; ``family`` may be the name of one of its checkpoints."""
        assert capability in CAPABILITIES
        engines = self.verdicts.setdefault(family.removesuffix("-hybrid"), {})
        engines.setdefault(engine, {})[capability] = verdict

    def add(self, verdicts: Verdicts) -> None:
        """Take over what another process has noted."""
        _merge(self.verdicts, verdicts)


def check(shown: Shown) -> list[str]:
    """What the file says and the tests do not, in words; what it leaves open is no claim."""
    kept = _read()
    return [
        f"{family} on {engine}: {capability} {verdict}"
        for family, engines in shown.verdicts.items()
        for engine, verdicts in engines.items()
        for capability, verdict in verdicts.items()
        if kept.get(family, {}).get(engine, {}).get(capability, verdict) != verdict
    ]


def write(shown: Shown) -> None:
    """Put the verdicts into the file, beside those of other runs."""
    kept = _read()
    _merge(kept, shown.verdicts)
    FILE.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def _merge(into: Verdicts, verdicts: Verdicts) -> None:
    for family, engines in verdicts.items():
        for engine, noted in engines.items():
            into.setdefault(family, {}).setdefault(engine, {}).update(noted)


def _read() -> Verdicts:
    return json.loads(FILE.read_text(encoding="utf-8")) if FILE.is_file() else {}
