"""The words for what the network knows: a thousand labels and the kinds above them.

``labels.txt`` has a line a class of ImageNet-1k, its names as WordNet has them and some more that
people use, the one that is said first. The kinds are sets of class numbers, which follow WordNet's
order for living things.
"""

from __future__ import annotations

import re
from collections import defaultdict
from dataclasses import dataclass
from functools import cache
from importlib.resources import files


def words(text: str) -> frozenset[str]:
    """The words of a text, each once."""
    return frozenset(text.split())


_NARROW = {
    "car, automobile": "407 436 468 511 609 627 656 661 717 751 817",
    "truck, lorry": "555 569 675 717 803 864 867",
    "bus": "654 779 874",
    "train": "466 547 565 705 820",
    "bicycle, bike, cycle, pushbike": "444 671",
    "motorcycle, motorbike, scooter": "665 670",
    "boat, ship": "403 472 484 510 554 576 625 628 724 780 814 833 871 914",
    "aircraft, airplane, aeroplane, plane": "404 405 895",
    "wheeled vehicle": (
        "407 408 436 444 466 468 511 547 555 565 569 573 575 586 603 609 612 621 627 654 656 660"
        " 661 665 670 671 675 690 705 717 734 751 757 779 803 817 820 829 847 864 866 867 870 874"
        " 880"
    ),
    "dog, puppy, doggy": "151-268",
    "wolf": "269-272",
    "fox": "277-280",
    "cat, kitten, kitty": "281-285",
    "big cat": "286-293",
    "bear": "294-297",
    "monkey, ape": "365-382",
    "elephant": "385 386",
    "panda": "387 388",
    "sheep": "348-350",
    "cow, cattle, bull": "345-347",
    "antelope": "351-353",
    "rabbit, bunny": "330-332",
    "squirrel": "335",
    "whale": "147 148",
    "bird": "7-24 80-100 127-146",
    "chicken": "7 8",
    "owl": "24",
    "parrot": "87-90",
    "duck": "97 98",
    "penguin": "145",
    "fish": "0-6 389-397",
    "shark": "2-4",
    "snake": "52-68",
    "lizard": "38-48",
    "turtle, tortoise": "33-37",
    "crocodile, alligator": "49 50",
    "frog": "30-32",
    "spider": "72-77",
    "crab": "118-121",
    "butterfly": "321-326",
    "beetle": "300-307",
    "insect, bug": "300-326",
    "fruit": "948-957",
    "vegetable": "936-946",
    "mushroom": "947 991-997",
    "flower": "985 986",
    "ball": "429 430 522 574 722 768 805 852 890",
    "guitar": "402 546",
    "piano": "579 881",
    "drum": "541 822",
    "clock": "409 530 892",
    "watch": "531 826",
    "computer": "508 527 590 620 664 673 681",
    "telephone, phone": "487 528 707",
    "camera": "732 759",
    "bottle": "440 720 737 898 907",
    "cup, mug": "504 968",
    "tie, necktie": "451 457 906",
    "hat": "439 452 515 667 808",
    "helmet": "518 560 715",
    "shoe": "502 514 630 770 774",
    "glasses": "836 837",
    "bag": "414 636 728 748",
    "bridge": "821 839 888",
    "church": "406 442 497 663",
    "bed": "431 516 520 564 831",
    "chair, seat": "423 559 765 857",
    "screen": "664 782 851",
    "lamp": "846 818",
    "boot": "514",
    "knife": "499 623",
    "gun": "413 763 764",
}
"""Kind and its other names, and the classes it holds."""
_BROAD = {
    "animal, creature": "0-397",
    "vehicle, transport": (
        "403-405 407 408 436 444 466 468 472 484 510 511 547 554 555 565 569 573 575 576 586 603"
        " 609 612 621 625 627 628 654 656 660 661 665 670 671 675 690 705 717 724 734 751 757 779"
        " 780 802 803 812 814 817 820 829 833 847 864 866 867 870 871 874 880 895 914"
    ),
    "musical instrument, instrument": (
        "401 402 420 432 486 494 513 541 546 558 566 577 579 593 594 641 642 683 684 687 699 776"
        " 822 875 881 889"
    ),
    "food": "924-957 959-965 987 998",
    "drink, beverage": "966 967 969",
    "building": (
        "410 415 424 425 437 442 448 449 454 467 483 497 498 500 509 538 580 582 624 634 660 663"
        " 668 698 727 743 762 788 832 860 865 900 915"
    ),
    "furniture": (
        "423 431 453 493 495 516 520 526 532 548 553 559 564 703 736 765 831 857 861 894"
    ),
    "piece of clothing, clothes, clothing": (
        "399 400 411 439 443 445 451 452 457 459 474 496 501 502 514 515 529 552 568 578 601 608"
        " 610 614 617 630 638 639 652 655 658 667 689 697 735 770 774 775 793 796 806 808 824 834"
        " 841 842 869 887 906"
    ),
}
"""Kinds that hold so much that what is one and what is another may be apart in a clip."""

_HOMONYMS = words(
    "ai bars bell board bob bow cell chest drop file grand hack hail head hip horn jet light mail"
    " mole plane press puff rule safe scale scope shades sea site spike spot stage sub switch"
    " temple trump wing jack carrier bullet coach carriage commode comfort essence igniter"
    " claw tub bath beam bolo geta ear pole reel lighter pot cot market nursery kite"
)
"""Names whose everyday meaning is another one; asking for them does not mean the label."""

DOUBTFUL = frozenset(
    (418, 419, 488, 506, 530, 539, 549, 556, 588, 599, 600, 644, 646, 677, 680, 692, 710, 712, 714,
     720, 728, 733, 767, 777, 782, 783, 789, 794, 818, 844, 851, 854, 885, 904, 905, 911, 916, 917,
     918, 921, 922, 111, 107, 971)
)  # fmt: skip
"""Classes that the network gives to drawings, plain areas and dark pictures (bubble, website)."""


@dataclass(frozen=True)
class Concept:
    """Something that can be named: a label, or the union of a kind's labels."""

    name: str
    classes: tuple[int, ...]
    is_broad: bool = False

    def is_a(self, kind: Concept) -> bool:
        """True when every class of this concept belongs to ``kind``."""
        return set(self.classes) <= set(kind.classes)

    @property
    def with_article(self) -> str:
        """``a banana``, ``an umbrella``, ``sunglasses``."""
        is_plural = self.name.endswith("s") and not self.name.endswith(("ss", "us", "lens"))
        if is_plural or (self.name.split()[-1] in _WITHOUT_ARTICLE and " of " not in self.name):
            return self.name
        vowel = self.name[0].lower() in "aeiou" and not self.name.startswith(("uni", "eu", "one-"))
        return f"{'an' if vowel else 'a'} {self.name}"


_WITHOUT_ARTICLE = words(
    "broccoli cauliflower corn hay wool velvet food furniture wine dough guacamole carbonara eggnog"
    " sunscreen lotion cattle thatch rapeseed coffee clothing honeycomb cream potato spray powder"
    " paper sauce mail"
)
"""Last words of names that stand without an article."""


def _classes(ranges: str) -> tuple[int, ...]:
    bounds = (part.partition("-") for part in ranges.split())
    return tuple(i for low, _, high in bounds for i in range(int(low), int(high or low) + 1))


NAMES = tuple(
    tuple(line.split(", "))
    for line in files(__package__).joinpath("labels.txt").read_text(encoding="utf-8").splitlines()
)
"""Every class's names, the usual one first."""
LABELS = tuple(Concept(names[0], (i,)) for i, names in enumerate(NAMES))
"""One concept a class."""
KINDS = tuple(
    Concept(aliases.split(",")[0], _classes(ranges), broad)
    for rows, broad in ((_NARROW, False), (_BROAD, True))
    for aliases, ranges in rows.items()
)
"""Wider concepts, the narrow ones first."""


@cache
def vocabulary() -> dict[str, Concept]:
    """Every word that can be asked for, lower case, and what it means."""
    found: dict[str, set[int]] = defaultdict(set)
    for i, names in enumerate(NAMES):
        for name in names:
            if name.lower() not in _HOMONYMS:
                found[name.lower()].add(i)
    proper = {name.lower(): name for names in NAMES for name in names}
    known = {name: Concept(proper[name], tuple(sorted(c))) for name, c in found.items()}
    for aliases, kind in zip((*_NARROW, *_BROAD), KINDS, strict=True):
        for name in aliases.split(", "):
            classes = {*kind.classes, *found.get(name, ())}
            known[name] = Concept(name, tuple(sorted(classes)), kind.is_broad)
    return known


_IRREGULAR = {
    "mice": "mouse",
    "wolves": "wolf",
    "geese": "goose",
    "oxen": "ox",
    "knives": "knife",
    "loaves": "french loaf",
    "buses": "bus",
    "jack-o-lantern": "jack-o'-lantern",
    "jack o lantern": "jack-o'-lantern",
    "jack o' lantern": "jack-o'-lantern",
}


_VERBS = words(
    "fly watch drink swing cycle iron pick tie train ski drum hook duck chain screw nail hammer"
    " ship bike mask fish seat"
)
_BEFORE_VERBS = words("i you we they he she it to can could does did do will would not who")
_MOST_WORDS = 5
"""Of a name."""


def find_mentions(text: str) -> tuple[list[Concept], list[str]]:
    """The concepts that a question names, in order, and the words that name none.

    Longer names win (``school bus`` over ``bus``); plurals are understood.
    """
    plain = text.lower().replace("’", "'")
    words = re.findall(r"[^\W_][\w'.-]*[^\W_]|[^\W_]", plain)
    found, rest, i = [], [], 0
    while i < len(words):
        size, concept = _longest_match(words[i : i + _MOST_WORDS])
        is_verb = words[i] in _VERBS and i > 0 and words[i - 1] in _BEFORE_VERBS
        if concept and not is_verb:
            found.append(concept)
        else:
            rest.append(words[i].removesuffix("'s"))
        i += size
    return list(dict.fromkeys(found)), rest


def _longest_match(words: list[str]) -> tuple[int, Concept | None]:
    known = vocabulary()
    for size in range(len(words), 0, -1):
        name = " ".join(words[:size])
        own = name.replace("'s", "")
        forms = [
            name,
            own,
            name.removesuffix("s"),
            name.removesuffix("es"),
            re.sub("ies$", "y", name),
        ]
        for form in [*forms, *(_IRREGULAR.get(form, "") for form in forms)]:
            if form in known:
                return size, known[form]
    return 1, None
