"""The faults that a reader of videos must survive, and where each is tested."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

FAULTS = {
    1: (
        "missing, a directory, unreadable, a pipe or device",
        "`not_found`, `not_a_file`; never waits",
    ),
    2: ("empty, text or a saved error page", "`not_media`, naming what it looks like"),
    3: (
        "audio only, cover art, several video tracks",
        "`no_video_stream`; covers ignored; the track that players show, said",
    ),
    4: ("MP4 without its table of contents", "`truncated`, with how to repair it"),
    5: ("cut off in the middle", "what exists, `Decoded 17 of 60 frames.`; an error with `strict`"),
    6: ("flipped bits", "damaged packets and frames marked as corrupt are counted in `warnings`"),
    7: ("no, one or two frames; pictures; GIF", "`no_frames`, or each frame once"),
    8: (
        "headers that lie about counts and lengths",
        "counts come from packets; memory stays small",
    ),
    9: (
        "variable rate, edit lists, negative, missing or repeated times",
        "sampled by presentation time",
    ),
    10: ("rotation, mirroring, wide pixels, interlacing", "upright, square, without comb"),
    11: (
        "HDR, 10 bit, full range, 4:4:4, alpha, grey",
        "8-bit RGB, tone-mapped, right matrix and range",
    ),
    12: (
        "odd, tiny or enormous pictures; sizes that change",
        "kept, or `too_large`; brought to the first",
    ),
    13: ("bombs", "memory follows the frames taken; budgets stop the rest"),
    14: ("ten hours", "sought and not walked, in flat memory"),
    15: ("more frames than there are; rates of 0, −1, NaN", "each frame once, said; exit 2"),
    16: ("ranges: `1:20`, `abc`, backwards, beyond the end", "read, clipped and said, or refused"),
    17: ("more frames than the context holds", "counted before the model runs; says how many fit"),
    18: ("a decoder that hangs", "its process is killed at the deadline; `decode_deadline`"),
    19: ("a decoder that crashes or eats memory", "`decoder_crashed`; set aside after two deaths"),
    20: ("playlists, protocols as names, external tracks", "nothing else is ever opened"),
    21: (
        "paths out of the media folder, links, races",
        "`path_not_allowed`, always the same words",
    ),
    22: ("addresses that lead inwards or read two ways", "`url_not_allowed`"),
    23: (
        "redirects inwards, names that change their mind",
        "each hop checked, resolved once and pinned",
    ),
    24: (
        "slow, endless, lying or failing servers",
        "byte and time budgets; only 429 and 5xx asked again",
    ),
    25: (
        "damaged, wrong or enormous `data:` addresses",
        "refused on size and count before decoding",
    ),
}
"""Row to fault and behaviour."""


def marked_tests() -> dict[int, list[str]]:
    """Row to the tests that are marked with it, as ``file::function``."""
    found: dict[int, list[str]] = {row: [] for row in FAULTS}
    for path in sorted(Path(__file__).parent.glob("test_*.py")):
        tree = ast.parse(path.read_text())
        of_module = [
            row for node in tree.body if isinstance(node, ast.Assign) for row in _rows(node)
        ]
        for function in tree.body:
            if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
                rows = of_module or [r for d in function.decorator_list for r in _rows(d)]
                for row in rows:
                    found[row].append(f"{path.name}::{function.name}")
    return found


def _rows(node: ast.AST) -> Iterator[int]:
    """The numbers of ``pytest.mark.fault(…)`` inside a node."""
    for call in ast.walk(node):
        if isinstance(call, ast.Call) and ast.unparse(call.func) == "pytest.mark.fault":
            yield from (ast.literal_eval(argument) for argument in call.args)


def table() -> str:
    """Every fault, what happens, and how many tests of which files say so."""
    lines = ["| | what is wrong | what happens | tests, in `tests/faults/` |", "|---|---|---|---|"]
    for row, names in marked_tests().items():
        files = sorted({name.partition("::")[0] for name in names})
        fault, behaviour = FAULTS[row]
        where = ", ".join(f"`{file}`" for file in files)
        lines.append(f"| {row} | {fault} | {behaviour} | {len(names)} in {where} |")
    return "\n".join(lines)
