"""The sound of a video on the clock of its pictures."""

import av
import numpy as np
import pytest

from kinema.errors import NotMedia
from kinema.video import Workers, load_frames
from kinema.video.cache import cached_index
from kinema.video.sound import RATE, load_sound
from kinema.video.source import open_media
from support.clips import make_clip, read_board
from support.speech import make_sounding


@pytest.fixture(scope="module")
def sounding(tmp_path_factory):
    return make_sounding(tmp_path_factory.mktemp("sound") / "tone.mp4", loud=(2.0, 3.0))


def loudness(sound):
    """Of every tenth of a second."""
    whole = sound.samples[: len(sound.samples) // (RATE // 10) * (RATE // 10)]
    return np.abs(whole.reshape(-1, RATE // 10).astype(float)).mean(1)


def test_sound_is_where_the_pictures_are(sounding):
    loud = loudness(load_sound(sounding, start_seconds=0, end_seconds=6)) > 1000
    assert loud[20:30].all()
    assert not loud[:19].any()
    assert not loud[31:].any()


def test_sound_is_where_the_pictures_are_that_can_be_shown(tmp_path):
    """A capture that begins between two key frames: what comes before the second shows nothing."""
    options = {"g": "10", "sc_threshold": "0", "bf": "0"}
    whole = make_sounding(tmp_path / "whole.ts", seconds=8.0, loud=(5.0, 6.0), options=options)
    data = whole.read_bytes()
    path = tmp_path / "capture.ts"
    tables, packet_bytes = data[: 188 * 3], 188
    path.write_bytes(tables + data[packet_bytes * (len(data) // packet_bytes // 6) :])
    first = read_board(load_frames(path, single="first").pixels[0])
    assert first == 10
    index = cached_index(open_media(path))
    with av.open(str(path)) as file:
        stream = file.streams.video[0]
        assert index.zero_seconds(stream) > float(stream.start_time * stream.time_base)
    loud = loudness(load_sound(path, start_seconds=0, end_seconds=8)) > 1000
    assert abs(int(np.flatnonzero(loud)[0]) - (50 - 2 * first)) <= 1


def test_a_stretch_holds_what_the_whole_has_there(sounding):
    whole = load_sound(sounding, start_seconds=0, end_seconds=6)
    part = load_sound(sounding, start_seconds=2.5, end_seconds=4)
    assert len(part.samples) == 1.5 * RATE
    assert np.allclose(loudness(part), loudness(whole)[25:40], atol=200)


def test_after_the_end_there_is_nothing(sounding):
    assert len(load_sound(sounding, start_seconds=7, end_seconds=9).samples) == 0
    assert len(load_sound(sounding, start_seconds=5, end_seconds=9).samples) <= 1.2 * RATE


def test_a_silent_film_has_no_samples(tmp_path):
    clip = make_clip(tmp_path / "clip.mp4", num_frames=5)
    assert len(load_sound(clip, start_seconds=0, end_seconds=1).samples) == 0


def test_a_worker_hears_the_same(sounding, tmp_path):
    (tmp_path / "broken.mp4").write_bytes(b"\0" * 5000)
    with Workers(1) as workers:
        heard = workers.load_sound(sounding, start_seconds=1.5, end_seconds=2.5)
        with pytest.raises(NotMedia):
            workers.load_sound(tmp_path / "broken.mp4", start_seconds=0, end_seconds=1)
    here = load_sound(sounding, start_seconds=1.5, end_seconds=2.5)
    assert np.array_equal(heard.samples, here.samples)
    assert heard.start_seconds == 1.5
