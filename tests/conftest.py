"""Fixtures that all tests share."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from kinema.types import Frames


@pytest.fixture(autouse=True, scope="session")
def _no_network(tmp_path_factory: pytest.TempPathFactory):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        patch.setenv("TOKENIZERS_PARALLELISM", "false")
        yield


@pytest.fixture
def frames() -> Frames:
    """Five noisy frames, one a second, of a ten-second source."""
    noise = np.random.default_rng(0)
    return Frames(
        pixels=noise.integers(0, 256, (5, 48, 64, 3), dtype=np.uint8),
        seconds=np.arange(5, dtype=np.float64),
        indices=np.arange(5, dtype=np.int64) * 10,
        source="noise",
        total_frames=100,
        duration_seconds=10.0,
        source_fps=10.0,
    )


@pytest.fixture(scope="session")
def llava_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from support.checkpoints import make_llava

    return make_llava(tmp_path_factory.mktemp("llava"))


@pytest.fixture(scope="session")
def video_llava_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from support.checkpoints import make_video_llava

    return make_video_llava(tmp_path_factory.mktemp("video_llava"))
