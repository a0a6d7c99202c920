"""Text of answers in pieces: always a beginning of what decoding all ids gives."""

from __future__ import annotations

import random

import pytest
from tokenizers import Tokenizer, decoders, models
from transformers import PreTrainedTokenizerFast

from kinema.engines.hf.detokenizer import Detokenizer, Vocabulary
from kinema.engines.hf.streaming import Row
from kinema.messages import SamplingParams
from support.checkpoints import make_tokenizer

SAID = ["é中🐇 a", "🐇🐇", "中 中", "a b", " the ��", "a. the  b"]


def sentencepiece(decoder):
    """Pieces with ▁ for a space, and a token for each byte, as LLaMA and Gemma have them."""
    names = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256))]
    names += ["▁", "a", "b", "▁a", "▁b", "▁the", "é", "中", "▁é", "▁▁", ".", "▁.", "�"]
    vocabulary = {name: number for number, name in enumerate(names)}
    tokenizer = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", byte_fallback=True))
    tokenizer.decoder = decoder
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", bos_token="<s>", eos_token="</s>"
    )


def byte_level():
    return make_tokenizer({"image_token": "<image>"})


def llama():
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    return sentencepiece(decoders.Sequence([*parts, decoders.Strip(" ", 1, 0)]))


def gemma():
    parts = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()]
    return sentencepiece(decoders.Sequence(parts))


def metaspace():
    return sentencepiece(decoders.Metaspace())


TOKENIZERS = {"byte level": byte_level, "llama": llama, "gemma": gemma, "metaspace": metaspace}


def drawn(tokenizer, draw, length):
    """Ids of words, of nothing in particular, and of both; some are in no vocabulary."""
    known = tokenizer.encode("".join(SAID), add_special_tokens=False)
    ids = []
    while len(ids) < length:
        kind = draw.randrange(3)
        if kind == 0:
            ids.append(draw.randrange(len(tokenizer) + 3))
        elif kind == 1:
            ids.extend(tokenizer.encode(draw.choice(SAID), add_special_tokens=False))
        else:
            ids.append(draw.choice(known))
    return ids[:length]


@pytest.mark.parametrize("name", TOKENIZERS)
def test_text_in_pieces_is_a_beginning_of_the_whole(name):
    tokenizer, draw = TOKENIZERS[name](), random.Random(0)
    vocabulary = Vocabulary(tokenizer)
    assert vocabulary.decodes_in_pieces
    for _ in range(100):
        ids = drawn(tokenizer, draw, draw.choice([1, 5, 40]))
        detokenizer = Detokenizer(vocabulary)
        for token in ids:
            detokenizer.add(token)
        whole = tokenizer.decode(ids, skip_special_tokens=True)
        assert whole.startswith(detokenizer.text)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_nothing_is_held_back_behind_a_whole_word(name):
    tokenizer = TOKENIZERS[name]()
    for words in SAID:
        ids = tokenizer.encode(f"{words} a b", add_special_tokens=False)
        detokenizer = Detokenizer(Vocabulary(tokenizer))
        for token in ids:
            detokenizer.add(token)
        assert detokenizer.text == tokenizer.decode(ids, skip_special_tokens=True)


@pytest.mark.parametrize("name", TOKENIZERS)
def test_what_a_row_shows_adds_up_to_its_answer(name):
    tokenizer, draw = TOKENIZERS[name](), random.Random(1)
    vocabulary = Vocabulary(tokenizer)
    for _ in range(60):
        ids = drawn(tokenizer, draw, 30)
        row = Row(SamplingParams(max_new_tokens=30), [tokenizer.eos_token_id], vocabulary)
        said = "".join(row.add([token]) for token in ids)
        whole = tokenizer.decode(row.ids, skip_special_tokens=True).strip()
        assert said + row.rest(whole) == whole


def test_the_cost_of_a_token_does_not_grow_with_the_answer():
    decoded = []

    class Counted(Vocabulary):
        def decode(self, ids):
            decoded.append(len(ids))
            return super().decode(ids)

    tokenizer = byte_level()
    words = tokenizer.encode("a rabbit 🐇 in a meadow", add_special_tokens=False) * 100
    invalid = tokenizer.convert_tokens_to_ids(["ÿ"]) * 300  # the byte FF, which begins nothing
    for ids in (words, invalid):
        detokenizer = Detokenizer(Counted(tokenizer))
        for token in ids:
            detokenizer.add(token)
        assert max(decoded) <= 40
        decoded.clear()


def test_an_answer_that_nobody_reads_is_not_decoded():
    row = Row(SamplingParams(max_new_tokens=3), [0], None)
    assert [row.add([token]) for token in (5, 6, 7, 8)] == [""] * 4
    assert row.ids == [5, 6, 7]
    assert row.ended


def test_a_tokenizer_that_takes_spaces_away_again_is_read_as_a_whole():
    vocabulary = {"<unk>": 0, "do": 1, "n": 2, "'": 3, "t": 4, "stop": 5, ".": 6}
    model = models.WordPiece(vocabulary, unk_token="<unk>")
    tokenizer = Tokenizer(model)
    tokenizer.decoder = decoders.WordPiece(cleanup=False)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, unk_token="<unk>", clean_up_tokenization_spaces=True
    )
    row = Row(SamplingParams(max_new_tokens=9), [], Vocabulary(fast))
    ids = [1, 5, 6, 1, 5, 6, 5, 6, 1]
    said = "".join(row.add([token]) for token in ids)
    whole = fast.decode(ids)
    assert whole == "do stop. do stop. stop. do"
    assert said
    assert said + row.rest(whole) == whole


def test_a_stop_string_over_several_tokens_ends_the_row_at_its_last_one():
    tokenizer = llama()
    ids = tokenizer.convert_tokens_to_ids(["▁a", "▁the", "b", "▁.", "a"])
    row = Row(SamplingParams(max_new_tokens=9, stop=("eb .",)), [], Vocabulary(tokenizer))
    said = [row.add([token]) for token in ids]
    assert said == ["a", " th", "", "", ""]
    assert row.ids == ids[:4]
    assert row.ended


def test_marks_of_reasoning_are_read_although_they_are_special_tokens():
    tokenizer = byte_level()
    tokenizer.add_special_tokens({"additional_special_tokens": ["[THINK]", "[/THINK]"]})
    ids = tokenizer.encode("[THINK]a b[/THINK] the 🐇", add_special_tokens=False)
    row = Row(SamplingParams(), [tokenizer.eos_token_id], Vocabulary(tokenizer))
    said = "".join(row.add([token]) for token in [*ids, tokenizer.eos_token_id])
    assert said == "[THINK]a b[/THINK] the 🐇"
    assert Vocabulary(tokenizer).decode(row.ids) == said
