"""Folders with a ``tokenizer.model`` alone give the ids of the tokenizer that trained them."""

import json

import pytest

from kinema.errors import ModelError
from kinema.messages import Prompt
from kinema.models.importers.parts import read_tokenizer
from kinema.models.importers.pieces import stripping_token
from kinema.models.literals import LiteralTokens
from support.released_pieces import train_sentencepiece, write_llama_2
from support.released_videochatgpt import (
    VICUNA,
    VIDEO_CHATGPT,
    VIDEO_TOKENS,
    prompt_of,
    slow_ids,
    write_llava_tokenizer,
)

pytest.importorskip("sentencepiece")

TEXTS = {
    "inference": prompt_of(VIDEO_CHATGPT, [("What happens?\n<video>", None)]),
    "training, video first": prompt_of(VICUNA, [("<video>\nWhat happens?", "A train passes.")]),
    "two turns": prompt_of(
        VICUNA, [("Why?\n<video>", "It's a train."), ("And then?", "  Nothing.")]
    ),
    "no video": prompt_of(VICUNA, [("describe  four   spaces\n\n", " So.\n")]),
    "image tokens": "a <im_start> <im_patch> <im_end>\nb",
    "unknown letters": "Ünter ▁ 漢字 <unk> x",
    "digits": "frames 1-483 of 2024",
}


@pytest.fixture(scope="module")
def pieces():
    return train_sentencepiece()


@pytest.fixture(scope="module")
def tokenizer(pieces, tmp_path_factory):
    folder = tmp_path_factory.mktemp("llava")
    write_llava_tokenizer(folder, pieces)
    read = read_tokenizer(folder)
    read.add_tokens([stripping_token(token) for token in VIDEO_TOKENS])
    return read


@pytest.mark.parametrize("name", TEXTS)
def test_ids_are_those_of_the_slow_tokenizer(pieces, tokenizer, name):
    text = TEXTS[name]
    assert tokenizer(text).input_ids == slow_ids(pieces, text)


def test_they_outlive_saving(pieces, tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = read_tokenizer(tmp_path)
    text = TEXTS["two turns"]
    assert again(text).input_ids == slow_ids(pieces, text)
    assert again.decode(again(text).input_ids[1:6]) == tokenizer.decode(slow_ids(pieces, text)[1:6])
    assert again.pad_token_id == 0


def test_a_mark_in_somebodys_words_begins_no_new_stretch(pieces, tokenizer):
    literals = LiteralTokens(tokenizer)
    prompt = Prompt(f"a{Prompt.GUARD}b", ("</s>",))
    inputs = tokenizer(literals.reserve(prompt), return_tensors="pt")
    ids = literals.fill(dict(inputs), prompt.literals)["input_ids"][0].tolist()
    assert 2 not in ids
    assert tokenizer.decode(ids[1:]).replace(" ", "") == "a</s>b"
    assert tokenizer.convert_ids_to_tokens(ids[-1:]) == ["b"]


def test_newer_folders_are_left_to_transformers(pieces, tmp_path):
    write_llama_2(tmp_path, pieces)
    tokenizer = read_tokenizer(tmp_path)
    said = tokenizer.convert_ids_to_tokens(tokenizer("You</s>USER").input_ids)
    assert said[:4] == ["<s>", "▁You", "</s>", "U"]


def test_ids_that_contradict_each_other_are_named(pieces, tmp_path):
    write_llava_tokenizer(tmp_path, pieces)
    (tmp_path / "added_tokens.json").write_text(json.dumps({"<im_patch>": 7777}))
    with pytest.raises(ModelError, match="7777"):
        read_tokenizer(tmp_path)
