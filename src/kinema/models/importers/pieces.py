"""Sentencepiece models as tokenizers of transformers, with sentencepiece's own ids.

Sentencepiece reads a prompt at once: it puts one space in front of it and splits it at
user-defined pieces, which begin no new text. The tokenizers library puts a space in front of every
stretch between added tokens, or of none. So here the added tokens are looked for in the text that
has its space already. The first LlamaTokenizer of transformers handed each stretch to sentencepiece
by itself, and models of that time were trained so. Format: sentencepiece_model.proto of
google/sentencepiece.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Any

from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
from tokenizers.processors import TemplateProcessing
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import generate_merges, import_protobuf

from kinema.errors import MissingPackage, ModelError
from kinema.models.literals import RESERVED

PIECES_FILE = "tokenizer.model"
"""What checkpoint folders call a sentencepiece model."""
_SPACE = "▁"
_CONTROL, _USER_DEFINED = 3, 4
_UNIGRAM, _BPE = 1, 2


def read_pieces(
    model: bytes,
    *,
    added: Sequence[str] = (),
    begin_first: bool = True,
    apart: bool = False,
    begins: bool = False,
) -> PreTrainedTokenizerFast:
    """A tokenizer whose ids are those of ``SentencePieceProcessor.encode``.

    Args:
        model: the content of a ``tokenizer.model``, BPE or unigram.
        added: user-defined pieces that are appended where the model lacks them.
        begin_first: a begin mark that the text begins with stands before the first space, as
            sentencepiece's ``add_bos`` puts it; otherwise behind it, where the text has it.
        apart: each stretch of text between marks and added tokens is encoded by itself, without
            the white space beside added tokens; otherwise the text is encoded as a whole.
        begins: a text is given the begin mark.

    Raises:
        MissingPackage: protobuf is not installed.
        ModelError: it is not a sentencepiece model, or of another kind.
    """
    proto = _read(model)
    names = [piece.piece for piece in proto.pieces]
    kinds = {piece.piece: piece.type for piece in proto.pieces}
    new = [token for token in added if token not in kinds]
    control = [name for name in names if kinds[name] in (_CONTROL, _USER_DEFINED)] + new
    tokenizer = Tokenizer(_model(proto, control))
    marks = _marks(proto)
    first = marks["bos_token"]
    tokenizer.normalizer = normalizers.Sequence(
        list(_steps(proto, [*marks.values(), *control], first if begin_first else ""))
    )
    tokenizer.decoder = _decoder(proto)
    special = {*added, *marks.values(), *(n for n in names if kinds[n] == _CONTROL)}

    def token(name: str) -> AddedToken:
        if apart and name in added:
            return stripping_token(name)
        # One that is looked for behind the normalizer begins no new text.
        return AddedToken(name, special=name in special, normalized=not apart)

    tokenizer.add_tokens([token(name) for name in dict.fromkeys([*marks.values(), *control])])
    if begins and first:
        number = tokenizer.token_to_id(first)
        tokenizer.post_processor = TemplateProcessing(
            single=f"{first} $A", special_tokens=[(first, number)]
        )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        clean_up_tokenization_spaces=False,
        **{name: token(text) for name, text in marks.items() if text},
    )


def stripping_token(text: str) -> AddedToken:
    """A token that takes the white space on both its sides away, as the first LlamaTokenizer did.

    It did so with every token that was added by its name alone.
    """
    return AddedToken(text, special=True, normalized=False, lstrip=True, rstrip=True)


def _read(model: bytes) -> Any:
    try:
        proto = import_protobuf().ModelProto()
        proto.ParseFromString(model)
    except ImportError as error:
        raise MissingPackage(
            "The tokenizer is a sentencepiece model.", hint="Install with: pip install protobuf"
        ) from error
    except Exception as error:  # protobuf's DecodeError, of whichever of its implementations
        raise ModelError(
            f"The tokenizer is not a sentencepiece model: {error}.", hint="Download it again."
        ) from error
    marks = proto.trainer_spec
    if len(proto.pieces) <= max(marks.unk_id, marks.bos_id, marks.eos_id, marks.pad_id):
        raise ModelError(
            f"The sentencepiece model holds {len(proto.pieces)} pieces and lacks its own marks.",
            hint="Download it again.",
        )
    return proto


def _marks(proto: Any) -> dict[str, str]:
    """Names of the unknown, begin, end and padding piece; unknown pads where nothing else does."""
    trainer = proto.trainer_spec
    ids = {"unk_token": trainer.unk_id, "bos_token": trainer.bos_id, "eos_token": trainer.eos_id}
    ids |= {"pad_token": trainer.pad_id if trainer.pad_id >= 0 else trainer.unk_id}
    return {name: proto.pieces[i].piece if i >= 0 else "" for name, i in ids.items()}


def _model(proto: Any, control: Sequence[str]) -> Any:
    trainer, pieces = proto.trainer_spec, proto.pieces
    if trainer.model_type == _UNIGRAM:
        scored = [(piece.piece, piece.score) for piece in pieces]
        return models.Unigram(scored, unk_id=trainer.unk_id, byte_fallback=trainer.byte_fallback)
    if trainer.model_type != _BPE:
        raise ModelError(
            "The sentencepiece model splits text into words or characters.",
            hint="Sentencepiece models of kind bpe and unigram are read.",
        )
    vocabulary = {piece.piece: number for number, piece in enumerate(pieces)}
    scores = {piece.piece: piece.score for piece in pieces}
    return models.BPE(
        vocab=vocabulary,
        merges=generate_merges(vocabulary, scores, set(control)),
        unk_token=pieces[trainer.unk_id].piece,
        fuse_unk=True,
        byte_fallback=trainer.byte_fallback,
    )


def _steps(proto: Any, tokens: Sequence[str], first: str) -> Iterator[Any]:
    """What sentencepiece does to a text before it splits it."""
    rules = proto.normalizer_spec
    if rules.precompiled_charsmap:
        yield normalizers.Precompiled(rules.precompiled_charsmap)
    if rules.remove_extra_whitespaces:
        yield normalizers.Strip()
        yield normalizers.Replace(Regex(" {2,}"), " ")
    if rules.add_dummy_prefix:
        yield normalizers.Prepend(_SPACE)
        # The library normalises each added token by itself too, and they are to stay as they are.
        alone = "|".join(re.escape(token) for token in dict.fromkeys([*tokens, RESERVED]) if token)
        yield normalizers.Replace(Regex(f"\\A{_SPACE}(?=({alone})\\z)"), "")
        if first:
            yield normalizers.Replace(Regex(f"\\A{_SPACE}{re.escape(first)}(?=.)"), first + _SPACE)
    yield normalizers.Replace(" ", _SPACE)


def _decoder(proto: Any) -> Any:
    steps = [decoders.Replace(_SPACE, " "), decoders.ByteFallback(), decoders.Fuse()]
    if proto.normalizer_spec.add_dummy_prefix:
        steps.append(decoders.Strip(content=" ", left=1))
    return decoders.Sequence(steps)
