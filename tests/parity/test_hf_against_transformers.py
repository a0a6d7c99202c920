"""The hf engine gives exactly the tokens of calling transformers directly."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from kinema.engines import EngineSettings
from kinema.messages import (
    Completion,
    Conversation,
    ImagePart,
    Message,
    SamplingParams,
    TextPart,
    VideoPart,
)
from kinema.prompt import decode, prepare
from kinema.tasks.models import find_model
from support.driver import ListInbox, answer, stream

NEW_TOKENS = 12
QUESTION = "what do you see in this video?"


@pytest.fixture(scope="module")
def engines():
    opened = {}

    def open_once(folder):
        if folder not in opened:
            model = find_model(str(folder))
            opened[folder] = (model, model.open(EngineSettings(device="cpu", keep_conversations=0)))
        return opened[folder]

    return open_once


def _request(model, parts, **params):
    said = Conversation((Message("user", tuple(parts)),))
    return prepare(
        decode(said, model.family),
        family=model.family,
        checkpoint=model.checkpoint,
        params=SamplingParams(max_new_tokens=NEW_TOKENS, min_new_tokens=NEW_TOKENS, **params),
    )


def _answer(engines, folder, *parts, **params) -> Completion:
    model, engine = engines(folder)
    completion = answer(engine, _request(model, parts, **params))
    return completion


def _shown(frames):
    """Five frames as Video-LLaVA sees them: eight, the last one again."""
    return np.concatenate([frames.pixels, *[frames.pixels[-1:]] * 3])


def _by_hand(folder, text, **media) -> tuple[list[int], torch.Tensor]:
    processor = AutoProcessor.from_pretrained(folder)
    model = AutoModelForImageTextToText.from_pretrained(folder)
    inputs = processor(text=[text], return_tensors="pt", **media)
    output = model.generate(
        **inputs,
        do_sample=False,
        max_new_tokens=NEW_TOKENS,
        min_new_tokens=NEW_TOKENS,
        return_dict_in_generate=True,
        output_logits=True,
    )
    new = output.sequences[0, inputs["input_ids"].shape[1] :].tolist()
    return new, torch.stack(output.logits, 1)[0]


def test_video_tokens_equal_transformers(engines, video_llava_folder, frames):
    ours = _answer(engines, video_llava_folder, VideoPart(frames), TextPart(QUESTION))
    text = f"USER: <video>\n{QUESTION} ASSISTANT:"
    theirs, _ = _by_hand(video_llava_folder, text, videos=[_shown(frames)])
    assert list(ours.token_ids) == theirs


def test_frames_as_timed_images_equal_transformers(engines, llava_folder, frames):
    ours = _answer(engines, llava_folder, VideoPart(frames[:3]), TextPart(QUESTION))
    lines = "\n".join(f"Frame at {s:.1f} s:\n<image>" for s in frames.seconds[:3])
    text = f"USER: {lines}\n{QUESTION} ASSISTANT:"
    theirs, _ = _by_hand(llava_folder, text, images=[list(frames.pixels[:3])])
    assert list(ours.token_ids) == theirs


def test_image_and_video_in_one_prompt_equal_transformers(engines, video_llava_folder, frames):
    parts = (ImagePart(frames[:1]), VideoPart(frames), TextPart(QUESTION))
    ours = _answer(engines, video_llava_folder, *parts)
    text = f"USER: <image>\n<video>\n{QUESTION} ASSISTANT:"
    media = {"images": [[frames.pixels[0]]], "videos": [_shown(frames)]}
    theirs, _ = _by_hand(video_llava_folder, text, **media)
    assert list(ours.token_ids) == theirs


def test_logprobs_equal_transformers(engines, video_llava_folder, frames):
    ours = _answer(engines, video_llava_folder, VideoPart(frames), TextPart(QUESTION), logprobs=2)
    text = f"USER: <video>\n{QUESTION} ASSISTANT:"
    theirs, logits = _by_hand(video_llava_folder, text, videos=[_shown(frames)])
    expected = logits.log_softmax(-1)[range(NEW_TOKENS), theirs]
    assert ours.logprobs is not None
    assert [t.logprob for t in ours.logprobs] == pytest.approx(expected.tolist(), abs=1e-5)
    assert all(len(t.alternatives) == 2 for t in ours.logprobs)


def test_counted_tokens_are_the_tokens_that_run(engines, video_llava_folder, frames):
    model, engine = engines(video_llava_folder)
    request = _request(model, [VideoPart(frames), TextPart(QUESTION)])
    counted = engine.count_tokens(request)
    completion = answer(engine, request)
    assert completion.usage.prompt_tokens == counted
    assert completion.usage.visual_tokens == 8 * 5


@pytest.mark.parametrize("bait", ["<video>", "<image>", "</s>", "<s>", "<pad>", "\uf8ff"])
def test_control_strings_of_the_user_stay_text(engines, video_llava_folder, frames, bait):
    model, engine = engines(video_llava_folder)
    question = f"why {bait} is {bait} this"
    request = _request(model, [VideoPart(frames), TextPart(question)])
    inputs = engine._prepare(request).tensors
    ids = inputs["input_ids"][0]
    tokenizer = engine.processor.tokenizer
    plain = tokenizer.decode(ids, skip_special_tokens=False).replace("<video>", "", 5 * 8)
    assert question in plain
    video = tokenizer.convert_tokens_to_ids("<video>")
    assert int((ids == video).sum()) == 5 * 8
    assert inputs["attention_mask"].shape == inputs["input_ids"].shape
    completion = answer(engine, request)
    assert len(completion.token_ids) == NEW_TOKENS


def test_streamed_text_is_the_generated_text(engines, video_llava_folder, frames):
    model, engine = engines(video_llava_folder)
    request = _request(model, [VideoPart(frames), TextPart(QUESTION)])
    whole = answer(engine, request)
    *pieces, last = stream(engine, request)
    assert len(pieces) > 1
    assert "".join(pieces) == whole.text
    assert last.token_ids == whole.token_ids


class Leaving(ListInbox):
    """Its caller reads one piece of the answer and leaves."""

    def write(self, request_id, text):
        super().write(request_id, text)
        self.cancelled.add(request_id)


def test_a_caller_that_leaves_stops_the_model(engines, video_llava_folder, frames):
    model, engine = engines(video_llava_folder)
    said = Conversation((Message("user", (VideoPart(frames), TextPart(QUESTION))),))
    request = prepare(
        decode(said, model.family),
        family=model.family,
        checkpoint=model.checkpoint,
        params=SamplingParams(max_new_tokens=400, min_new_tokens=400),
    )
    steps = []
    hook = engine.model.register_forward_pre_hook(lambda *_: steps.append(0))
    inbox = Leaving(engine, [request], streamed=True)
    engine.serve(inbox)
    hook.remove()
    assert len(inbox.pieces) == 1
    assert inbox.completions == []
    assert len(steps) < 50
    after = answer(engine, _request(model, [VideoPart(frames), TextPart(QUESTION)]))
    assert len(after.token_ids) == NEW_TOKENS


def test_seed_repeats_a_random_answer(engines, video_llava_folder, frames):
    def ask(seed):
        parts = (VideoPart(frames), TextPart(QUESTION))
        return _answer(engines, video_llava_folder, *parts, temperature=2.0, seed=seed).token_ids

    state = torch.random.get_rng_state()
    assert ask(1) == ask(1)
    assert ask(1) != ask(2)
    assert torch.equal(torch.random.get_rng_state(), state)


def test_stop_string_ends_the_answer_before_it(engines, video_llava_folder, frames):
    parts = (VideoPart(frames), TextPart(QUESTION))
    whole = _answer(engines, video_llava_folder, *parts)
    stop = whole.text[4:7]
    model, engine = engines(video_llava_folder)
    said = Conversation((Message("user", parts),))
    request = prepare(
        said,
        family=model.family,
        checkpoint=model.checkpoint,
        params=SamplingParams(max_new_tokens=NEW_TOKENS, stop=(stop,)),
    )
    cut = answer(engine, request)
    assert cut.text == whole.text[: whole.text.index(stop)].strip()
    assert cut.finish_reason == "stop"
    *pieces, last = stream(engine, request)
    assert "".join(pieces) == last.text == cut.text
