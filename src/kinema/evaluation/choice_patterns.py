"""The phrases by which replies name, praise and refute an option, as data.

``BEFORE`` patterns are searched for at the end of the text in front of a letter, ``AFTER`` patterns
at the beginning of the text behind it.
"""

from __future__ import annotations

import re

OPEN, CLOSE = r"[(\[{<\"'“‘「【]", r"[)\]}>\"'”’」】]"


def _any(*phrases: str) -> str:
    """One group of alternatives; a space stands for any white space."""
    return "(?:" + "|".join(phrase.replace(" ", r"\s+") for phrase in phrases) + ")"


def _words(listing: str) -> str:
    """One group of single words."""
    return _any(*listing.split())


def _compile(*patterns: str) -> re.Pattern[str]:
    return re.compile("|".join(patterns), re.IGNORECASE)


LATEX_TEXT = re.compile(r"\\(?:text|mathrm|mathbf|textbf)\s*\{([^{}]*)\}")
MARKDOWN = re.compile(
    r"[*`]+|(?<!\w)_+|_+(?!\w)|^#+\s*|^\s*[-•>]\s+|^\s*\d+[.)]\s+(?=\S)", re.MULTILINE
)
TAG = re.compile(
    r"<(answer|option|choice)>(?P<tagged>.*?)</\1>|\\boxed\s*\{(?P<boxed>[^{}]*)\}",
    re.DOTALL | re.IGNORECASE,
)

LETTER = re.compile(
    rf"(?<![A-Za-z0-9'&.-])(?P<open>{OPEN}?)\s?(?P<letter>[A-Za-z])\s?(?P<close>{CLOSE}?)"
    r"(?![A-Za-z0-9'&]|-[A-Za-z]|\.[A-Za-z])"
)
LONE = re.compile(
    r"(?:(?:the\s+)?(?:option|choice|answer|letter|ans)\s*[:=]?\s*)?"
    rf"{OPEN}?\s*([A-Za-z])\s*{CLOSE}?\s*[.,:;!)。]*",
    re.IGNORECASE,
)
LEADING = re.compile(
    r"^\s*(?:(?:option|choice|answer)\s+)?(?:"
    rf"{OPEN}\s?([A-Za-z])\s?{CLOSE}"  # (B) text
    r"|([A-Za-z])\s?[.):](?![A-Za-z]\.)"  # B. text, B) text, B: text
    r"|([B-HJ-Zb-hj-z])\s?,"  # B, because
    r"|([A-Z])(?=\s*(?:\n|[-–—]\s|,?\s(?:because|since|as)\b))"  # B - text, A because
    r")",
    re.MULTILINE,
)
NEXT_LABEL = re.compile(rf"\s*{OPEN}?([A-Z]){CLOSE}")
PARTNER = re.compile(
    r"\s*(?:,\s*(?:or|and)?|or|and|/|&|\|)\s*(?:option\s+|choice\s+)?"
    rf"{OPEN}?([A-Z]){CLOSE}?(?![\w'])"
)

_CONNECTOR = _words(
    "because since as due given based is was are would seems? looks must should appears fits "
    "matches describes best which that for from or and with here in"
)
NO_ARTICLE_AFTER = _compile(rf"\s*(?:\Z|[.,:;!?)\]\n/|=–—-]|{_CONNECTOR}\b)")
"""What may stand behind a letter "a" or "i" that is no article and no pronoun."""

_NOUN = _words(
    "answer option choice response solution selection pick prediction letter ans guess conclusion"
)
_LINK = (
    r"(?:\s*(?:[:=]|->|=>|→|⇒|–|—|-)|\s*"
    + _any(
        *("is", "was", "are", "be", "would be", "should be", "must be", "will be", "has to be"),
        *("might be", "could be", "to this question", "to the question", "here", "number"),
        *("selected", "given"),
    )
    + r"\b)+"
)
_FILLER = (
    r"(?:\s*(?:most\s+likely|"
    + _words(
        "the my an? option choice letter answer candidate likely probably clearly indeed "
        "therefore thus definitely simply just"
    )
    + r")\b)*\s*[:=]?\s*"
)
_PICKING = _any(
    *("choose", "pick", "select", "go with", "going with", "go for", "going for", "opt for"),
    *("settle on", "vote for", "answer with", "answer", "choosing", "picking", "selecting"),
    *("choice of", "leaning? towards?", "leaning? to", "say"),
)
_POINTING = (
    r"\b(?:it|this|that)"
    + _any("'s", " is", " must be", " should be", " would be", " has to be")
    + r"\s+(?:(?:the|likely|probably|clearly|definitely|most\s+likely)\s+)*"
    r"(?:option|choice|letter|answer)?\s*\Z"
)
STATEMENT_BEFORE = _compile(
    rf"\b{_NOUN}{_LINK}{_FILLER}\Z",
    rf"\b{_PICKING}{_FILLER}\Z",
    _POINTING,
    rf"\b(?:therefore|thus|hence|so|correct|conclude)[,:]?{_FILLER}\Z",
    r"\bbased\s+on\s[^.,;\n]{1,60},\s*\Z",
    r"(?:答案|选项|正确选项|正确答案)\s*(?:是|为|应该是|:)*\s*\Z|(?:选择|选)\s*\Z",
    r"\b(?:respuesta|réponse|antwort|risposta|resposta)"
    r"(?:\s+(?:correcta|correcte|corretta|correta))?\s*(?:es|est|ist|è|é|:)+\s*(?:la\s+)?\Z",
)
FINAL_BEFORE = _compile(rf"\bfinal\s+{_NOUN}{_LINK}{_FILLER}\Z")
OPTION_BEFORE = _compile(r"\b(?:option|choice|answer|letter)\s*\Z")
PRAISE_AFTER = _compile(
    r"\s*,?\s*(?:is|was|would\s+be|must\s+be|should\s+be|seems|looks|appears)\s+(?:to\s+be\s+)?"
    r"(?:(?:the|clearly|most|only|best|definitely|likely|probably|indeed|also)\s+)*"
    r"(?:correct|right|best|accurate|true|answer|likely|appropriate|plausible|fitting|supported|"
    r"option|choice|one)\b",
    r"\s+(?:best\s+)?(?:fits|matches|describes|answers|captures)\b",
)

_SURELY = r"(?:(?:clearly|also|obviously|definitely)\s+)*"
REFUTED_AFTER = _compile(
    r"\s*,?\s*(?:is|was|are|does|do|can|could|would|seems?|looks|appears)(?:"
    r"\s*n't|\s+(?:also\s+)?not\b|not\b|\s+(?:to\s+be\s+)?"
    + _SURELY
    + r"(?:wrong|incorrect|false|unlikely|out\b|irrelevant|impossible|eliminated|ruled|less|"
    r"inaccurate|contradicted|the\s+wrong|an?\s+(?:distractor|wrong)))",
    r"\s*can\s+be\s+(?:ruled|eliminated|excluded)",
    r"\s*:?\s*\(?(?:wrong|incorrect|false)\b",
)
EXCLUDED_BEFORE = _compile(
    r"(?:\bnot|n't|\bnever|\bcannot|\bexclud\w*|\beliminat\w*|\bruled?\s+out|\bruling\s+out|"
    r"\bexcept|\bthan|\bneither|\bnor|\bunlike|\breject\w*|\bdiscard\w*|\binstead\s+of|"
    r"\bdismiss\w*)(?:\s+(?:be|for|the|to|option|options|choice|answer|letter|with|is))*\s*\Z",
)

ONLY_AT_THE_BEGINNING = {"yes", "no", "true", "false", "none", "not sure", "maybe"}
"""Options that count only as the first word: "there is no dog" does not say "no"."""
DENIALS = {"not", "no", "never", "isn't", "wasn't", "nor", "neither", "than", "without"}
