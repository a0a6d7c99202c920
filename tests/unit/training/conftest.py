from pathlib import Path

import pytest
import torch

from kinema.models.videolm import VideoLMConfig
from kinema.tasks.train import find_base
from kinema.training.settings import from_flat
from support.training import make_parts, write_data, write_features


@pytest.fixture(autouse=True)
def _one_thread():
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def parts(tmp_path_factory: pytest.TempPathFactory):
    """Settings of a tiny new VideoLM."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KINEMA_HOME", str(tmp_path_factory.mktemp("home")))
        yield make_parts(tmp_path_factory.mktemp("parts"))


@pytest.fixture(scope="session")
def base(parts) -> Path:
    """The folder of that VideoLM."""
    return find_base(from_flat(parts)).folder


@pytest.fixture(scope="session")
def data(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data file with features of three clips."""
    folder = tmp_path_factory.mktemp("data")
    features = write_features(folder / "features", VideoLMConfig.from_pretrained(base))
    return write_data(folder / "train.jsonl", features)
