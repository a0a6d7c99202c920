"""Emoji as art: four free sets, one of them never learned from.

The sets are packages of npm (``@iconify-json/...``), an SVG an icon under the same names in each:
Noto Emoji (Apache-2.0), Twemoji (CC BY 4.0), Fluent Emoji Flat (MIT) and OpenMoji (CC BY-SA 4.0).
They are fetched when they are needed and drawn by ``resvg-py``; no picture is kept in the
repository.
"""

from __future__ import annotations

import io
import json
import subprocess
import tarfile
import zlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import resvg_py
from PIL import Image

from art import COLOURS, SHAPES, SIDE, Shapes

STYLES = {
    "noto": "@iconify-json/noto@1.2.9",
    "twemoji": "@iconify-json/twemoji@1.2.5",
    "fluent": "@iconify-json/fluent-emoji-flat@1.2.6",
    "openmoji": "@iconify-json/openmoji@1.2.29",
}
"""Packages; the last is the style that is not learned from."""
KINDS = ("Activities", "Animals & Nature", "Food & Drink", "Objects", "Travel & Places")
_NOT_THINGS = ("oclock", "thirty", "-face", "moon", "place-medal", "map-of", "tokyo", "japan")


@dataclass(frozen=True)
class Emoji:
    """The things that all sets draw; shapes among them, so that colours can be asked for."""

    sets: dict[str, dict[str, Any]]
    names: tuple[str, ...]
    styles: tuple[str, ...] = tuple(STYLES)[:-1]
    unseen_style: str = tuple(STYLES)[-1]

    def picture(self, name: str, style: str, colour: str) -> Image.Image:
        """The emoji of that name, in its own colours."""
        if colour in COLOURS and name in SHAPES:
            return Shapes().picture(name, "flat", colour)
        return _drawn(style, name, self._svg(name, style))

    def _svg(self, name: str, style: str) -> str:
        icons = self.sets[style]
        icon = icons["icons"][name.replace(" ", "-")]
        width, height = (icon.get(k, icons.get(k, 16)) for k in ("width", "height"))
        box = f'viewBox="0 0 {width} {height}"'
        return f'<svg xmlns="http://www.w3.org/2000/svg" {box}>{icon["body"]}</svg>'


@cache
def _drawn(style: str, name: str, svg: str) -> Image.Image:
    png = resvg_py.svg_to_bytes(svg_string=svg, width=SIDE, height=SIDE)
    return Image.open(io.BytesIO(bytes(png))).convert("RGBA")


def fetch(folder: Path, *, count: int) -> Emoji:
    """The sets, downloaded into ``folder`` where they are not there yet.

    Args:
        folder: keeps the packages between runs.
        count: names to take; names of one and two words come first.
    """
    folder.mkdir(parents=True, exist_ok=True)
    sets = {style: _icons(folder, package) for style, package in STYLES.items()}
    return Emoji(sets, tuple(_things(folder, sets)[:count]))


def _icons(folder: Path, package: str) -> dict[str, Any]:
    with tarfile.open(_archive(folder, package)) as archive:
        found: dict[str, Any] = json.load(_member(archive, "icons.json"))
    return found


def _things(folder: Path, sets: dict[str, dict[str, Any]]) -> list[str]:
    """Names that every set draws, those of few words first and else mixed."""
    with tarfile.open(_archive(folder, STYLES["noto"])) as archive:
        kinds = json.load(_member(archive, "metadata.json"))["categories"]
    names = {name for kind in KINDS for name in kinds[kind]}
    names &= set.intersection(*(set(icons["icons"]) for icons in sets.values()))
    things = [n.replace("-", " ") for n in names if not any(part in n for part in _NOT_THINGS)]
    return sorted(
        set(things) - set(SHAPES), key=lambda name: (name.count(" ") > 1, zlib.crc32(name.encode()))
    )


def _archive(folder: Path, package: str) -> Path:
    path = folder / f"{package[1:].replace('/', '-').replace('@', '-')}.tgz"
    if not path.exists():
        words = ["npm", "pack", "--silent", "--pack-destination", str(folder), package]
        subprocess.run(words, check=True, stdout=subprocess.DEVNULL)
    return path


def _member(archive: tarfile.TarFile, name: str) -> Any:
    member = archive.extractfile(f"package/{name}")
    if member is None:
        raise FileNotFoundError(name)
    return member
