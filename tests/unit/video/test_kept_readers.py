"""A long film stays open between calls: the same frames, and never those of another file."""

import random
import shutil

import pytest

from kinema.errors import TooLarge
from kinema.video import Workers, load_frames
from kinema.video import reader as readers
from kinema.video.access import Access, Budget
from support.clips import make_clip, read_boards

NUM_FRAMES = 17_000


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    path = tmp_path_factory.mktemp("film") / "film.mp4"
    options = {"preset": "ultrafast", "g": "60", "bf": "2"}
    return make_clip(path, num_frames=NUM_FRAMES, height=48, width=48, options=options)


@pytest.fixture
def opened(monkeypatch):
    """Names of the files that were opened, one entry a time."""
    names = []
    original = readers.open_container

    def counted(media):
        names.append(media.name)
        return original(media)

    monkeypatch.setattr(readers, "open_container", counted)
    readers.kept.most = 2
    yield names
    readers.kept.close()
    readers.kept.most = 0


def pieces(chance, count):
    """Frames as captions take them, near the ends too."""
    for _ in range(count):
        step = chance.choice([1, 25])
        last = NUM_FRAMES - 1 - 3 * step
        first = chance.choice([0, last, chance.randrange(last)])
        yield [first + i * step for i in range(4)]


def seconds(indices):
    return [i / 25 for i in indices]


def test_every_piece_is_the_one_that_was_asked_for_and_the_film_is_opened_twice(film, opened):
    chance = random.Random(5)
    for indices in pieces(chance, 60):
        frames = load_frames(film, at=seconds(indices))
        assert read_boards(frames.pixels) == frames.indices.tolist() == indices
    assert len(opened) <= 3


def test_a_worker_gives_the_frames_of_a_first_opening(film):
    with Workers(1) as workers:
        for indices in pieces(random.Random(6), 30):
            frames = workers.load_frames(film, at=seconds(indices))
            assert read_boards(frames.pixels) == indices
        whole = workers.load_frames(film, fps=0.5)
        assert read_boards(whole.pixels) == whole.indices.tolist()


def test_another_file_under_the_name_is_opened_anew(film, tmp_path, opened):
    path = tmp_path / "name.mp4"
    shutil.copy(film, path)
    load_frames(path, at=[1.0])
    other = make_clip(tmp_path / "other.mp4", num_frames=50, fps=25)
    other.replace(path)
    assert load_frames(path, at=[1.0]).pixels.shape[1:3] == (64, 96)
    assert len(opened) == 2


def test_a_copy_is_another_file_and_a_short_one_is_never_kept(film, tmp_path, opened):
    copy = tmp_path / "copy.mp4"
    shutil.copy2(film, copy)
    short = make_clip(tmp_path / "short.mp4", num_frames=50, fps=25)
    for path in (film, copy, short, short, copy):
        load_frames(path, at=[1.0])
    assert opened == [str(path) for path in (film, copy, short, short, copy)]


def test_limits_are_those_of_each_call(film, opened):
    load_frames(film, at=[1.0])
    small = Access(budget=Budget(pixels=100))
    with pytest.raises(TooLarge):
        load_frames(film, at=[1.0], access=small)
    assert len(load_frames(film, at=[2.0])) == 1


def test_nothing_is_kept_unless_somebody_says_so(film, opened):
    readers.kept.most = 0
    for _ in range(2):
        load_frames(film, at=[1.0])
    assert len(opened) == 2
