"""Every family through the hf engine gives the tokens of transformers used by hand."""

from __future__ import annotations

import pytest

from kinema.families import FAMILIES
from kinema.messages import Conversation, ImagePart, Message, SamplingParams, TextPart, VideoPart
from kinema.prompt import decode, prepare
from support.by_hand import NEW_TOKENS, ByHand, clip
from support.driver import answer, generate, stream
from support.tiny_families import HF_FAMILIES

_KINDS = ("video", "image")
QUESTION = "what do you see in this video?"
PARAMS = SamplingParams(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS)


def _family(name):
    return FAMILIES["deepseek-vl" if name.startswith("deepseek-vl") else name]


WITH_VIDEO = [n for n in HF_FAMILIES if _family(n).takes_video]
IMAGES_ONLY = [n for n in HF_FAMILIES if not _family(n).takes_video]


@pytest.fixture(scope="module")
def by_hand(family_folder):
    loaded = {}

    def load(name):
        if name not in loaded:
            loaded[name] = ByHand(family_folder(name))
        return loaded[name]

    return load


def _request(model, conversation, name="0"):
    return prepare(
        decode(conversation, model.family),
        family=model.family,
        checkpoint=model.checkpoint,
        params=PARAMS,
        request_id=name,
    )


def _say(*parts):
    return Conversation((Message("user", parts),))


def _ours(family_engine, name, *parts):
    model, engine = family_engine(name)
    completion = answer(engine, _request(model, _say(*parts)))
    return list(completion.token_ids)


def _text(*pieces):
    """The prompt of the hub pages for families whose template takes text."""
    return "USER: " + "\n".join(pieces) + " ASSISTANT:"


def _messages(name, *content):
    system = _family(name).system
    first = [{"role": "system", "content": [{"type": "text", "text": system}]}] if system else []
    said = [
        {"type": c} if c in ("video", "image") else {"type": "text", "text": c} for c in content
    ]
    return [*first, {"role": "user", "content": said}]


def _theirs(by_hand, name, content, **media):
    hand = by_hand(name)
    if _family(name).content == "text":
        pieces = [f"<{c}>" if c in _KINDS else c for c in content]
        return hand.complete(_text(*pieces), **media)
    return hand.generate(_messages(name, *content), **media)


@pytest.mark.parametrize("name", WITH_VIDEO)
def test_a_video(family_engine, by_hand, shown, name):
    ours = _ours(family_engine, name, VideoPart(clip(1)), TextPart(QUESTION))
    assert ours == _theirs(by_hand, name, ["video", QUESTION], videos=[clip(1)])
    shown(name, "hf", "video")


@pytest.mark.parametrize("name", HF_FAMILIES)
def test_an_image(family_engine, by_hand, shown, name):
    ours = _ours(family_engine, name, ImagePart(clip(2, 1)), TextPart(QUESTION))
    assert ours == _theirs(by_hand, name, ["image", QUESTION], images=[clip(2, 1)])
    shown(name, "hf", "image")


@pytest.mark.parametrize("name", WITH_VIDEO)
def test_two_videos(family_engine, by_hand, name):
    ours = _ours(family_engine, name, VideoPart(clip(1)), VideoPart(clip(3)), TextPart(QUESTION))
    theirs = _theirs(by_hand, name, ["video", "video", QUESTION], videos=[clip(1), clip(3)])
    assert ours == theirs


@pytest.mark.parametrize("name", [n for n in WITH_VIDEO if n != "smolvlm"])
def test_an_image_beside_a_video(family_engine, by_hand, shown, name):
    parts = (ImagePart(clip(2, 1)), VideoPart(clip(1)), TextPart(QUESTION))
    ours = _ours(family_engine, name, *parts)
    media = {"images": [clip(2, 1)], "videos": [clip(1)]}
    assert ours == _theirs(by_hand, name, ["image", "video", QUESTION], **media)
    shown(name, "hf", "mixed")


def test_smolvlm_takes_a_video_beside_an_image_as_timed_images(family_engine, by_hand, shown):
    video = clip(1, 3)
    parts = (ImagePart(clip(2, 1)), VideoPart(video), TextPart(QUESTION))
    ours = _ours(family_engine, "smolvlm", *parts)
    timed = [piece for s in video.seconds for piece in (f"Frame at {s:.1f} s:", "image")]
    images = [clip(2, 1), *(video[i : i + 1] for i in range(3))]
    assert ours == _theirs(by_hand, "smolvlm", ["image", *timed, QUESTION], images=images)
    shown("smolvlm", "hf", "mixed", "as timed images")


@pytest.mark.parametrize("name", IMAGES_ONLY)
def test_an_image_beside_timed_images(family_engine, by_hand, shown, name):
    video = clip(1, 2)
    parts = (ImagePart(clip(2, 1)), VideoPart(video), TextPart(QUESTION))
    ours = _ours(family_engine, name, *parts)
    timed = [piece for s in video.seconds for piece in (f"Frame at {s:.1f} s:", "image")]
    images = [clip(2, 1), *(video[i : i + 1] for i in range(2))]
    assert ours == _theirs(by_hand, name, ["image", *timed, QUESTION], images=images)
    shown(name, "hf", "mixed", "as timed images")


@pytest.mark.parametrize("name", IMAGES_ONLY)
def test_a_video_as_timed_images(family_engine, by_hand, shown, name):
    video = clip(1, 3)
    ours = _ours(family_engine, name, VideoPart(video), TextPart(QUESTION))
    timed = [piece for s in video.seconds for piece in (f"Frame at {s:.1f} s:", "image")]
    images = [video[i : i + 1] for i in range(3)]
    assert ours == _theirs(by_hand, name, [*timed, QUESTION], images=images)
    shown(name, "hf", "video", "as timed images")


@pytest.mark.parametrize("name", HF_FAMILIES)
def test_a_batch_gives_the_tokens_of_its_requests_alone(family_engine, shown, name):
    model, engine = family_engine(name)
    requests = [
        _request(model, _say(VideoPart(clip(1)), TextPart(QUESTION)), "a"),
        _request(model, _say(VideoPart(clip(2, 4)), TextPart("why?")), "b"),
        _request(model, _say(ImagePart(clip(3, 1)), TextPart("Describe the clip. Why?")), "c"),
        _request(model, _say(TextPart("Why is this funny?")), "d"),
        _request(model, _say(VideoPart(clip(4)), TextPart("Is this funny?")), "e"),
    ]
    alone = {r.id: answer(engine, r).token_ids for r in requests}
    together = {c.request_id: c.token_ids for c in generate(engine, requests)}
    assert together == alone
    shown(name, "hf", "batched")


@pytest.mark.parametrize("name", HF_FAMILIES)
def test_a_stream_gives_the_tokens_of_the_answer(family_engine, shown, name):
    model, engine = family_engine(name)
    request = _request(model, _say(VideoPart(clip(1)), TextPart(QUESTION)))
    whole = answer(engine, request)
    *_, last = stream(engine, request)
    assert last.token_ids == whole.token_ids
    shown(name, "hf", "streamed")


@pytest.mark.parametrize("name", [n for n in HF_FAMILIES if n != "generic"])
def test_visual_tokens_are_known_before_the_processor_runs(family_engine, name):
    model, engine = family_engine(name)
    for num_frames, height, width in ((8, 48, 64), (4, 96, 60), (7, 30, 200)):
        frames = clip(5, num_frames)
        frames = type(frames)(
            pixels=frames.pixels.repeat(4, 1).repeat(4, 2)[:, :height, :width],
            seconds=frames.seconds,
            indices=frames.indices,
            source_fps=10.0,
        )
        request = _request(model, _say(VideoPart(frames), TextPart("why?")))
        completion = answer(engine, request)
        shown = max(num_frames, model.family.exact_frames or model.family.min_frames)
        if name == "smolvlm":
            shown = num_frames
        known = model.family.visual_tokens(model.checkpoint, shown, height, width)
        assert known == completion.usage.visual_tokens
