"""Short answers and captions, against values computed by hand."""

from __future__ import annotations

from pathlib import Path

import pytest

from kinema.errors import MissingPackage, UsageError
from kinema.evaluation import text
from kinema.evaluation.captions import caption_tokens, cider_d, meteor_nltk, rouge_l
from kinema.evaluation.normalise import normalised
from kinema.evaluation.wordnet import Nouns, open_nouns

# A word, its hypernym. Depth of entity is 1, of animal 2, of dog and cat 3.
_TREE = {"entity": "", "animal": "entity", "dog": "animal", "cat": "animal", "car": "entity"}


@pytest.fixture
def wordnet(tmp_path: Path) -> Nouns:
    """Five nouns in the file format of WordNet 3.0."""
    lines, offsets, offset = [], {}, 0
    for word, parent in _TREE.items():
        pointer = f"001 @ {offsets[parent]:08d} n 0000" if parent else "000"
        offsets[word] = offset
        lines.append(f"{offset:08d} 03 n 01 {word} 0 {pointer} | a {word}  \n")
        offset += len(lines[-1])
    (tmp_path / "data.noun").write_text("  1 a licence\n" + "".join(lines))
    index = (f"{w} n 1 1 @ 1 0 {offsets[w]:08d}  \n" for w in sorted(_TREE))
    (tmp_path / "index.noun").write_text("  1 a licence\n" + "".join(index))
    return Nouns(tmp_path)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("Dog", "dog"),
        ("a dog", "The dog."),
        ("two", "2"),
        ("ice-cream!", "ice cream"),
        ("ＯＫ", "ok"),
    ],
)
def test_normalised_answers_are_equal(one, other):
    assert normalised(one) == normalised(other)


@pytest.mark.parametrize(("one", "other"), [("dog", "dogs"), ("2", "12"), ("on", "one"), ("", "a")])
def test_normalising_never_merges_different_answers(one, other):
    assert normalised(one) != normalised(other)


def test_exact_normalised_and_containing_matches_differ():
    assert text.exact_match(" dog ", ["dog"]) == 1
    assert text.exact_match("Dog", ["dog"]) == 0
    assert text.normalised_match("The dog.", ["cat", "dog"]) == 1
    assert text.normalised_match("a big dog", ["dog"]) == 0
    assert text.contains_match("It is a big dog.", ["dog"]) == 1
    assert text.contains_match("a hotdog stand", ["dog"]) == 0


def test_token_f1_by_hand():
    # two of three said words are meant, two of two meant words are said
    assert text.token_f1("big brown dog", ["brown dog"]) == pytest.approx(2 * 2 / 5)
    assert text.token_f1("dog", ["cat", "dog"]) == 1
    assert text.token_f1("", ["dog"]) == 0
    assert text.token_f1("dog dog", ["dog"]) == pytest.approx(2 / 3)


def test_wups_by_hand(wordnet):
    # Depths counted from 1: animal 2, dog and cat 3, so 2 * 2 / (3 + 3).
    assert wordnet.similarity("dog", "cat") == pytest.approx(2 * 2 / 6)
    assert wordnet.similarity("dogs", "dog") == 1
    assert wordnet.similarity("dog", "car") == pytest.approx(2 * 1 / 5)
    assert wordnet.similarity("dog", "zyx") == 0

    def wups(answer, reference, threshold=0.0):
        return text.wups(answer, [reference], threshold=threshold, similarity=wordnet.similarity)

    assert wups("dog", "dog") == 1
    assert wups("zyx", "zyx") == 1
    assert wups("dog", "cat") == pytest.approx(2 / 3)
    assert wups("dog", "cat", threshold=0.9) == pytest.approx(0.1 * 2 / 3)
    assert wups("dog cat", "dog") == pytest.approx(2 / 3)
    assert wups("", "dog") == 0


def test_without_wordnet_its_metrics_say_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setenv("KINEMA_WORDNET", str(tmp_path / "nowhere"))
    open_nouns.cache_clear()
    with pytest.raises(MissingPackage) as caught:
        open_nouns()
    assert "KINEMA_WORDNET" in caught.value.hint


def test_meteor_knows_stems_and_no_synonyms():
    assert meteor_nltk(["dogs"], [["dog"]]) == meteor_nltk(["dog"], [["dog"]]) == pytest.approx(0.5)
    assert meteor_nltk(["dog"], [["hound"]]) == 0


def test_caption_tokens_follow_the_treebank():
    assert caption_tokens("A man doesn't \"run\", it's 3.5 km (fast)!") == (
        ["a", "man", "does", "n't", "run", "it", "'s", "3.5", "km", "-lrb-", "fast", "-rrb-"]
    )
    assert caption_tokens("T-shirt - red... blue") == ["t-shirt", "red", "blue"]
    assert caption_tokens("Mr. X cannot go at 5 o'clock a.m.?!") == (
        ["mr.", "x", "can", "not", "go", "at", "5", "o'clock", "a.m.", "?!"]
    )


def test_rouge_l_by_hand():
    # LCS "a dog": precision 2/3, recall 2/2
    expected = (1 + 1.44) * (2 / 3) * 1 / (1 + 1.44 * 2 / 3)
    assert rouge_l(["a", "big", "dog"], [["a", "dog"]]) == pytest.approx(expected)
    assert rouge_l([], [["a", "dog"]]) == 0


def test_cider_of_one_caption_is_refused():
    with pytest.raises(UsageError, match="means nothing"):
        cider_d([["a", "dog"]], [[["a", "dog"]]])


def test_cider_depends_on_the_corpus_and_is_ten_for_the_truth():
    captions = [f"w{i} x{i} y{i} z{i}".split() for i in range(5)]
    assert cider_d(captions, [[c] for c in captions]) == pytest.approx([10.0] * 5)
