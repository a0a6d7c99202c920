"""Comparing captions with several references, over a whole corpus.

The numbers are those of the COCO caption evaluation for the same tokens (a parity test says so).
Its tokenizer is Stanford's and needs Java; :func:`caption_tokens` follows the same Penn Treebank
rules and agrees on the captions that people write (the same test, where there is Java).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import cache
from itertools import zip_longest
from statistics import geometric_mean
from types import SimpleNamespace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kinema.errors import UsageError

Tokens = Sequence[str]
Floats = NDArray[np.float64]

_ROUGE_BETA = 1.2
_CIDER_SIGMA = 6.0
_ORDERS = 4
_CONTRACTION = re.compile(r"(?<=\w)('s|'re|'ve|'d|'m|'ll|n't)\b")
_TWO_WORDS = re.compile(r"\b(can)(not)\b|\b(gon|wan)(na)\b|\b(got)(ta)\b")
_TOKEN = re.compile(
    r"n't|'(?:s|re|ve|d|m|ll)\b|'\d0s\b"
    r"|(?:[a-z]\.){2,}|\b(?:mr|mrs|ms|dr|st|vs|jr|sr|etc)\."  # abbreviations keep their point
    r"|[\w.+-]+@\w[\w.]*\w|\w+(?:[-/.,:']\w+)*|[?!]{2,}|[^\w\s]"
)
_PUNCTUATION = frozenset({*"'\"`.?!,:;-“”‘", "--", "..."})
# COCO means to drop brackets and keeps them, since its list of marks has them in capitals.
_BRACKETS = {"(": "-lrb-", ")": "-rrb-", "[": "-lsb-", "]": "-rsb-", "{": "-lcb-", "}": "-rcb-"}


def caption_tokens(caption: str) -> list[str]:
    """Lower-case Penn Treebank words without punctuation; brackets are words, as in COCO."""
    split = _CONTRACTION.sub(r" \1", caption.lower().replace("’", "'"))
    split = _TWO_WORDS.sub(lambda found: " ".join(filter(None, found.groups())), split)
    tokens = (token for token in _TOKEN.findall(split) if token not in _PUNCTUATION)
    return [_BRACKETS.get(token, token) for token in tokens]


def bleu(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> list[float]:
    """Corpus BLEU-1 to BLEU-4, 0 to 1, closest reference length, no smoothing (sacrebleu)."""
    from sacrebleu.metrics.bleu import BLEU  # noqa: PLC0415  an extra

    scorer = BLEU(tokenize="none", smooth_method="none", force=True)
    # Where an item has fewer references than others, sacrebleu wants None in its place.
    joined = ([" ".join(tokens) for tokens in sentences] for sentences in references)
    streams: list[Any] = [list(stream) for stream in zip_longest(*joined)]
    score = scorer.corpus_score([" ".join(tokens) for tokens in candidates], streams)
    precisions = [c / t if t else 0.0 for c, t in zip(score.counts, score.totals, strict=True)]
    heads = [precisions[:order] for order in range(1, _ORDERS + 1)]
    return [score.bp * geometric_mean(head) if min(head) > 0 else 0.0 for head in heads]


def rouge_l(candidate: Tokens, references: Sequence[Tokens]) -> float:
    """ROUGE-L of one caption, 0 to 1, COCO's way.

    Best precision and best recall over the references, each for itself, weighed with beta = 1.2.
    """
    lengths = [longest_common_subsequence(candidate, reference) for reference in references]
    precision = max(length / max(1, len(candidate)) for length in lengths)
    recall = max(n / max(1, len(r)) for n, r in zip(lengths, references, strict=True))
    if not precision or not recall:
        return 0.0
    square = _ROUGE_BETA**2
    return (1 + square) * precision * recall / (recall + square * precision)


def longest_common_subsequence(first: Tokens, second: Tokens) -> int:
    """Length of it, a row of the table in one integer (Hyyrö 2004)."""
    places: dict[str, int] = {}
    for bit, token in enumerate(first):
        places[token] = places.get(token, 0) | 1 << bit
    every = (1 << len(first)) - 1
    row = every
    for token in second:
        matches = row & places.get(token, 0)
        row = ((row + matches) | (row - matches)) & every
    return len(first) - row.bit_count()


def cider_d(candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]) -> Floats:
    """CIDEr-D of each caption, 0 to 10 (Vedantam et al., CVPR 2015; sigma 6).

    Document frequencies come from the references of all captions, so the mean is a number of this
    corpus: a mean of per-item calls is another number.

    Returns:
        float64[N]

    Raises:
        UsageError: fewer than two captions, where every weight would be zero.
    """
    if len(candidates) < 2:
        raise UsageError(
            f"CIDEr of {len(candidates)} caption means nothing: its weights come from the corpus.",
            hint="Compute it over the whole split.",
        )
    corpus = _Corpus(candidates, references)
    total = np.zeros(len(candidates))
    for order in range(_ORDERS):
        total += corpus.similarity(order)
    return total * (10.0 / _ORDERS)


class _Corpus:
    """All captions as arrays: candidate i is document i, references follow."""

    def __init__(self, candidates: Sequence[Tokens], references: Sequence[Sequence[Tokens]]):
        self._count = len(candidates)
        documents = [*candidates, *(r for sentences in references for r in sentences)]
        lengths = np.array([len(tokens) for tokens in documents], dtype=np.int64)
        vocabulary: dict[str, int] = {}
        flat = [vocabulary.setdefault(t, len(vocabulary)) for tokens in documents for t in tokens]
        self._tokens = np.array(flat, dtype=np.int64)
        self._document = np.repeat(np.arange(len(documents)), lengths)
        self._num_references = np.array([len(sentences) for sentences in references])
        owners = np.repeat(np.arange(self._count), self._num_references)
        self._item = np.concatenate([np.arange(self._count), owners])
        self._bigrams = np.maximum(lengths - 1, 0)
        self._grams = self._tokens
        self._where = np.arange(len(flat))

    def similarity(self, order: int) -> Floats:
        """float64[N], mean over references of the clipped cosine of n-grams one word longer."""
        if order:
            self._lengthen()
        documents, grams, counts, kinds = self._count_grams()
        weights = counts * self._idf(documents, grams, kinds)[grams]
        norms = np.sqrt(np.bincount(documents, weights**2, minlength=len(self._item)))
        dots = self._dots(documents * kinds + grams, documents, grams, weights, kinds)
        return self._mean(dots, norms)

    def _lengthen(self) -> None:
        """Turn each n-gram into the (n+1)-gram that begins at the same word."""
        ends = self._where + 1
        inside = ends < len(self._tokens)
        inside[inside] = self._document[ends[inside]] == self._document[self._where[inside]]
        pairs = self._grams[inside] * (self._tokens.max(initial=0) + 1) + self._tokens[ends[inside]]
        self._grams = np.unique(pairs, return_inverse=True)[1]
        self._where = ends[inside]

    def _count_grams(self) -> tuple[NDArray[Any], NDArray[Any], NDArray[Any], int]:
        kinds = int(self._grams.max(initial=0)) + 1
        keys, counts = np.unique(
            self._document[self._where] * kinds + self._grams, return_counts=True
        )
        return keys // kinds, keys % kinds, counts, kinds

    def _idf(self, documents: NDArray[Any], grams: NDArray[Any], kinds: int) -> Floats:
        is_reference = documents >= self._count
        seen = np.unique(self._item[documents[is_reference]] * kinds + grams[is_reference])
        frequency = np.bincount(seen % kinds, minlength=kinds)
        return np.asarray(np.log(self._count) - np.log(np.maximum(1, frequency)))

    def _dots(
        self,
        keys: NDArray[Any],
        documents: NDArray[Any],
        grams: NDArray[Any],
        weights: Floats,
        kinds: int,
    ) -> Floats:
        """float64[documents], each reference with its candidate, whose weights are clipped."""
        first = int(np.searchsorted(documents, self._count))
        wanted = self._item[documents[first:]] * kinds + grams[first:]
        at = np.minimum(np.searchsorted(keys[:first], wanted), max(0, first - 1))
        found = keys[:first][at] == wanted if first else np.zeros(len(wanted), dtype=bool)
        own = np.where(found, weights[:first][at] if first else 0.0, 0.0)
        products = np.minimum(own, weights[first:]) * weights[first:]
        return _sums(documents[first:], products, len(self._item))

    def _mean(self, dots: Floats, norms: Floats) -> Floats:
        owners = self._item[self._count :]
        scale = norms[owners] * norms[self._count :]
        cosine = np.divide(dots[self._count :], scale, out=np.zeros(len(owners)), where=scale > 0)
        gap = (self._bigrams[owners] - self._bigrams[self._count :]).astype(np.float64)
        similar = cosine * np.exp(-(gap**2) / (2 * _CIDER_SIGMA**2))
        means: Floats = _sums(owners, similar, self._count) / self._num_references
        return means


def _sums(places: NDArray[Any], values: Floats, size: int) -> Floats:
    return np.asarray(np.bincount(places, values, minlength=size), dtype=np.float64)


def meteor_nltk(candidate: Tokens, references: Sequence[Tokens]) -> float:
    """METEOR as nltk computes it on words and Porter stems, without synonyms, 0 to 1.

    These are the weights of 2005; the COCO evaluation runs a Java METEOR 1.5, whose numbers differ.
    """
    from nltk.translate.meteor_score import meteor_score  # noqa: PLC0415  an extra

    no_synonyms = SimpleNamespace(synsets=lambda word: [])
    return float(meteor_score(references, candidate, stemmer=_stemmer(), wordnet=no_synonyms))


@cache
def _stemmer() -> Any:
    from nltk.stem.porter import PorterStemmer  # noqa: PLC0415

    return SimpleNamespace(stem=cache(PorterStemmer().stem))
