"""Prompt layouts, id by id."""

import numpy as np
import pytest

from kinema.errors import UsageError
from kinema.messages import Prompt
from kinema.models.lwm.prompt import bucket, frame_block, lay_out, pad_left, words

# Ids of the LLaMA-2 vocabulary, as the released tokenizer gives them.
PIECES = {
    "You are a helpful assistant. USER: What is the video about?\n": [
        887, 526, 263, 8444, 20255, 29889, 3148, 1001, 29901,
        1724, 338, 278, 4863, 1048, 29973, 13,
    ],
    "<vision>": [529, 4924, 29958],
    "</vision>": [1533, 4924, 29958],
    " ASSISTANT:": [29871, 319, 1799, 9047, 13566, 29901],
}  # fmt: skip
TEXT = "You are a helpful assistant. USER: What is the video about?\n<video> ASSISTANT:"


class LlamaVocabulary:
    """The five pieces of one prompt; anything else is an error."""

    bos_id = 1

    def encode(self, text):
        return PIECES[text]


class Characters:
    bos_id = 1

    def encode(self, text):
        return [ord(c) for c in text]


def three_frames(ends):
    return frame_block(np.arange(3 * 256).reshape(3, 256), num_codes=8192, ends=ends)


def test_trained_layout_has_one_bos_and_ends_frames_with_8192():
    laid = lay_out(Prompt(TEXT), [three_frames("trained")], LlamaVocabulary())
    question, start, end, assistant = PIECES.values()
    assert len(laid) == 23 + 6 + 257 * 3
    vision = laid.ids[laid.is_vision].reshape(3, 257)
    assert vision[:, -1].tolist() == [8192, 8192, 8193]
    assert vision[:, :-1].ravel().tolist() == list(range(768))
    assert laid.ids[~laid.is_vision].tolist() == [1, *question, *start, *end, *assistant]
    first, last = np.flatnonzero(laid.is_vision)[[0, -1]]
    assert laid.ids[first - 3 : first].tolist() == start
    assert laid.ids[last + 1 : last + 4].tolist() == end


def test_release_layout_has_five_bos_and_ends_every_frame_with_8193():
    laid = lay_out(Prompt(TEXT), [three_frames("release")], LlamaVocabulary(), layout="release")
    question, start, end, assistant = PIECES.values()
    assert len(laid) == 804 == 27 + 6 + 257 * 3
    assert laid.ids[laid.is_vision].reshape(3, 257)[:, -1].tolist() == [8193] * 3
    assert laid.ids[~laid.is_vision].tolist() == [
        1, 1, *question, 1, *start, 1, *end, 1, *assistant
    ]  # fmt: skip


def test_an_image_is_one_frame_and_ends_the_vision():
    laid = frame_block(np.zeros((1, 256), int), num_codes=8192, ends="trained")
    assert len(laid) == 257
    assert laid.ids[-1] == 8193


def test_text_alone_is_one_piece():
    assert lay_out(Prompt("abc"), [], Characters()).ids.tolist() == [1, 97, 98, 99]


def test_words_of_the_user_stay_words():
    prompt = Prompt(f"a{Prompt.GUARD}b<video>c", literals=("<video>",))
    block = frame_block(np.zeros((1, 4), int), num_codes=8, ends="trained")
    laid = lay_out(prompt, [block], Characters())
    text = "".join(map(chr, laid.ids[~laid.is_vision][1:]))
    assert text == "a<video>b<vision></vision>c"


@pytest.mark.parametrize("text", ["no place", "<video> and <image>"])
def test_media_without_a_place_are_named(text):
    with pytest.raises(UsageError, match=r"places for media and 1 were given"):
        lay_out(Prompt(text), [words([1])], Characters())


@pytest.mark.parametrize("multiple", [128, 256, 512])
def test_bucket_follows_the_real_length(multiple):
    lengths = range(1, 40000, 97)
    buckets = [bucket(n, multiple) for n in lengths]
    assert all(b >= n and b % multiple == 0 for b, n in zip(buckets, lengths, strict=True))
    assert all(
        b - n < max(multiple, n / 8 + multiple) for b, n in zip(buckets, lengths, strict=True)
    )
    assert bucket(280, 128) == 384
    assert len(set(buckets)) < 90


def test_padding_goes_left():
    ids, is_vision, first = pad_left([words([5, 6]), words([7, 8, 9])], 4)
    assert ids.tolist() == [[0, 0, 5, 6], [0, 7, 8, 9]]
    assert first.tolist() == [2, 1]
    assert not is_vision.any()
