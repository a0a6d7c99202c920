"""The phrases by which replies name, praise and refute an option, as data.

``BEFORE`` patterns are searched for at the end of the text in front of a letter, ``AFTER`` patterns
at the beginning of the text behind it.
"""

from __future__ import annotations

import re
import unicodedata

OPEN, CLOSE = r"[(\[{<\"'“‘「【]", r"[)\]}>\"'”’」】]"

QUOTES = "\"'“‘"


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
    r"[*`~]+|(?<!\w)_+|_+(?!\w)|^#+\s*|^\s*[-•>]\s+|^\s*\d+[.)]\s+(?=\S)", re.MULTILINE
)
LATEX_BRACKETS = re.compile(r"\\[()\[\]]")
"""Around mathematics."""
TICKS = {
    **dict.fromkeys(map(ord, "✓✔✅☑"), ": correct"),
    **dict.fromkeys(map(ord, "✗✘✖❌"), ": wrong"),
}
TAG = re.compile(
    r"<(answer|option|choice|conclusion)>(?P<tagged>.*?)</\1>"
    r"|\\(?:boxed|fbox)\s*\{(?P<boxed>[^{}]*)\}",
    re.DOTALL | re.IGNORECASE,
)

LETTER = re.compile(
    rf"(?<![A-Za-z0-9'&.-])(?P<open>{OPEN}?)\s?(?P<letter>[A-Za-z])\s?(?P<close>{CLOSE}?)"
    r"(?![A-Za-z0-9'&]|-[A-Za-z]|\.[A-Za-z])"
)
LONE = re.compile(
    r"(?:(?:the\s+)?(?:option|choice|answer|letter|ans)\s*[:=]?\s*)?"
    r"(?:(?:most\s+)?(?:probably|likely|maybe|perhaps|definitely|clearly|surely|obviously|certainly)\s+)?"
    rf"{OPEN}{{0,2}}\s*([A-Za-z])\s*{CLOSE}{{0,2}}(?:[\s,.]+\1)*"
    r"(?:\s*,?\s*(?:i\s+(?:think|guess|believe|suppose)|for\s+sure|obviously|probably|maybe|definitely|"
    r"clearly|surely|likely))?\s*[.,:;!?)。]*",
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
    r"\s*(?:,\s*(?:or|and)?|or|and|/|&|\+|\|)\s*(?:maybe\s+|perhaps\s+|possibly\s+|even\s+)?"
    rf"(?:option\s+|choice\s+)?{OPEN}?([A-Z]){CLOSE}?(?![\w'])"
)

_CONNECTOR = _words(
    "because since as due given based is was are would seems? looks must should appears fits "
    "matches describes best which that for from or and with here in rather instead does can cannot"
)
PARTNER_BEFORE = re.compile(rf"(?<![\w']){OPEN}?([A-Z]){CLOSE}?\s+or\s+(?:option\s+)?\Z")
ASKED_BEFORE = _compile(r"\b(?:is|was|would|could|should|might)\s+(?:it|you|this|that)\b[^.\n]*\Z")
"""In front of a letter that a question mark follows."""
NO_ARTICLE_AFTER = _compile(
    rf"\s*(?:\Z|[.,:;!?)\]\n/|=–—&+-]|{_CONNECTOR}\b|\((?:in)?correct|\((?:wrong|right)|[\u3040-\u9fff])"
)
"""What may stand behind a letter "a" or "i" that is no article and no pronoun."""

_NOUN = _words(
    "answer option choice response solution selection pick prediction letter ans guess conclusion"
)
_LINK = (
    r"\.?[\])】]*(?:\s*(?:[:=]|'s\b|->|=>|→|⇒|–|—|-)|\s*"
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
_ANSWER_ELSEWHERE = unicodedata.normalize(
    "NFKC",
    # German, Dutch, Romance languages, Polish, Turkish, Vietnamese, Indonesian, Russian …
    r"\b(?:antwort|antwoord|réponse|reponse|respuesta|resposta|risposta|odpowiedź|cevap|yanıt|svar|"
    r"vastaus|jawaban|đáp\s+án|ответ|απάντηση|"
    r"richtig\s+ist\s+antwort)\b"
    r"|答案】?|选项|選項|答え|正解|回答|解答|정답|답|الإجابة|الجواب|उत्तर|คำตอบ|תשובה",
)
_CORRECT_ELSEWHERE = (
    r"(?:correcta|correcte|corretta|correta|giusta|richtige|juiste|yang\s+benar|đúng|poprawna)"
)
_IS_ELSEWHERE = (
    r"\s*(?:(?:es|est|ist|è|é|adalah|là|jest|應該是|应该是|是|为|為|は|은|는|:|\n)\s*)*"
    r"(?:(?:la|le|die|der|il|a|o|option|opção|opción)\s+)?"
)
STATEMENT_BEFORE = _compile(
    rf"\b{_NOUN}{_LINK}{_FILLER}\Z",
    r"\b(?:ans\.|answer[\])】])\s*\Z",
    rf"[\"'](?:\w+_)?{_NOUN}[\"']\s*:\s*[\[(\"']*\Z",  # JSON
    rf"\b(?:(?:must|should|would|could|might|will|has\s+to)\s+be|guess|(?:right|correct|best)\s+one\s+is)"
    rf"{_FILLER}\Z",
    rf"\b(?:looks?|seems?)\s+(?:like|to\s+be){_FILLER}\Z",
    rf"\b{_PICKING}{_FILLER}\Z",
    _POINTING,
    rf"\b(?:therefore|thus|hence|so|correct|conclude)[,:]?{_FILLER}\Z",
    r"\bbased\s+on\s[^.,;\n]{1,60},\s*\Z",
    r"\b(?:leaves?|leaving|by\s+elimination,?|correction:)\s*(?:option\s+)?\Z",
    rf"(?:{_ANSWER_ELSEWHERE})(?:\s+{_CORRECT_ELSEWHERE})?{_IS_ELSEWHERE}\Z",
    r"(?:选择|選擇|选|選|而是|[,;。]\s*是)\s*:?\s*\Z",
)
FINAL_BEFORE = _compile(rf"\bfinal\s+{_NOUN}{_LINK}{_FILLER}\Z")
OPTION_BEFORE = _compile(r"\b(?:option|choice|answer|letter)\s*\Z")
LAST_BEHIND_COMMA = (
    re.compile(r"(?:(?<!\b[A-Z]),|[:→⇒]|\bbut)\s*\Z"),
    _compile(r"\s*[.!。]?\s*\Z"),
)
"""Around a letter that ends the reply: "because he holds a leash, A"."""
ANSWER_LABEL = re.compile(r"\s*A\s*:\s*([A-Za-z])\W*")
"""``A: C``, as data of questions and answers writes it."""
ORDINAL = _compile(
    r"\W*(?:the\s+)?(?:(first|second|third|fourth|fifth)\s+(?:option|choice|one|answer)"
    r"|(?:option|choice)\s*(\d))\W*"
)
ORDINALS = ("first", "second", "third", "fourth", "fifth")
REVISED = _compile(
    r"\b(?:actually|correction|on\s+second\s+thought|scratch\s+that|i\s+mean|sorry|let\s+me\s+"
    r"(?:reconsider|correct))\b[\s,.:;–—-]*(?:(?:no|yes)\b[\s,.:;]*)?"
)
"""What follows is meant instead of what stands before it."""
PRAISE_AFTER = _compile(
    r"\s*,?\s*(?:is|was|would\s+be|must\s+be|should\s+be|seems|looks|appears)\s+(?:to\s+be\s+)?"
    r"(?:(?:the|clearly|most|more|only|best|definitely|likely|probably|indeed|also)\s+)*"
    r"(?:correct|right|best|accurate|true|answer|likely|appropriate|plausible|fitting|supported|"
    r"option|choice|one)\b",
    r"\s+(?:best\s+)?(?:fits|matches|describes|answers|captures)\b",
    r"\s+(?:it\s+is\b|is\s+what\b|does[.!]?\s*\Z|die\s+richtige|la\s+bonne|la\s+correcta)",
    r"\s*(?:,?\s*rather\s+than|,?\s*instead\s+of|\s+over)\s+(?:option\s+)?[A-Z]\b",
    r"\s*\?\s*yes\b|\s*(?:选项|選項)?\s*是?(?:正确|正確|对的|對的)",
)
PRAISED_LABEL = _compile(
    r"(?:this\s+(?:option\s+)?)?(?:is\s+)?(?:the\s+)?(?:right|correct|true|yes|matches|fits)\b"
)
REFUTED_LABEL = _compile(
    r"(?:this\s+(?:option\s+)?)?(?:(?:is\s+)?(?:wrong|incorrect|false|no|not\s+(?:correct|right))\b"
    r"|(?:does|is|can|do)(?:\s+not\b|not\b|n't))"
)
"""Behind a label and its option's own words, in a list of verdicts: "A: wrong. B: right."."""
LABEL_END = re.compile(r"\s*[).:\]]*\s*[–—(:-]*\s*")

_SURELY = r"(?:(?:clearly|also|obviously|definitely)\s+)*"
REFUTED_AFTER = _compile(
    r"\s*,?\s*(?:is|was|are|does|do|can|could|would|seems?|looks|appears)(?:"
    r"\s*n't|\s+(?:also\s+)?not\b|not\b|\s+(?:to\s+be\s+)?"
    + _SURELY
    + r"(?:wrong|incorrect|false|unlikely|out\b|irrelevant|impossible|eliminated|ruled|less|"
    r"inaccurate|contradicted|the\s+wrong|an?\s+(?:distractor|wrong)))",
    r"\s*can\s+be\s+(?:ruled|eliminated|excluded)",
    r"\s*:?\s*\(?(?:wrong|incorrect|false)\b",
    r"\s*\?\s*no\b|\s*(?:选项|選項)?\s*是?(?:不正确|不正確|错误|錯誤|不对|不對|错)",
    # What is conceded and then passed over.
    r"\s*,?\s*(?:is|was|seems|looks|(?:might|could|may)\s+be)\s+(?:\w+\s+)?(?:plausible|tempting|"
    r"possible|close|reasonable|similar)\b[^.;\n]{0,60}\b(?:but|however|yet)\b",
    r"\s+would\s+(?:be|have)\b[^.;\n]{0,60}\bif\b",
)
EXCLUDED_BEFORE = _compile(
    r"(?:\bnot|n't|\bnever|\bcannot|\bexclud\w*|\beliminat\w*|\bruled?\s+out|\bruling\s+out|"
    r"\bexcept|\bthan|\bneither|\bnor|\bunlike|\breject\w*|\bdiscard\w*|\binstead\s+of|"
    r"\bdismiss\w*|\bover)(?:\s+(?:be|for|the|to|option|options|choice|answer|letter|with|is))*\s*\Z",
    r"(?:不是|并非|並非|而非|不选|不選)\s*\Z",
    r"\bfirst\s+(?:guess|answer|choice|thought|instinct|impression)\b[\s:]*(?:(?:is|was)\s+)?\Z",
)

ASKED_AND_DENIED = _compile(r"[^.?!\n]*\?\s*(?:no|nope)\b")
"""Options that a reply asks itself about: "a cat? no, a bird"."""


def stands_alone(word: str) -> re.Pattern[str]:
    """Where a reply says "yes", "no" or the like as its answer, and not as a part of a sentence."""
    return _compile(
        rf"\A\W*{word}\b(?!\s+(?:one|way|idea|doubt|and|or)\b)",
        r"(?:[.!?\n]\s*|,\s*|\b(?:answer|statement|claim|response|verdict|it|this|that)\s*(?:is|:)\s*"
        r"|\b(?:so|hence|thus|therefore|say)\b,?\s*)"
        rf"[\"']?{word}[\"']?(?=\s*(?:[.,;:!]|\Z|\n|(?:because|since|as|that)\b))",
    )


SAID_ALONE = {"yes", "no", "true", "false", "none", "not sure", "maybe"}
"""Options that count only where they stand alone: "there is no dog" does not say "no"."""
DENIALS = {"not", "no", "never", "isn't", "wasn't", "nor", "neither", "than", "without"}
