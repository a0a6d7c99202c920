"""The words for what the vision tower knows: a thousand labels and some kinds above them.

Names come from timm's table of the ImageNet-1k synsets; the kinds are ranges of its class
numbers, which follow WordNet's order for living things.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass

from timm.data import ImageNetInfo

_KINDS = {
    "wheeled vehicle, vehicle": (
        "407 436 444 466 468 511 547 555 565 569 573 575 586 603 609 612 621 627 654 656 661 665"
        " 670 671 675 690 705 717 734 751 757 779 803 817 820 829 847 864 866 867 870 874 880"
    ),
    "car, automobile": "407 436 468 511 609 627 656 661 717 751 817",
    "truck, lorry": "555 569 675 717 803 864 867",
    "bus": "654 779 874",
    "train": "466 547 565 705 820",
    "bicycle, bike, cycle": "444 671",
    "motorcycle, motorbike": "665 670",
    "boat, ship": "403 472 484 510 554 576 625 628 724 780 814 833 871 914",
    "aircraft, airplane, aeroplane, plane": "404 405 417 895",
    "dog, puppy": "151-268",
    "cat, kitten": "281-285",
    "big cat": "286-293",
    "bear": "294-297",
    "monkey, ape": "365-382",
    "elephant": "385 386",
    "rabbit": "330-332",
    "bird": "7-24 80-100 127-146",
    "fish": "0-6 389-397",
    "snake": "52-68",
    "lizard": "38-48",
    "turtle": "33-37",
    "frog": "30-32",
    "spider": "72-77",
    "butterfly": "321-326",
    "insect": "300-326",
    "fruit": "948-957",
    "vegetable": "936-946",
    "mushroom": "947 991-997",
    "flower": "985 986",
    "ball": "429 430 522 574 722 768 805 852 890",
    "guitar": "402 546",
    "piano": "579 881",
    "musical instrument, instrument": (
        "401 402 420 432 486 494 513 541 546 558 566 577 579 593 594 641 642 683 684 687 699 776"
        " 822 875 881 889"
    ),
    "clock": "409 530 892",
    "computer": "508 527 590 620 664 673",
    "telephone, phone": "487 528 707",
    "bottle": "440 720 737 898 907",
    "cup": "504 968",
    "tie, necktie": "451 457 906",
    "hat": "439 452 515 808",
    "helmet": "518 560 715",
    "shoe": "502 514 630 770 774",
    "bridge": "821 839 888",
    "chair": "423 559 765",
    "screen": "664 782 851",
}
"""Kind and its other names, and the classes it holds."""

_HOMONYMS = (
    "ai bars bell board bob bow cell drop file grand hack head hip horn jet light mail plane press"
    " rule sea site spike spot trump"
)
"""Label words whose everyday meaning is another one; asking for them means that one."""


@dataclass(frozen=True)
class Concept:
    """Something that can be named: a label, or the union of a kind's labels."""

    name: str
    classes: tuple[int, ...]

    def is_a(self, kind: Concept) -> bool:
        """True when every class of this concept belongs to ``kind``."""
        return set(self.classes) <= set(kind.classes)

    @property
    def with_article(self) -> str:
        """``a banana``, ``an umbrella``, ``sunglasses``."""
        if self.name.endswith("s") and not self.name.endswith(("ss", "us", "lens", "bus")):
            return self.name
        vowel = self.name[0].lower() in "aeiou" and not self.name.startswith(("uni", "eu"))
        return f"{'an' if vowel else 'a'} {self.name}"


def _classes(ranges: str) -> tuple[int, ...]:
    bounds = (part.partition("-") for part in ranges.split())
    return tuple(i for low, _, high in bounds for i in range(int(low), int(high or low) + 1))


_INFO = ImageNetInfo("imagenet-1k")
NAMES = [_INFO.index_to_description(i).split(", ") for i in range(_INFO.num_classes())]
"""Every class's names, the usual one first."""
LABELS = tuple(Concept(names[0], (i,)) for i, names in enumerate(NAMES))
"""One concept a class."""
KINDS = tuple(Concept(names.split(",")[0], _classes(c)) for names, c in _KINDS.items())
"""Wider concepts."""


def _vocabulary() -> dict[str, Concept]:
    classes: dict[str, set[int]] = defaultdict(set)
    for i, names in enumerate(NAMES):
        for name in names:
            if name.lower() not in _HOMONYMS.split():
                classes[name.lower()].add(i)
    for aliases, kind in zip(_KINDS, KINDS, strict=True):
        for name in aliases.split(", "):
            classes[name] |= set(kind.classes)
    return {name: Concept(name, tuple(sorted(c))) for name, c in classes.items()}


VOCABULARY = _vocabulary()
"""Every word that can be asked for, lower case."""
_LONGEST = max(name.count(" ") + 1 for name in VOCABULARY)


def find_mentions(text: str) -> tuple[list[Concept], list[str]]:
    """The concepts that a question names, in order, and the words that name none.

    Longer names win (``school bus`` over ``bus``); plurals are understood.
    """
    words = re.findall(r"[a-z0-9][a-z0-9'.-]*[a-z0-9]|[a-z0-9]", text.lower())
    found, rest, i = [], [], 0
    while i < len(words):
        size, concept = _longest_match(words[i : i + _LONGEST])
        if concept:
            found.append(concept)
        else:
            rest.append(words[i])
        i += size
    return list(dict.fromkeys(found)), rest


def _longest_match(words: list[str]) -> tuple[int, Concept | None]:
    for size in range(len(words), 0, -1):
        name = " ".join(words[:size])
        for form in (name, name.removesuffix("s"), name.removesuffix("es")):
            if form in VOCABULARY:
                return size, VOCABULARY[form]
    return 1, None
