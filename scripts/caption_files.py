"""The files of docs/captioning.md, made by running the command above them."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
CLIP = "examples/four_things.mp4"
COMMAND = ("caption", CLIP, "--fps", "2", "--segment-by", "shots", "--export", "srt,chapters,edl")
_NUMBERS = re.compile(r"\[\s+([\d.,\s]+?)\s+\]")
_MEASURED = ("time", "average_inference", "turnaround_time")


def files() -> str:
    """The command and what it writes."""
    with tempfile.TemporaryDirectory() as folder:
        out = Path(folder)
        words = [*COMMAND, "-o", folder, "--result-path", str(out / "result.json"), "--quiet"]
        subprocess.run([sys.executable, "-m", "kinema", *words], cwd=ROOT, check=True)
        shown = {"result.json": _short(json.loads((out / "result.json").read_text()))}
        for path in sorted(out.glob("four_things.*")):
            shown[path.name] = path.read_text().strip()
    typed = f"$ kinema {' '.join(COMMAND)} \\\n    -o captions --result-path result.json"
    blocks = (f"`{name}`:\n\n```text\n{text}\n```" for name, text in shown.items())
    return "\n\n".join([f"```text\n{typed}\n```", *blocks])


def _short(result: dict[str, Any]) -> str:
    """The result with the first of each list, and no figures that differ from run to run."""
    own = result.pop("x_kinema")
    result["batches"] = result["batches"][:1]
    kept = {name: own[name] for name in ("status", "content", "summary", "captions")}
    result["x_kinema"] = kept | {name: kept[name][:1] for name in ("summary", "captions")}
    _without_figures(result)
    text = json.dumps(result, indent=2, ensure_ascii=False)
    return _NUMBERS.sub(lambda found: f"[{' '.join(found[1].split())}]", text)


def _without_figures(values: dict[str, Any]) -> None:
    for name in _MEASURED:
        if name in values:
            values[name] = 0.0
    for batch in values.get("batches", ()):
        batch["time"] = 0.0


if __name__ == "__main__":
    print(files())
