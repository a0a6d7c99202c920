"""Before training, the longest sample is measured against the model, exactly."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from kinema.datasets.samples import read_samples
from kinema.tasks.data.check import check_data
from kinema.tasks.train import find_base
from kinema.training.examples import ExampleMaker
from kinema.training.loading import load_config, load_processor
from kinema.training.settings import from_flat
from support.clips import make_clip
from support.training import make_parts


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    torch.set_num_threads(1)
    return str(find_base(from_flat(make_parts(tmp_path_factory.mktemp("parts")))).folder)


def test_tokens_are_those_that_training_sees(tmp_path: Path, model: str) -> None:
    make_clip(tmp_path / "a.mp4", num_frames=6)
    rows = []
    for answer in ("Tea.", "Tea, " * 50):
        turns = [{"from": "human", "value": "<video>\nWhat?"}, {"from": "gpt", "value": answer}]
        rows.append({"video": "a.mp4", "conversations": turns})
    path = tmp_path / "d.jsonl"
    path.write_text("".join(f"{json.dumps(row)}\n" for row in rows))

    report = check_data(path, model=model)

    assert report.bad == ()
    assert report.longest is not None
    assert (report.longest.line, report.longest.limit) == (2, 4096)
    base = find_base(from_flat({"model_name_or_path": model}))
    maker = ExampleMaker(
        load_processor(base.folder),
        load_config(base.folder),
        family=base.family,
        checkpoint=base.checkpoint,
        max_length=4096,
    )
    made = [len(maker.make(sample.conversation)) for sample in read_samples(path)]
    assert report.longest.tokens == max(made) == made[1]

    short = check_data(path, model=model, max_length=made[0])
    assert [(bad.line, bad.problems) for bad in short.bad] == [
        (2, (f"It takes {made[1]} tokens and {made[0]} fit.",))
    ]
