"""NeVA's inference and training loss written out with sentencepiece and transformers.

What answers and losses are held to; nothing here calls kinema.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import av
import torch
from torch import Tensor
from torch.nn import functional
from transformers import CLIPImageProcessor, CLIPVisionModel, LlamaForCausalLM

VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
LLAVA = (
    "You are a helpful language and vision assistant. You are able to understand the visual "
    "content that the user provides, and assist the user with a variety of tasks using natural "
    "language."
)
LABELS = (
    "quality:4,toxicity:0,humor:0,creativity:0,helpfulness:4,correctness:4,coherence:4,"
    "complexity:4,verbosity:4"
)
PROMPTS = {
    "nvgpt": (
        f"<extra_id_0>System\n{VICUNA}\n\n<extra_id_1>User\n",
        f"\n<extra_id_1>Assistant\n<extra_id_2>{LABELS}\n",
    ),
    "nv_dpo": ("<extra_id_0>System\n\n<extra_id_1>User\n", "\n<extra_id_1>Assistant\n"),
    "v1": (f"{VICUNA} USER: ", " ASSISTANT:"),
    "llama_2": (f" [INST] <<SYS>>\n{LLAVA}\n<</SYS>>\n\n", " [/INST]"),
    "mistral": ("<extra_id_6> [INST] ", " [/INST]"),
    "yi_34b": ("<|im_start|>user\n", "<|im_end|>\n<|im_start|>assistant\n"),
    "llama_3": (
        "<|begin_of_text|><|start_header_id|>system<|end_header_id|>\n\n"
        f"{LLAVA}<|eot_id|><|start_header_id|>user<|end_header_id|>\n\n",
        "<|eot_id|><|start_header_id|>assistant<|end_header_id|>\n\n",
    ),
}
"""What stands before and behind the user's words."""
PROMPTS["nv_steerlm"] = PROMPTS["nvgpt"]
SWAPPED = {"v1", "llama_2", "mistral"}
"""Templates whose stand-ins get the ids of unknown, begin and end."""


def decoded(path: Path):
    """Every picture of a clip, by PyAV alone."""
    with av.open(str(path)) as container:
        return [frame.to_image() for frame in container.decode(video=0)]


def eight_of(path: Path):
    """The eight frames that NeVA takes: both ends, places cut to whole numbers."""
    frames = decoded(path)
    return [frames[int(i * (len(frames) - 1) / 7)] for i in range(8)]


@dataclass(frozen=True, kw_only=True)
class ByHand:
    """The parts of a NeVA."""

    tower: Path
    """Folder of a CLIP vision tower."""
    projector: Mapping[str, Tensor]
    """``mlp2x_gelu``, by the numbers of its layers."""
    llama: LlamaForCausalLM
    encode: Callable[[str], list[int]]
    """Makes ids of a whole prompt at once."""
    media: tuple[str, str, str] = ("<extra_id_3>", "<extra_id_4>", "<extra_id_5>")
    """Patch, start and end, as they stand in the prompt."""
    swapped: Mapping[int, int] = field(default_factory=dict)
    """Ids that stand in for others, as NeVA swaps them when it has tokenised."""
    keeps_ends: bool = False
    """Start and end keep their own embeddings (``use_im_start_end``)."""

    @torch.no_grad()
    def answer(
        self, frames: Sequence[Any], before: str, after: str, *, steps: int
    ) -> tuple[list[int], list[float]]:
        """Ids of the prompt, and the log-probabilities of greedy tokens.

        Args:
            frames: pictures that the tower sees.
            before: the prompt in front of the medium.
            after: the prompt behind it.
            steps: tokens to generate.
        """
        ids, words = self._read(frames, before, after)
        logprobs = []
        for _ in range(steps):
            likely = self.llama(inputs_embeds=words[None]).logits[0, -1].log_softmax(-1)
            logprobs.append(float(likely.max()))
            words = torch.cat([words, self.llama.model.embed_tokens(likely.argmax()[None])])
        return ids, logprobs

    @torch.no_grad()
    def loss(self, frames: Sequence[Any], before: str, after: str, answer: str) -> float:
        """Mean cross-entropy of the answer's tokens, what ends it among them."""
        prompt, _ = self._read(frames, before, after)
        ids, words = self._read(frames, before, after + answer)
        assert ids[: len(prompt)] == prompt
        logits = self.llama(inputs_embeds=words[None]).logits[0]
        wanted = torch.tensor(ids[len(prompt) :])
        return float(functional.cross_entropy(logits[len(prompt) - 1 : -1], wanted))

    def _read(self, frames: Sequence[Any], before: str, after: str) -> tuple[list[int], Tensor]:
        """Ids of a prompt and float[L, D] that the language model is given."""
        visual = self._see(frames)
        patches = len(visual) if self.keeps_ends else len(visual) - 2
        patch, start, end = self.media
        ids = self.encode(f"{before}{start}{patch * patches}{end}{after}")
        place = ids.index(self.encode(start)[-1]) + self.keeps_ends
        ids = [self.swapped.get(one, one) for one in ids]
        words = self.llama.model.embed_tokens(torch.tensor(ids)).clone()
        words[place : place + len(visual)] = visual
        return ids, words

    def _see(self, frames: Sequence[Any]) -> Tensor:
        """float[N, D]: the patches of all frames, one frame after another, projected."""
        pixels = CLIPImageProcessor.from_pretrained(self.tower)(list(frames), return_tensors="pt")
        vision = CLIPVisionModel.from_pretrained(self.tower).eval()
        states = vision(**pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
        first = functional.linear(
            states.flatten(0, 1), self.projector["0.weight"], self.projector["0.bias"]
        )
        inner = functional.gelu(first, approximate="none")
        return functional.linear(inner, self.projector["2.weight"], self.projector["2.bias"])
