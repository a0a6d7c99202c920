"""Options ranked by a real model get the probabilities that transformers gives, used by hand."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from kinema.evaluation.answers import read_answer
from kinema.evaluation.records import Record
from kinema.tasks.evaluate.runs import EvalSettings, run_benchmark
from kinema.types import FrameSampling
from kinema.video import load_frames
from support.by_hand import metadata
from support.layouts import perception_test
from support.tiny_families import make_checkpoint

NUM_FRAMES = 2
LETTERS = "ABC"


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights that care about letters: a letter is likely, or most unlikely."""
    folder = make_checkpoint("llava-onevision", tmp_path_factory.mktemp("opinions"))
    model = AutoModelForImageTextToText.from_pretrained(folder)
    tokenizer = AutoProcessor.from_pretrained(folder).tokenizer
    with torch.no_grad():
        model.lm_head.weight[tokenizer.convert_tokens_to_ids(list(LETTERS))] *= 40
    model.save_pretrained(folder)
    return folder


def test_scores_are_the_models_own_probabilities(checkpoint, tmp_path):
    perception_test(tmp_path / "data")
    settings = EvalSettings(
        benchmark="perceptiontest",
        data=tmp_path / "data",
        sampling=FrameSampling(num_frames=NUM_FRAMES),
        rank_options=True,
    )
    found = run_benchmark(settings, str(checkpoint), output=tmp_path / "out")
    scored = [r for r in found.records if r.prediction.option_scores]
    assert scored
    for record in scored:
        by_hand = _letters_by_hand(checkpoint, record, tmp_path / "data")
        in_top = [i for i, score in enumerate(record.prediction.option_scores) if score > -2]
        assert in_top
        for i in in_top:
            assert record.prediction.option_scores[i] == pytest.approx(by_hand[i], abs=2e-3)
        assert read_answer(record).value == by_hand.index(max(by_hand))


def _letters_by_hand(checkpoint: Path, record: Record, data: Path) -> list[float]:
    processor = AutoProcessor.from_pretrained(checkpoint)
    model = AutoModelForImageTextToText.from_pretrained(checkpoint, dtype=torch.float32)
    video = data / "videos" / f"{record.item.video_id}.mp4"
    frames = load_frames(video, at=record.prediction.frames[0]["seconds"])
    content = [{"type": "video"}, {"type": "text", "text": record.prediction.prompt}]
    text = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True
    )
    inputs = processor(
        text=[text], videos=[frames.pixels], video_metadata=[metadata(frames)], return_tensors="pt"
    )
    with torch.no_grad():
        chances = model(**inputs).logits[0, -1].log_softmax(-1).exp()
    tokens = [processor.tokenizer.convert_tokens_to_ids([t, f"Ġ{t}", t.lower()]) for t in LETTERS]
    unknown = processor.tokenizer.unk_token_id
    return [float(sum(chances[i] for i in {*ids} if i != unknown).log()) for ids in tokens]
