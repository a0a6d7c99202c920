"""LLaVA-Lightning and Video-ChatGPT as they are released, and what they compute, written by hand.

The base has ``tokenizer.model`` alone, as LLaVA's scripts saved it: sentencepiece reads each
stretch between special tokens, and white space beside tokens that were added later is lost.
"""

from __future__ import annotations

import json
import pickle
import re
import tempfile
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from transformers import LlamaForCausalLM

from support.released_pieces import count_pieces, make_llama, train_sentencepiece
from support.videolm import HIDDEN, TEXT, WIDTH, make_clip_tower

LLAVA_TOKENS = ("<im_patch>", "<im_start>", "<im_end>")
VIDEO_TOKENS = ("<vid_patch>", "<vid_start>", "<vid_end>")
TEMPORAL, SPATIAL = 100, 4
"""Rows of a features file: frames, then patches of the small tower."""
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
VIDEO_CHATGPT = (
    "You are Video-ChatGPT, a large vision-language assistant. You are able to understand the "
    "video content that the user provides, and assist the user with a variety of tasks using "
    "natural language.Follow the instructions carefully and explain your answers in detail based "
    "on the provided video."
)


def write_llava_tokenizer(folder: Path, pieces: bytes) -> None:
    """The four files that a slow tokenizer of 2023 saved."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "tokenizer.model").write_bytes(pieces)
    first = count_pieces(pieces)
    added = {token: first + i for i, token in enumerate(LLAVA_TOKENS)}
    (folder / "added_tokens.json").write_text(json.dumps(added))
    plain = {"lstrip": False, "normalized": True, "rstrip": False, "single_word": False}
    marks = {"bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    named = {name: plain | {"content": text} for name, text in marks.items()}
    (folder / "special_tokens_map.json").write_text(json.dumps(named | {"pad_token": "<unk>"}))
    settings = {name: {"__type": "AddedToken"} | entry for name, entry in named.items()}
    settings |= {
        "add_bos_token": True,
        "add_eos_token": False,
        "clean_up_tokenization_spaces": False,
        "model_max_length": 2048,
        "pad_token": None,
        "padding_side": "right",
        "sp_model_kwargs": {},
        "tokenizer_class": "LlamaTokenizer",
    }
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))


def write_llava_lightning(folder: Path, pieces: bytes, tower: Path) -> Path:
    """``LLaVA-7B-Lightening-v1-1`` in small: two float16 shards with an image projector."""
    write_llava_tokenizer(folder, pieces)
    llama = make_llama(count_pieces(pieces) + len(LLAVA_TOKENS))
    weights = {name: tensor.half() for name, tensor in llama.state_dict().items()}
    weights["model.mm_projector.weight"] = torch.randn(HIDDEN, WIDTH).half() * 0.2
    weights["model.mm_projector.bias"] = torch.randn(HIDDEN).half() * 0.2
    names, where = sorted(weights), {}
    for part, chosen in enumerate((names[::2], names[1::2]), start=1):
        file = f"pytorch_model-0000{part}-of-00002.bin"
        torch.save(OrderedDict((name, weights[name]) for name in chosen), folder / file)
        where |= dict.fromkeys(chosen, file)
    index = {"metadata": {"total_size": 1}, "weight_map": where}
    (folder / "pytorch_model.bin.index.json").write_text(json.dumps(index))
    settings = TEXT | {
        "architectures": ["LlavaLlamaForCausalLM"],
        "model_type": "llava",
        "vocab_size": count_pieces(pieces) + len(LLAVA_TOKENS),
        "hidden_act": "silu",
        "tie_word_embeddings": False,
        "torch_dtype": "float16",
        "use_cache": False,
        "mm_vision_tower": str(make_clip_tower(tower)),
        "mm_hidden_size": WIDTH,
        "mm_vision_select_layer": -2,
        "use_mm_proj": True,
        "mm_use_im_start_end": True,
        "tune_mm_mlp_adapter": False,
        "freeze_mm_mlp_adapter": True,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": -1,
    }
    (folder / "config.json").write_text(json.dumps(settings))
    return folder


def write_projection(path: Path, pieces: bytes) -> Path:
    """``video_chatgpt-7B.bin``: embeddings of all 32006 tokens and the projector, float32."""
    rows = count_pieces(pieces) + len(LLAVA_TOKENS) + len(VIDEO_TOKENS)
    generator = torch.Generator().manual_seed(7)
    shapes = {
        "model.embed_tokens.weight": (rows, HIDDEN),
        "model.mm_projector.weight": (HIDDEN, WIDTH),
        "model.mm_projector.bias": (HIDDEN,),
    }
    drawn = {name: 0.2 * torch.randn(size, generator=generator) for name, size in shapes.items()}
    torch.save(OrderedDict(drawn), path)
    return path


def write_pickle(path: Path, values: np.ndarray[Any, Any]) -> Path:
    """Features as Video-ChatGPT's script dumps them: a plain pickle of a float16 array."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(values.astype(np.float16)))
    return path


def slow_ids(pieces: bytes, text: str) -> list[int]:
    """What the slow ``LlamaTokenizer`` of Video-ChatGPT gives for a text, begin mark included."""
    import sentencepiece

    model = sentencepiece.SentencePieceProcessor(model_proto=pieces)
    marks = {"<unk>": 0, "<s>": 1, "</s>": 2}
    added = {token: model.vocab_size() + i for i, token in enumerate(LLAVA_TOKENS + VIDEO_TOKENS)}
    stretches = re.split("(" + "|".join(map(re.escape, [*marks, *added])) + ")", text)
    ids = [1]
    for i, stretch in enumerate(stretches):
        if i % 2:
            ids.append((marks | added)[stretch])
            continue
        before, after = stretches[i - 1 : i], stretches[i + 1 : i + 2]
        left = stretch.lstrip() if set(before) & set(added) else stretch
        both = left.rstrip() if set(after) & set(added) else left
        ids += model.encode_as_ids(both) if both else []
    return ids


def video_run(patches: int = TEMPORAL + SPATIAL) -> str:
    """What stands for ``<video>``."""
    return f"<vid_start>{'<vid_patch>' * patches}<vid_end>"


def prompt_of(system: str, turns: Sequence[tuple[str, str | None]]) -> str:
    """A conversation in separator style two; an open turn has no answer."""
    said = f"{system} "
    for question, answer in turns:
        said += f"USER: {question} ASSISTANT:" + ("" if answer is None else f" {answer}</s>")
    return said.replace("<video>", video_run())


def read_state(base: Path, projection: Path | None = None) -> dict[str, Tensor]:
    """All tensors of a base, with those of a projection file over them, in float32."""
    files = [*sorted(base.glob("*.bin")), *([projection] if projection else [])]
    held = [torch.load(file, weights_only=True) for file in files]
    return {name: t.float() for one in held for name, t in one.items()}


def grown(state: Mapping[str, Tensor], rows: int) -> dict[str, Tensor]:
    """New rows of embeddings and head are the mean of the old ones."""
    names = ("model.embed_tokens.weight", "lm_head.weight")
    tall = dict(state)
    for name in names:
        old = state[name]
        if len(old) < rows:
            mean = old.mean(0, keepdim=True).expand(rows - len(old), -1)
            tall[name] = torch.cat([old, mean])
    return tall


def logits_of(state: Mapping[str, Tensor], ids: Sequence[int], features: Tensor) -> Tensor:
    """float[S, V]: transformers' LLaMA over word rows, with projected features for the patches."""
    words = state["model.embed_tokens.weight"][torch.tensor(ids)].clone()
    visual = features @ state["model.mm_projector.weight"].T + state["model.mm_projector.bias"]
    patch = len(state["model.embed_tokens.weight"]) - len(VIDEO_TOKENS)
    words[torch.tensor(ids) == patch] = visual
    return llama_of(state)(inputs_embeds=words[None]).logits[0]


def llama_of(state: Mapping[str, Tensor]) -> LlamaForCausalLM:
    """The language model of a checkpoint."""
    llama = make_llama(len(state["model.embed_tokens.weight"]))
    own = {name: t for name, t in state.items() if "mm_projector" not in name}
    llama.load_state_dict(own)
    return llama


def write_fork(path: Path, base: Path, *, num_frames: int, layers: int) -> Path:
    """The Breakfast fork's ``model.bin``: every key of the base, and the modules that it added."""
    weights = OrderedDict(
        item
        for shard in sorted(base.glob("pytorch_model-*.bin"))
        for item in torch.load(shard, weights_only=True).items()
    )
    generator = torch.Generator().manual_seed(3)

    def draw(*size: int) -> Tensor:
        return (0.1 * torch.randn(size, generator=generator)).half()

    for i in range(layers):
        weights[f"model.pes.{i}.positional_encodings"] = draw(num_frames, WIDTH)
        weights[f"model.reducers.{i}.weight"] = draw(1, num_frames)
        weights[f"model.reducers.{i}.bias"] = draw(1)
        weights[f"model.projecters.{i}.weight"] = draw(HIDDEN, WIDTH)
        weights[f"model.projecters.{i}.bias"] = draw(HIDDEN)
    torch.save(weights, path)
    return path


def write_named_base(folder: Path) -> None:
    """``mmaaz60/LLaVA-7B-Lightening-v1-1``, which names its tower as the hub has it."""
    torch.manual_seed(0)
    with tempfile.TemporaryDirectory() as unused:
        write_llava_lightning(folder, train_sentencepiece(), Path(unused))
    config = json.loads((folder / "config.json").read_text())
    config["mm_vision_tower"] = "openai/clip-vit-large-patch14"
    (folder / "config.json").write_text(json.dumps(config))


def write_named_projection(folder: Path) -> None:
    """``MBZUAI/Video-ChatGPT-7B``."""
    folder.mkdir(parents=True)
    write_projection(folder / "video_chatgpt-7B.bin", train_sentencepiece())
