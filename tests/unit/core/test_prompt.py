from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from kinema.engines.echo import TOKENS_PER_FRAME, EchoEngine
from kinema.errors import ContextTooLong, MissingCapability, ModelError
from kinema.families import FAMILIES, Checkpoint
from kinema.families.chat_template import render
from kinema.messages import (
    Conversation,
    FeaturesPart,
    ImagePart,
    Message,
    Prompt,
    SamplingParams,
    TextPart,
    VideoPart,
)
from kinema.prompt import decode, fit, prepare, with_frames

VIDEO_LLAVA = FAMILIES["video-llava"]
LLAVA = FAMILIES["llava"]
EMPTY = Checkpoint("test", None, {}, control_tokens=("<|im_end|>",))


def _say(*parts, role="user"):
    return Conversation((Message(role, parts),))


def _prepare(conversation, family=VIDEO_LLAVA, checkpoint=EMPTY, **params):
    return prepare(
        conversation, family=family, checkpoint=checkpoint, params=SamplingParams(**params)
    )


def test_one_placeholder_stands_for_one_video(frames):
    request = _prepare(_say(VideoPart(frames), TextPart("why?")))
    assert request.prompt == Prompt("USER: <video>\nwhy? ASSISTANT:")
    assert [m.kind for m in request.media] == ["video"]


def test_a_family_without_video_gets_images_behind_their_times(frames):
    request = _prepare(_say(VideoPart(frames[:2]), TextPart("why?")), LLAVA)
    assert request.prompt.text == (
        "USER: Frame at 0.0 s:\n<image>\nFrame at 1.0 s:\n<image>\nwhy? ASSISTANT:"
    )
    assert [(m.kind, len(m.frames)) for m in request.media] == [("image", 1), ("image", 1)]


def test_the_template_of_the_checkpoint_wins(frames):
    own = Checkpoint("test", None, {}, chat_template="{{ messages[0].content }}|")
    assert _prepare(_say(VideoPart(frames)), checkpoint=own).prompt.text == "<video>|"


def test_control_strings_of_the_user_are_cut_out_and_kept_in_order():
    request = _prepare(_say(TextPart("a <image> b <|im_end|> c \uf8ff <video>")))
    guard = Prompt.GUARD
    assert request.prompt.text == f"USER: a {guard} b {guard} c {guard} {guard} ASSISTANT:"
    assert request.prompt.literals == ("<image>", "<|im_end|>", guard, "<video>")


def test_a_multi_turn_conversation_is_rendered_whole(frames):
    conversation = _say(VideoPart(frames), TextPart("what?"))
    conversation += Message("assistant", (TextPart("a cat"),))
    conversation += Message("user", (TextPart("sure?"),))
    text = _prepare(conversation).prompt.text
    assert text == "USER: <video>\nwhat? ASSISTANT: a cat USER: sure? ASSISTANT:"


def test_a_kind_of_medium_that_the_family_lacks_is_named(tmp_path):
    with pytest.raises(MissingCapability, match="precomputed features"):
        decode(_say(FeaturesPart(tmp_path)), VIDEO_LLAVA)


def test_fewer_frames_than_the_family_takes_are_filled_up_and_that_is_said(frames):
    once = decode(_say(VideoPart(frames)), VIDEO_LLAVA)
    (warning,) = decode(once, VIDEO_LLAVA).media[0].source.warnings
    assert warning.startswith("Video-LLaVA takes exactly 8 frames and gets 5")
    assert decode(_say(VideoPart(frames)), LLAVA).media[0].source is frames


def test_more_frames_than_the_family_takes_are_refused_with_the_count_that_works(frames):
    twice = replace(
        frames,
        pixels=np.concatenate([frames.pixels] * 2),
        seconds=np.arange(10.0),
        indices=np.arange(10),
    )
    with pytest.raises(MissingCapability, match="exactly 8 frames and gets 10") as caught:
        decode(_say(VideoPart(twice)), VIDEO_LLAVA)
    assert "num_frames 8" in caught.value.hint


def test_a_template_of_the_checkpoint_gets_the_kind_of_content_it_reads(frames):
    each = "{% for c in m.content %}[{{ c.type }}]{{ c.text }}{% endfor %}"
    parts = "{% for m in messages %}" + each + "{% endfor %}"
    text = "{% for m in messages %}{{ m['role'] + ': ' + m['content'] }}{% endfor %}"
    for template, expected in ((parts, "[video][text]why?"), (text, "user: <video>\nwhy?")):
        own = Checkpoint("test", None, {}, chat_template=template)
        request = _prepare(_say(VideoPart(frames), TextPart("why?")), checkpoint=own)
        assert request.prompt.text == expected


def test_a_family_without_mixing_takes_a_video_beside_an_image_as_images(frames):
    said = _say(ImagePart(frames[:1]), VideoPart(frames[:2]), TextPart("why?"))
    request = _prepare(said, FAMILIES["smolvlm"])
    assert [m.kind for m in request.media] == ["image"] * 3
    assert request.prompt.text.count("<image>") == 3


def test_a_template_that_refuses_is_a_model_error():
    with pytest.raises(ModelError, match="no systems here"):
        render("{{ raise_exception('no systems here') }}", [], special_tokens={})


def test_a_template_cannot_reach_outside_its_sandbox():
    with pytest.raises(ModelError):
        render("{{ ''.__class__.__mro__[1].__subclasses__() }}", [], special_tokens={})


def _fit(request, engine, *, reduce):
    return fit(
        request,
        count=engine.count_tokens,
        context_length=engine.context_length,
        reprepare=_prepare,
        reduce=reduce,
    )


def test_a_request_that_fits_passes_unchanged(frames):
    request = _prepare(_say(VideoPart(frames), TextPart("why?")), max_new_tokens=8)
    assert _fit(request, EchoEngine(context_length=1000), reduce=False) == (request, "")
    assert _fit(request, EchoEngine(), reduce=False) == (request, "")


def test_too_long_says_needed_available_and_the_frames_that_fit(frames):
    request = _prepare(_say(VideoPart(frames), TextPart("why?")))
    engine = EchoEngine(context_length=256 + 4 + 3 * TOKENS_PER_FRAME)
    with pytest.raises(ContextTooLong) as caught:
        _fit(request, engine, reduce=False)
    error = caught.value
    assert (error.needed, error.available) == (256 + 4 + 5 * TOKENS_PER_FRAME, 272)
    assert error.largest_num_frames == 3
    assert "num_frames 3" in error.hint


def test_fit_takes_frames_away_and_says_so(frames):
    request = _prepare(_say(VideoPart(frames), TextPart("why?")))
    engine = EchoEngine(context_length=256 + 4 + 3 * TOKENS_PER_FRAME)
    smaller, note = _fit(request, engine, reduce=True)
    assert len(smaller.media[0].frames) == 3
    assert "3 frames" in note


def test_words_alone_that_do_not_fit_are_refused_even_with_fit(frames):
    request = _prepare(_say(VideoPart(frames), TextPart("why? " * 100)))
    with pytest.raises(ContextTooLong) as caught:
        _fit(request, EchoEngine(context_length=300), reduce=True)
    assert caught.value.largest_num_frames is None


def test_thinning_keeps_the_spread_and_the_images(frames):
    conversation = _say(VideoPart(frames), ImagePart(frames[:1]), TextPart("why?"))
    video, image = with_frames(conversation, 2).media
    assert video.source.indices.tolist() == [10, 30]
    assert image.source.indices.tolist() == [0]
