"""The real weights on real and synthetic videos."""

import pytest
import torch
from transformers import TextIteratorStreamer

from kinema.models.tiny import TinyForConditionalGeneration, TinyProcessor
from kinema.models.tiny.labels import VOCABULARY, find_mentions
from kinema.models.tiny.sightings import MAYBE
from kinema.models.tiny.vision import classify, to_views

WHAT = "What happens in this video?"


@pytest.fixture(scope="module")
def described(tiny, tiny_clips) -> dict[str, str]:
    return {name: tiny.ask(WHAT, frames) for name, frames in tiny_clips.items()}


def test_the_auto_classes_know_the_checkpoint(tiny):
    assert isinstance(tiny.model, TinyForConditionalGeneration)
    assert isinstance(tiny.processor, TinyProcessor)


def test_the_shipped_clip_is_named_in_order(described):
    names = [m.name for m in find_mentions(described["four things"])[0]]
    assert names == ["umbrella", "daisy", "traffic light", "jack-o'-lantern"]


def test_different_videos_get_different_answers(described):
    assert "bow tie" in described["carphone"]
    assert "mountain bike" in described["bikes"]
    assert len(set(described.values())) >= 4


def test_nothing_is_named_where_nothing_is_shown(described):
    for name in ("noise", "black", "white"):
        assert find_mentions(described[name])[0] == []


def test_every_named_thing_is_supported_by_a_frame(tiny, tiny_clips, described):
    for name, frames in tiny_clips.items():
        with torch.inference_mode():
            likely = classify(tiny.model.vision, to_views(frames.pixels))
        for mention in find_mentions(described[name])[0]:
            classes = list(VOCABULARY[mention.name.lower()].classes)
            assert float(likely[:, classes].sum(1).max()) >= MAYBE, (name, mention.name)


def test_even_wild_sampling_can_only_say_what_is_true(tiny, tiny_clips, described):
    frames = tiny_clips["carphone"]
    allowed = set(find_mentions(described["carphone"])[0])
    for seed in range(3):
        torch.manual_seed(seed)
        said = tiny.ask(WHAT, frames, do_sample=True, temperature=9.0)
        assert set(find_mentions(said)[0]) == allowed
        assert said.endswith(".")


def test_a_batch_answers_as_each_alone(tiny, tiny_clips):
    asked = [
        (["Is there a bow tie?"], [tiny_clips["carphone"]]),
        (["What do you see first in it, please?"], [tiny_clips["four things"]]),
        (["Hello"], []),
    ]
    assert tiny.answers(*asked) == [tiny.answers(one)[0] for one in asked]


def test_a_batch_without_a_shared_beginning_answers_as_each_alone(tiny, tiny_clips):
    asked = [(["What happens?"], [tiny_clips[name]]) for name in ("bikes", "noise", "carphone")]
    inputs = tiny.inputs(*asked)
    one = tiny.inputs(asked[0])
    inputs["input_ids"][0, -one["input_ids"].shape[1]] = 2  # another first token
    one["input_ids"][0, 0] = 2
    options = {"max_new_tokens": 60, "do_sample": False}
    together = tiny.model.generate(**inputs, **options)[0, inputs["input_ids"].shape[1] :]
    alone = tiny.model.generate(**one, **options)[0, one["input_ids"].shape[1] :]
    assert together[: len(alone)].tolist() == alone.tolist()


def test_a_batch_stops_where_its_answers_may_not_go_on(tiny, tiny_clips):
    asked = [([WHAT], [tiny_clips[name]]) for name in ("bikes", "carphone")]
    whole = [tiny.answers(one, max_new_tokens=5)[0] for one in asked]
    assert tiny.answers(*asked, max_new_tokens=5) == whole


def test_several_videos_in_one_prompt_are_told_apart(tiny, tiny_clips):
    said = tiny.ask("Is there a bow tie?", tiny_clips["four things"], tiny_clips["carphone"])
    assert said.startswith("Video 1: No")
    assert "Video 2: Yes" in said


def test_skipping_forced_tokens_changes_nothing(tiny, tiny_clips):
    inputs = tiny.inputs(([WHAT], [tiny_clips["carphone"]]))
    ahead = tiny.model.generate(**inputs, max_new_tokens=60, do_sample=False)
    plain = tiny.model.generate(
        **inputs, max_new_tokens=60, do_sample=False, return_dict_in_generate=True,
        output_logits=True,
    )  # fmt: skip
    assert ahead.tolist() == plain.sequences.tolist()


def test_a_follow_up_on_the_kept_cache_needs_no_pixels(tiny, tiny_clips):
    first, second = "Is there a tie?", "When do you see it?"
    frames = tiny_clips["carphone"]
    output = tiny.model.generate(
        **tiny.inputs(([first], [frames])), max_new_tokens=60, return_dict_in_generate=True
    )
    turns = [first, "Yes, I see a tie.", second]
    follow = tiny.inputs((turns, [frames]))
    shared = common(output.sequences[0], follow["input_ids"][0])
    num_read = output.past_key_values.get_seq_length()
    output.past_key_values.crop(min(shared, num_read) - num_read)
    again = tiny.model.generate(
        input_ids=follow["input_ids"],
        attention_mask=follow["attention_mask"],
        past_key_values=output.past_key_values,
        max_new_tokens=60,
    )
    said = again[0, follow["input_ids"].shape[1] :]
    assert (
        tiny.processor.decode(said, skip_special_tokens=True) == tiny.answers((turns, [frames]))[0]
    )


def common(a: torch.Tensor, b: torch.Tensor) -> int:
    size = min(len(a), len(b))
    return int((a[:size] == b[:size]).long().cumprod(0).sum())


def test_streamed_pieces_are_the_answer(tiny, tiny_clips):
    streamer = TextIteratorStreamer(
        tiny.processor.tokenizer, skip_prompt=True, skip_special_tokens=True
    )
    said = tiny.ask("Is there a tie?", tiny_clips["carphone"], streamer=streamer)
    assert "".join(streamer) == said


def test_logits_depend_on_the_pixels(tiny, tiny_clips):
    logits = []
    for name in ("noise", "black"):
        inputs = tiny.inputs(([WHAT], [tiny_clips[name]]))
        with torch.inference_mode():
            logits.append(tiny.model(**inputs, logits_to_keep=1).logits)
    assert not torch.allclose(*logits, atol=1e-3)
