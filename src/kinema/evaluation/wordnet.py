"""Nouns of WordNet, read from its own database files: how alike two words are.

No Python package carries these files. They are looked for in ``KINEMA_WORDNET``, in nltk's data
and where Debian's ``wordnet-base`` puts them.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

from kinema.errors import MissingPackage

_ENDINGS = (
    *(("ses", "s"), ("xes", "x"), ("zes", "z"), ("ches", "ch"), ("shes", "sh")),
    *(("men", "man"), ("ies", "y"), ("s", "")),
)


class Nouns:
    """The hypernym graph of one WordNet.

    Args:
        folder: holds ``index.noun`` and ``data.noun``.
    """

    def __init__(self, folder: Path) -> None:
        self._senses = dict(_read_index(folder / "index.noun"))
        self._parents = dict(_read_data(folder / "data.noun"))
        self._ancestors = cache(self._find_ancestors)
        self._depth = cache(self._find_depth)
        self.similarity = cache(self._similarity)

    def _similarity(self, one: str, other: str) -> float:
        """Wu-Palmer similarity (ACL 1994) of the two most similar senses; 0 when one is unknown."""
        pairs = ((a, b) for a in self._synsets(one) for b in self._synsets(other))
        return max((self._wu_palmer(a, b) for a, b in pairs), default=0.0)

    def _synsets(self, word: str) -> tuple[int, ...]:
        singulars = (word.removesuffix(s) + new for s, new in _ENDINGS if word.endswith(s))
        known = (self._senses[form] for form in (word, *singulars) if form in self._senses)
        return next(known, ())

    def _wu_palmer(self, one: int, other: int) -> float:
        """``2 d / (2 d + p + q)``: depth of the common ancestor, ways up to it."""
        ours, theirs = self._ancestors(one), self._ancestors(other)
        shared = ((2 * self._depth(s), ours[s] + theirs[s]) for s in ours.keys() & theirs.keys())
        return max((twice / (twice + way) for twice, way in shared), default=0.0)

    def _find_ancestors(self, synset: int) -> dict[int, int]:
        """Every hypernym of a synset, itself included, with the shortest way up."""
        distances = {synset: 0}
        level = [synset]
        while level:
            above = {p: distances[s] + 1 for s in level for p in self._parents.get(s, ())}
            level = [p for p in above if p not in distances]
            distances |= {p: above[p] for p in level}
        return distances

    def _find_depth(self, synset: int) -> int:
        """Nodes on the longest way from a root; a root has depth 1."""
        return 1 + max((self._depth(p) for p in self._parents.get(synset, ())), default=0)


@cache
def open_nouns() -> Nouns:
    """The first WordNet that is found.

    Raises:
        MissingPackage: there is none.
    """
    for folder in _folders():
        if (folder / "data.noun").is_file() and (folder / "index.noun").is_file():
            return Nouns(folder)
    raise MissingPackage(
        "WUPS needs the files of WordNet, which no Python package carries.",
        hint="Set KINEMA_WORDNET to the folder with data.noun, or: apt-get install wordnet-base",
    )


def _folders() -> Iterator[Path]:
    if chosen := os.environ.get("KINEMA_WORDNET"):
        yield Path(chosen).expanduser()
        return
    roots = [*os.environ.get("NLTK_DATA", "").split(os.pathsep), "~/nltk_data"]
    yield from (Path(r).expanduser() / "corpora" / "wordnet" for r in roots if r)
    yield Path("/usr/share/nltk_data/corpora/wordnet")
    yield Path("/usr/share/wordnet")


def _read_index(path: Path) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Each lemma with the offsets of its synsets, which stand last on its line."""
    for line in _lines(path):
        fields = line.split()
        yield fields[0], tuple(map(int, fields[-int(fields[2]) :]))


def _read_data(path: Path) -> Iterator[tuple[int, tuple[int, ...]]]:
    """Each synset with its hypernyms (``@``) and classes of instances (``@i``)."""
    for line in _lines(path):
        fields = line.partition("|")[0].split()
        pointers = fields[4 + 2 * int(fields[3], 16) + 1 :]
        symbols_and_targets = zip(pointers[::4], pointers[1::4], strict=False)
        yield (
            int(fields[0]),
            tuple(int(target) for symbol, target in symbols_and_targets if symbol in ("@", "@i")),
        )


def _lines(path: Path) -> Iterable[str]:
    """Lines of entries; the licence at the top is indented."""
    with path.open(encoding="utf-8") as file:
        yield from (line for line in file if line.strip() and not line.startswith(" "))
