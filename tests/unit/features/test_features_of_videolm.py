"""Features that a whole model asks for are those that it makes of the video itself."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from kinema.errors import UsageError
from kinema.models.videolm.features import load_features, read_features
from kinema.tasks.features.inputs import find_media
from kinema.tasks.features.job import FeaturesJob
from kinema.tasks.features.options import FeatureOptions
from kinema.tasks.imports import CheckpointParts
from kinema.tasks.models import find_model
from kinema.types import FrameSampling
from kinema.video import load_frames
from support.clips import make_clip
from support.videolm import make_llava_lightning, make_projection


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("model")
    make_llava_lightning(folder)
    parts = CheckpointParts(projection=make_projection(folder))
    found = find_model(f"video-chatgpt:{folder / 'base'}", parts=parts).checkpoint.folder
    assert found is not None
    return found


def test_features_and_video_give_the_same_logits(tmp_path: Path, model_folder: Path) -> None:
    make_clip(tmp_path / "a.mp4", num_frames=20)
    sampling = FrameSampling(num_frames=8, formula="segments")
    job = FeaturesJob(
        media=find_media([tmp_path / "a.mp4"]),
        output=tmp_path / "out",
        options=FeatureOptions(tower=str(model_folder), store="float32", dtype="float32"),
        sampling=sampling,
        workers=1,
    )
    assert job.run() == 0

    stored, header = load_features(tmp_path / "out/a.mp4.safetensors")
    model = AutoModelForImageTextToText.from_pretrained(model_folder, dtype=torch.float32).eval()
    processor = AutoProcessor.from_pretrained(model_folder)
    model.config.check_features(read_features(tmp_path / "out/a.mp4.safetensors").made)
    frames = load_frames(tmp_path / "a.mp4", sampling=sampling)
    text = "<video> What?"
    seen = processor(text=[text], videos=[frames.pixels], return_tensors="pt")
    kept = processor(text=[text], features=[stored], return_tensors="pt")
    assert torch.equal(seen["input_ids"], kept["input_ids"])
    with torch.inference_mode():
        logits = [model(**dict(inputs)).logits for inputs in (seen, kept)]
    torch.testing.assert_close(logits[0], logits[1], rtol=1e-4, atol=1e-4)
    assert header.num_frames == 8


def test_a_whole_model_has_its_own_kind(tmp_path: Path, model_folder: Path) -> None:
    make_clip(tmp_path / "a.mp4", num_frames=4)
    job = FeaturesJob(
        media=find_media([tmp_path / "a.mp4"]),
        output=tmp_path / "out",
        options=FeatureOptions(tower=str(model_folder), kind="cls"),
    )
    with pytest.raises(UsageError, match="kind was given"):
        job.run()
