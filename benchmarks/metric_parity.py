"""Caption metrics and tokens beside the package that defines them.

Not a measure of speed: the largest differences go into docs/evaluation.md. The tokenizer and
METEOR 1.5 of pycocoevalcap run on Java.

    uv run python benchmarks/metric_parity.py
"""

from __future__ import annotations

import shutil
import warnings
from typing import Any

import numpy as np

from common import machine, write_result
from kinema.evaluation.captions import bleu, caption_tokens, cider_d, meteor_nltk, rouge_l

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the package is from 2020
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.meteor.meteor import Meteor
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

ITEMS, REFERENCES, SEED = 500, 5, 0
SUBJECTS = "a man|two women|the dog|a young boy's friend|somebody|an old couple|the U.S. team|she"
VERBS = "is riding|doesn't like|slices|they're looking at|has thrown|walks past|can't reach"
OBJECTS = (
    "a red ball|the T-shirt|3 onions|an ice-cream|the mother-in-law|half of the pan|a 2.5 kg bag|"
    'the "big" one|rock & roll|dogs/cats|one (small) cup|the 1,000 meter race'
)
PLACES = "in a park.|at 10:30|on the table!|while it's raining, slowly|- outside|; then he stops..."


def corpus() -> tuple[list[str], list[list[str]]]:
    """Captions with the punctuation, contractions and numbers that people write."""
    noise = np.random.default_rng(SEED)
    parts = [part.split("|") for part in (SUBJECTS, VERBS, OBJECTS, PLACES)]

    def caption() -> str:
        text = " ".join(str(noise.choice(part)) for part in parts)
        return text.capitalize() if noise.random() < 0.5 else text

    references = [[caption() for _ in range(REFERENCES)] for _ in range(ITEMS)]
    said = [
        " ".join([*r[0].split()[:4], *caption().split()[2:]]) if noise.random() < 0.7 else caption()
        for r in references
    ]
    return said, references


def coco(said: list[list[str]], meant: list[list[list[str]]]) -> tuple[dict[int, Any], ...]:
    """References and candidates as pycocoevalcap wants them."""
    return (
        {i: [" ".join(r) for r in rows] for i, rows in enumerate(meant)},
        {i: [" ".join(tokens)] for i, tokens in enumerate(said)},
    )


def row(ours: float, theirs: float, largest: float) -> dict[str, float]:
    return {
        "kinema": round(ours, 6),
        "reference": round(theirs, 6),
        "largest_item_difference": float(f"{largest:.1e}"),
    }


def same_tokens(said: list[list[str]], meant: list[list[list[str]]]) -> dict[str, Any]:
    """Each metric, fed with the same tokens."""
    gts, res = coco(said, meant)
    rows: dict[str, Any] = {}
    theirs, _ = Bleu(4).compute_score(gts, res, verbose=0)
    for order, (mine, their) in enumerate(zip(bleu(said, meant), theirs, strict=True), start=1):
        rows[f"BLEU-{order}"] = row(mine, their, abs(mine - their))
    rouge, per_item = Rouge().compute_score(gts, res)
    ours = np.array([rouge_l(c, r) for c, r in zip(said, meant, strict=True)])
    rows["ROUGE-L"] = row(ours.mean(), rouge, np.abs(ours - per_item).max())
    cider, per_item = Cider().compute_score(gts, res)
    ours = cider_d(said, meant)
    rows["CIDEr-D"] = row(ours.mean(), cider, np.abs(ours - per_item).max())
    return rows


def with_java(said: list[str], references: list[list[str]]) -> dict[str, Any]:
    """Our tokens against Stanford's, CIDEr-D over both, and METEOR, which is another one."""
    captions = [*said, *(r for rows in references for r in rows)]
    theirs = PTBTokenizer().tokenize({i: [{"caption": c}] for i, c in enumerate(captions)})
    stanford = [theirs[i][0].split() for i in range(len(captions))]
    ours = [caption_tokens(c) for c in captions]
    equal = sum(a == b for a, b in zip(ours, stanford, strict=True))

    def grouped(tokens: list[list[str]]) -> tuple[list[list[str]], list[list[list[str]]]]:
        rest = tokens[ITEMS:]
        starts = range(0, len(rest), REFERENCES)
        return tokens[:ITEMS], [rest[i : i + REFERENCES] for i in starts]

    mine, reference = (float(cider_d(*grouped(tokens)).mean()) for tokens in (ours, stanford))
    gts, res = coco(*grouped(stanford))
    meteor, _ = Meteor().compute_score(gts, res)
    nltk_meteor = [meteor_nltk(c, r) for c, r in zip(*grouped(stanford), strict=True)]
    return {
        "captions_tokenised_alike": f"{equal} of {len(captions)}",
        "cider_d_over_own_tokens": round(mine, 6),
        "cider_d_over_stanford_tokens": round(reference, 6),
        "meteor_nltk_stems": round(float(np.mean(nltk_meteor)), 4),
        "meteor_1.5": round(meteor, 4),
    }


def main() -> None:
    said, references = corpus()
    tokens = [caption_tokens(c) for c in said]
    meant = [[caption_tokens(r) for r in rows] for rows in references]
    result: dict[str, Any] = {"items": ITEMS, "references": REFERENCES}
    result["same_tokens"] = same_tokens(tokens, meant)
    if shutil.which("java"):
        result["java"] = with_java(said, references)
    write_result("metric_parity", result | {"machine": machine()})


if __name__ == "__main__":
    main()
