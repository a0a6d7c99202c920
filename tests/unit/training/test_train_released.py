"""Released checkpoints of other makers are trained as they come."""

import torch

from kinema.models.videolm import VideoLMConfig
from kinema.tasks.train import find_base
from kinema.training.settings import from_flat
from support.training import losses, run_training, write_data, write_features
from support.videolm import make_llava_lightning


def test_video_chatgpt_trains_from_llava_lightning(tmp_path, monkeypatch):
    monkeypatch.setenv("KINEMA_HOME", str(tmp_path / "home"))
    torch.manual_seed(0)
    given = {"model_name_or_path": f"video-chatgpt:{make_llava_lightning(tmp_path)}"}
    base = find_base(from_flat(given))
    assert base.family.name == "video-chatgpt"
    features = write_features(tmp_path / "seen", VideoLMConfig.from_pretrained(base.folder))
    data = write_data(tmp_path / "train.jsonl", features, count=2)
    run_training(tmp_path / "run", **given, data_path=data, max_steps=2)
    assert len(losses(tmp_path / "run")) == 2
