"""Caption metrics against the reference package, on the same tokens."""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from kinema.evaluation.captions import (
    bleu,
    caption_tokens,
    cider_d,
    longest_common_subsequence,
    rouge_l,
)

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # the package is from 2020
    from pycocoevalcap.bleu.bleu import Bleu
    from pycocoevalcap.cider.cider import Cider
    from pycocoevalcap.rouge.rouge import Rouge
    from pycocoevalcap.tokenizer.ptbtokenizer import PTBTokenizer

_LISTING = "a the man woman dog runs walks eats red ball in park with on table and"
_WORDS = _LISTING.split()


def _corpus(seed: int, *, items: int = 60) -> tuple[list[list[str]], list[list[list[str]]]]:
    noise = np.random.default_rng(seed)

    def sentence(longest: int = 14) -> list[str]:
        return noise.choice(_WORDS, noise.integers(1, longest)).tolist()

    references = [[sentence() for _ in range(noise.integers(1, 6))] for _ in range(items)]
    candidates = [r[0][:-1] or r[0] if noise.random() < 0.5 else sentence() for r in references]
    return candidates, references


def _as_dicts(candidates, references):
    said = {i: [" ".join(c)] for i, c in enumerate(candidates)}
    meant = {i: [" ".join(r) for r in rs] for i, rs in enumerate(references)}
    return meant, said


CORPORA = pytest.mark.parametrize("seed", range(4))


@CORPORA
def test_bleu_of_every_order_is_the_reference(seed):
    candidates, references = _corpus(seed)
    expected, _ = Bleu(4).compute_score(*_as_dicts(candidates, references), verbose=0)
    assert bleu(candidates, references) == pytest.approx(expected, abs=1e-8)


@CORPORA
def test_rouge_l_is_the_reference(seed):
    candidates, references = _corpus(seed)
    _, expected = Rouge().compute_score(*_as_dicts(candidates, references))
    ours = [rouge_l(c, r) for c, r in zip(candidates, references, strict=True)]
    assert ours == pytest.approx(expected.tolist())


@CORPORA
def test_cider_d_is_the_reference(seed):
    candidates, references = _corpus(seed)
    mean, expected = Cider().compute_score(*_as_dicts(candidates, references))
    ours = cider_d(candidates, references)
    assert ours == pytest.approx(expected.tolist())
    assert ours.mean() == pytest.approx(mean)


def test_cider_d_with_empty_candidates_and_strange_words():
    candidates, references = _corpus(9)
    candidates[0], candidates[1] = [], ["unheard", "of"]
    _, expected = Cider().compute_score(*_as_dicts(candidates, references))
    assert cider_d(candidates, references) == pytest.approx(expected.tolist())


@CORPORA
def test_longest_common_subsequence_is_the_table(seed):
    noise = np.random.default_rng(seed)
    for _ in range(50):
        first, second = (noise.choice(list("abcd"), noise.integers(0, 12)) for _ in range(2))
        table = np.zeros((len(first) + 1, len(second) + 1), dtype=int)
        for i, left in enumerate(first, 1):
            for j, right in enumerate(second, 1):
                longer = max(table[i - 1, j], table[i, j - 1])
                table[i, j] = table[i - 1, j - 1] + 1 if left == right else longer
        assert longest_common_subsequence(first.tolist(), second.tolist()) == table[-1, -1]


HARD_CAPTIONS = (
    "A man can't, won't, cannot go.",
    "It's 5 o'clock at Joe's; the dogs' toys",
    "one/two and (three) [four] in the U.S. at 10:30 a.m.",
    'He said: "no"! Mr. Smith\'s dog, e.g. -- what?!',
    "$5 or 10% of 1,000 rock & roll T-shirts - slowly...",
    "they gonna wanna see the '90s; a well-known 3-year-old",
    "mail a.b@example.com and don't stop 2.5 km",
)


@pytest.mark.needs_program("java")  # the reference tokenizer runs on it
def test_caption_tokens_are_those_of_the_reference(capfd):
    reference = PTBTokenizer().tokenize({i: [{"caption": c}] for i, c in enumerate(HARD_CAPTIONS)})
    capfd.readouterr()
    for i, caption in enumerate(HARD_CAPTIONS):
        assert caption_tokens(caption) == reference[i][0].split()
