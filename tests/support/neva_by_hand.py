"""NeVA's inference written out with sentencepiece and transformers: what answers are held to."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import CLIPImageProcessor, CLIPVisionModel, LlamaForCausalLM


def by_hand(
    frames: Sequence[Any],
    before: str,
    after: str,
    *,
    tower: Path,
    projector: Mapping[str, Tensor],
    llama: LlamaForCausalLM,
    tokenizer: bytes,
    steps: int,
    swapped: Mapping[str, int] | None = None,
    keeps_ends: bool = False,
) -> tuple[list[int], list[int], list[float]]:
    """NeVA's inference written out: greedy tokens and their log-probabilities.

    Args:
        frames: pictures that the tower sees.
        before: the prompt in front of the medium.
        after: the prompt behind it.
        tower: folder of the vision tower.
        projector: ``mlp2x_gelu``.
        llama: the language model; transformers runs it.
        tokenizer: a sentencepiece model; sentencepiece runs it, on the whole prompt at once.
        steps: tokens to generate.
        swapped: ids that pieces have instead of their own, as NeVA swaps them.
        keeps_ends: start and end keep their own embeddings (``use_im_start_end``).

    Returns:
        Prompt ids, generated ids, and the log-probability of each of the latter.
    """
    import sentencepiece

    pixels = CLIPImageProcessor.from_pretrained(tower)(list(frames), return_tensors="pt")
    vision = CLIPVisionModel.from_pretrained(tower).eval()
    pieces = sentencepiece.SentencePieceProcessor(model_proto=tokenizer)
    with torch.no_grad():
        states = vision(**pixels, output_hidden_states=True).hidden_states[-2][:, 1:]
        flat = states.reshape(-1, states.shape[-1])
        inner = torch.nn.functional.gelu(
            flat @ projector["0.weight"].T + projector["0.bias"], approximate="none"
        )
        visual = inner @ projector["2.weight"].T + projector["2.bias"]
        patches = len(visual) if keeps_ends else len(visual) - 2
        text = f"{before}<extra_id_4>{'<extra_id_3>' * patches}<extra_id_5>{after}"
        ids = pieces.encode_as_ids(text)
        start = ids.index(pieces.piece_to_id("<extra_id_4>")) + keeps_ends
        own = {pieces.piece_to_id(piece): other for piece, other in (swapped or {}).items()}
        ids = [own.get(one, one) for one in ids]
        words = llama.model.embed_tokens(torch.tensor(ids))
        words[start : start + len(visual)] = visual
        said, logprobs = [], []
        for _ in range(steps):
            logits = llama(inputs_embeds=words[None]).logits[0, -1].log_softmax(-1)
            said.append(int(logits.argmax()))
            logprobs.append(float(logits.max()))
            words = torch.cat([words, llama.model.embed_tokens(torch.tensor(said[-1:]))])
    return ids, said, logprobs
