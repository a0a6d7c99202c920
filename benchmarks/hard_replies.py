"""How many hard replies are read right: kinema's rules beside those of two other tools.

The list is ``tests/data/hard_replies.jsonl``, the replies to questions whose options have letters.
The other rules are run from checkouts of these tools, as they are: lmms-eval's
``extract_mcq_answer``, VLMEvalKit's ``can_infer`` and the rule of its Video-MME. Reasoning is taken
out first for all of them, as both tools ask for.

    python benchmarks/hard_replies.py --lmms-eval ../lmms-eval --vlmevalkit ../VLMEvalKit
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import json
import logging
import re
import subprocess
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from common import write_result
from kinema.evaluation.choice import LETTERS, parse_choice
from kinema.reasoning import separate

LIST = Path(__file__).resolve().parents[1] / "tests/data/hard_replies.jsonl"
Rule = Callable[[str, Sequence[str]], str | None]
"""From a reply and the options' texts to a letter, or None."""


def kinemas(reply: str, options: Sequence[str]) -> str | None:
    index = parse_choice(reply, options).index
    return None if index is None else LETTERS[index]


def lmms_evals(checkout: Path) -> Rule:
    module = _loaded(checkout / "lmms_eval/tasks/_task_utils/mcq_extract.py")

    def rule(reply: str, options: Sequence[str]) -> str | None:
        letters = list(LETTERS[: len(options)])
        return module.extract_mcq_answer(separate(reply).answer, choices=letters) or None

    return rule


def vlmevalkits(checkout: Path) -> Rule:
    """Its rules that need no judge: a letter, else the text of one option."""
    log = types.ModuleType("vlmeval.smp.log")
    log.get_logger = logging.getLogger  # type: ignore[attr-defined]
    sys.modules |= {"vlmeval.smp.log": log}
    module = _loaded(checkout / "vlmeval/utils/matching_util.py")

    def rule(reply: str, options: Sequence[str]) -> str | None:
        found = module.can_infer(separate(reply).answer, dict(zip(LETTERS, options, strict=False)))
        return found if found and found != "Z" else None  # Z stands for a refusal

    return rule


def its_video_mme(checkout: Path) -> Rule:
    source = (checkout / "vlmeval/dataset/utils/videomme.py").read_text(encoding="utf-8")
    (function,) = (
        node
        for node in ast.parse(source).body
        if isinstance(node, ast.FunctionDef) and node.name == "extract_characters_regex"
    )
    names: dict[str, Any] = {"re": re}
    exec(compile(ast.Module([function], []), "videomme.py", "exec"), names)
    return lambda reply, options: names["extract_characters_regex"](separate(reply).answer) or None


def _loaded(path: Path) -> Any:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def measured(rule: Rule, cases: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Shares in percent: read right, as an option that it does not pick, and not at all."""
    found = [(rule(case["reply"], case["options"]), case["expected"]) for case in cases]
    wrong = sum(got is not None and got != want for got, want in found)
    missed = sum(got is None and want is not None for got, want in found)
    count = len(cases)
    return {
        "read_right": round(100 * (count - wrong - missed) / count, 1),
        "read_as_another_option": round(100 * wrong / count, 1),
        "not_read": round(100 * missed / count, 1),
    }


def _commit(checkout: Path) -> str:
    command = ["git", "-C", str(checkout), "rev-parse", "--short", "HEAD"]
    return subprocess.run(command, capture_output=True, text=True, check=False).stdout.strip()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--lmms-eval", type=Path, required=True)
    parser.add_argument("--vlmevalkit", type=Path, required=True)
    given = parser.parse_args()
    lines = LIST.read_text(encoding="utf-8").split("\n")
    cases = [case for case in map(json.loads, filter(None, lines)) if case.get("lettered", True)]
    seen = [case for case in cases if case["source"].startswith("https://")]
    rules: dict[str, Rule] = {
        "kinema": kinemas,
        "lmms-eval": lmms_evals(given.lmms_eval),
        "VLMEvalKit": vlmevalkits(given.vlmevalkit),
        "VLMEvalKit, Video-MME": its_video_mme(given.vlmevalkit),
    }
    result = {
        "commits": {
            "lmms-eval": _commit(given.lmms_eval),
            "VLMEvalKit": _commit(given.vlmevalkit),
        },
        "replies": len(cases),
        "replies_seen_elsewhere": len(seen),
        "all": {name: measured(rule, cases) for name, rule in rules.items()},
        "seen_elsewhere": {name: measured(rule, seen) for name, rule in rules.items()},
    }
    write_result("hard_replies", result)


if __name__ == "__main__":
    main()
