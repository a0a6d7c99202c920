"""Sentencepiece models as transformers' tokenizers: the ids are sentencepiece's own."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from kinema.errors import ModelError
from kinema.families.templates import TEMPLATES
from kinema.messages import Prompt
from kinema.models.importers.pieces import read_pieces
from kinema.models.literals import LiteralTokens
from support import released_neva
from support.released_pieces import EXTRA_TOKENS, train_sentencepiece, with_pieces

sentencepiece = pytest.importorskip("sentencepiece")

RUN = f"<extra_id_4>{'<extra_id_3>' * 6}<extra_id_5>"
TURNS = [
    {"role": "user", "content": f"{RUN}\nWhat happens in the video?"},
    {"role": "assistant", "content": "A train passes."},
    {"role": "user", "content": "And then?"},
]


@pytest.fixture(scope="module", params=["bpe", "unigram"])
def model(request):
    size = {"bpe": 420, "unigram": 380}[request.param]
    return train_sentencepiece(size, kind=request.param)


def written(name: str, turns, *, asks: bool) -> str:
    """A conversation in one of NeVA's templates."""
    from jinja2 import Environment

    template = Environment().from_string(TEMPLATES[name].jinja)
    return template.render(messages=turns, add_generation_prompt=asks)


@pytest.mark.parametrize("appended", [True, False], ids=["its own", "added here"])
@pytest.mark.parametrize("template", ["nvgpt", "nv_dpo", "v1", "llama_2", "mistral"])
def test_prompts_and_training_texts_have_nemos_ids(model, template, appended, tmp_path):
    """NeMo encodes the whole text, then swaps the stand-ins of three templates."""
    nemos = sentencepiece.SentencePieceProcessor(model_proto=with_pieces(model))
    swaps = not template.startswith("nv")
    stands = {nemos.piece_to_id(f"<extra_id_{i}>"): mark for i, mark in ((6, 1), (7, 2))}
    made = read_pieces(
        with_pieces(model) if appended else model,
        added=EXTRA_TOKENS,
        begin_first=template != "mistral",
    )
    made.save_pretrained(tmp_path)
    ours = AutoTokenizer.from_pretrained(tmp_path)
    for turns, asks in ((TURNS[:1], True), (TURNS, True), (TURNS[:2], False)):
        text = written(template, turns, asks=asks)
        wanted = [stands.get(i, i) if swaps else i for i in nemos.encode_as_ids(text)]
        if swaps:
            text = text.replace("<extra_id_6>", "<s>").replace("<extra_id_7>", "</s>")
        assert ours(text, add_special_tokens=False)["input_ids"] == wanted


def test_any_text_has_sentencepieces_ids_and_is_decoded_alike():
    model = with_pieces(train_sentencepiece())
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    ours = read_pieces(model)
    source = Path(released_neva.__file__).read_text(encoding="utf-8")
    for mark in ("<s>", "</s>", "<unk>"):  # which nobody can type into sentencepiece
        source = source.replace(mark, "")
    places = random.Random(0)
    starts = [places.randrange(len(source) - 200) for _ in range(300)]
    texts = [source[start : start + places.randrange(1, 200)] for start in starts]
    texts += [
        "",
        " ",
        "  two  spaces  ",
        "\n\nx\t y\n",
        "été 漢字 😀 <extra_id_1> b",
        " <extra_id_3> ",
    ]
    for text in texts:
        ids = ours(text, add_special_tokens=False)["input_ids"]
        assert ids == theirs.encode_as_ids(text), text
        assert ours.decode(ids) == theirs.decode(ids)


def test_a_begin_mark_stands_before_the_first_space():
    model = with_pieces(train_sentencepiece())
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model)
    ids = read_pieces(model)("<s> [INST] What?")["input_ids"]
    assert ids == theirs.encode(" [INST] What?", add_bos=True)


def test_a_literal_of_the_user_does_not_begin_a_text_anew():
    tokenizer = read_pieces(with_pieces(train_sentencepiece()))
    literals = LiteralTokens(tokenizer)
    prompt = Prompt(f"USER: What is {Prompt.GUARD}in it?", literals=("<extra_id_3>",))
    names = tokenizer.convert_ids_to_tokens(tokenizer(literals.reserve(prompt))["input_ids"])
    after = next(i for i, name in enumerate(names) if "kinema-literal" in name) + 1
    assert not names[after].startswith("▁")


def test_what_fills_a_batch_is_the_unknown_piece():
    assert read_pieces(train_sentencepiece()).pad_token == "<unk>"


@pytest.mark.parametrize("content", [b"", b"no model at all", b"\x0a\x05\x0a\x03abc"])
def test_what_is_no_sentencepiece_model_is_refused(content):
    with pytest.raises(ModelError):
        read_pieces(content)
