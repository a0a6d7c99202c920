"""Frames to files."""

import av
import numpy as np
import pytest
from PIL import Image

from kinema.errors import UsageError
from kinema.video.writing import save_frames
from support.clips import board, read_board


def test_one_frame_is_a_picture(tmp_path):
    save_frames(tmp_path / "a.png", board(9)[None], fps=4)
    assert np.asarray(Image.open(tmp_path / "a.png")).tolist() == board(9).tolist()


def test_several_frames_are_a_video(tmp_path):
    save_frames(tmp_path / "a.mp4", np.stack([board(i) for i in range(5)]), fps=4)
    with av.open(str(tmp_path / "a.mp4")) as container:
        stream = container.streams.video[0]
        found = [read_board(f.to_ndarray(format="rgb24")) for f in container.decode(video=0)]
        assert (stream.average_rate, found) == (4, [0, 1, 2, 3, 4])


@pytest.mark.parametrize(
    ("num_frames", "name"), [(1, "a.mp4"), (2, "a.png"), (2, "a"), (1, "b/a.png")]
)
def test_names_that_do_not_fit_are_refused_and_leave_nothing(tmp_path, num_frames, name):
    with pytest.raises(UsageError, match=r"written as|no folder"):
        save_frames(tmp_path / name, np.stack([board(0)] * num_frames), fps=4)
    assert not list(tmp_path.iterdir())
