from collections.abc import Iterator

import pytest
import torch

from kinema.types import Frames
from support.tiny import Tiny, clips, open_tiny


@pytest.fixture(scope="session")
def tiny() -> Iterator[Tiny]:
    threads = torch.get_num_threads()
    yield open_tiny()
    torch.set_num_threads(threads)


@pytest.fixture(scope="session")
def tiny_clips() -> dict[str, Frames]:
    return clips()
