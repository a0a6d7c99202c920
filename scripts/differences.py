"""kinema against transformers called directly, over every model type that kinema names.

    python scripts/differences.py              all of them, into docs/differences.json
    python scripts/differences.py qwen2.5-vl   these alone, beside what is in the file

Each type is a small random checkpoint of transformers' own classes. What is compared: the tokens of
a question alone, of questions of different length in one batch, of a second turn after the first,
with an adapter and in nf4; and in bfloat16 the positions of a clip of 10 seconds, 10 minutes and 3
hours, with those of transformers in float32.
"""

from __future__ import annotations

import contextlib
import io
import json
import sys
import tempfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForImageTextToText, BitsAndBytesConfig
from transformers.utils import logging

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT / "tests"))

from kinema.engines import EngineSettings  # noqa: E402
from kinema.engines.hf.mrope import follow_training_positions  # noqa: E402
from kinema.messages import (  # noqa: E402
    Conversation,
    ImagePart,
    Message,
    Request,
    SamplingParams,
    TextPart,
    VideoPart,
)
from kinema.prompt import decode, prepare  # noqa: E402
from kinema.tasks.models import find_model  # noqa: E402
from support.by_hand import NEW_TOKENS, ByHand, clip, long_clip, positions_of  # noqa: E402
from support.driver import answer, generate  # noqa: E402
from support.tiny_families import HF_FAMILIES, make_checkpoint  # noqa: E402
from support.tiny_types import TYPES, make_type  # noqa: E402

RESULTS = ROOT / "docs" / "differences.json"
NAMES = (*HF_FAMILIES, *TYPES)
PARAMS = SamplingParams(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)
WIDE = 128
"""Width of the checkpoints for nf4, whose kernels work in blocks of 64."""
SECONDS = (10, 600, 10_800)


class Compared:
    """One type: its checkpoint, kinema's model of it, and transformers' own."""

    def __init__(self, name: str, folder: Path, *, width: int = 32) -> None:
        make = make_checkpoint if name in HF_FAMILIES else make_type
        self.folder = make(name, folder, width=width)
        self.model = find_model(str(self.folder), engine="hf")
        self.hand = ByHand(self.folder)

    def open(self, **settings: Any) -> Any:
        return self.model.open(EngineSettings(**{"device": "cpu", "dtype": "float32"} | settings))

    def medium(self, seed: int, frames: int = 8) -> Any:
        """A clip where the type takes clips, else a picture."""
        takes_video = self.model.family.takes_video
        return VideoPart(clip(seed, frames)) if takes_video else ImagePart(clip(seed, 1))

    def request(self, *messages: Message, name: str = "0") -> Request:
        return prepare(
            decode(Conversation(messages), self.model.family),
            family=self.model.family,
            checkpoint=self.model.checkpoint,
            params=PARAMS,
            request_id=name,
        )

    def given(self, request: Request) -> dict[str, Any]:
        """The media of a request as transformers' processors take them."""
        kinds = {kind: [m.frames for m in request.media if m.kind == kind] for kind in _KINDS}
        return {f"{kind}s": frames for kind, frames in kinds.items() if frames}

    def theirs(self, request: Request) -> list[int]:
        return self.hand.complete(request.prompt.text, **self.given(request))


_KINDS = ("image", "video")


def said(text: str, *media: Any, role: Any = "user") -> Message:
    return Message(role, (*media, TextPart(text)))


def alone(name: str, folder: Path) -> str:
    one = Compared(name, folder)
    request = one.request(said("what do you see in this video?", one.medium(1)))
    return verdict(list(answer(one.open(), request).token_ids), one.theirs(request))


def batch(name: str, folder: Path) -> str:
    one = Compared(name, folder)
    asked = [
        one.request(said("why?", one.medium(1)), name="1"),
        one.request(said("what do you see, and is it funny?", one.medium(2)), name="2"),
        one.request(said("Describe the clip. Why?", one.medium(3)), name="3"),
    ]
    ours = {c.request_id: list(c.token_ids) for c in generate(one.open(), asked)}
    verdicts = (verdict(ours[request.id], one.theirs(request)) for request in asked)
    return next((found for found in verdicts if found != "same"), "same")


def second_turn(name: str, folder: Path) -> str:
    one, text = Compared(name, folder), "why?"
    first = said(text, one.medium(1))
    engine = one.open()
    reply = answer(engine, one.request(first)).text
    # What reads like a control token is kept as words here, and is one to transformers.
    for answered in (reply, "a rabbit"):
        request = one.request(first, said(answered, role="assistant"), said("and who is that?"))
        if not request.prompt.literals:
            break
    return verdict(list(answer(engine, request).token_ids), one.theirs(request))


def positions(name: str, folder: Path) -> str:
    one = Compared(name, folder)
    engine = one.open(dtype="bfloat16", keep_conversations=0)
    family = one.model.family
    for seconds in SECONDS:
        shown = long_clip(
            seconds, num_frames=family.exact_frames or (48 if family.takes_video else 8)
        )
        request = one.request(said("why?", VideoPart(shown)))
        ours = positions_of(engine.model, lambda asked=request: answer(engine, asked))
        inputs = one.hand.inputs(request.prompt.text, **one.given(request))
        inputs.pop("labels", None)
        run = one.hand.model.generate
        theirs = positions_of(one.hand.model, lambda i=inputs, r=run: r(**i, max_new_tokens=1))
        if not torch.equal(ours, theirs):
            return f"differs at {seconds} s"
    return "same"


def adapter(name: str, folder: Path) -> str:
    one = Compared(name, folder / "model")
    torch.manual_seed(0)
    names = r".*(language_model|text_model).*\.(q_proj|v_proj)"
    made = LoraConfig(r=4, lora_alpha=64, target_modules=names, init_lora_weights=False)
    plain = AutoModelForImageTextToText.from_pretrained(one.folder, dtype=torch.float32)
    follow_training_positions(plain)
    one.hand.model = get_peft_model(plain, made)
    one.hand.model.save_pretrained(folder / "adapter")
    request = one.request(said("why?", one.medium(1)))
    engine = one.open(adapter=str(folder / "adapter"))
    return verdict(list(answer(engine, request).token_ids), one.theirs(request))


def nf4(name: str, folder: Path) -> str:
    one = Compared(name, folder, width=WIDE)
    bits = BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=torch.float32
    )
    one.hand.model = AutoModelForImageTextToText.from_pretrained(
        one.folder, dtype=torch.float32, quantization_config=bits
    )
    request = one.request(said("why?", ImagePart(clip(1, 1))))
    engine = one.open(quantization="bnb-4bit")
    return verdict(list(answer(engine, request).token_ids), one.theirs(request))


def verdict(ours: list[int], theirs: list[int]) -> str:
    if ours == theirs:
        return "same"
    pairs = enumerate(zip(ours, theirs, strict=False))
    return f"differs from token {next((i for i, (a, b) in pairs if a != b), len(ours))}"


COMPARISONS: dict[str, Callable[[str, Path], str]] = {
    "alone": alone,
    "ragged batch": batch,
    "second turn": second_turn,
    "bf16 positions": positions,
    "adapter": adapter,
    "nf4": nf4,
}


def compare(name: str) -> dict[str, str]:
    """What came of each comparison; one that fails says with what."""
    found = {}
    for title, comparison in COMPARISONS.items():
        with tempfile.TemporaryDirectory() as folder:
            try:
                with contextlib.redirect_stderr(io.StringIO()):
                    found[title] = comparison(name, Path(folder) / "checkpoint")
            except Exception as problem:
                found[title] = f"{type(problem).__name__}: {str(problem).splitlines()[0]}"
    return found


def main(names: list[str]) -> int:
    warnings.simplefilter("ignore")
    logging.set_verbosity_error()
    logging.disable_progress_bar()
    differs = False
    for name in names or NAMES:
        row = compare(name)
        print(name, row, flush=True)
        differs |= any(cell != "same" for cell in row.values())
        # Read again, because others may run beside this one.
        kept = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.is_file() else {}
        kept[name] = row
        kept = {known: kept[known] for known in NAMES if known in kept}
        RESULTS.write_text(json.dumps(kept, indent=2) + "\n", encoding="utf-8")
    return int(differs)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
