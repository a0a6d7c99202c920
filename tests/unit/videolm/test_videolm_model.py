"""The model as a whole: every choice runs, rows do not leak, decoding equals recomputing."""

import pytest
import torch

from kinema.errors import UnknownName, UsageError

CLS = {"pooling": "cls", "select_feature": "cls"}
CHOICES = {
    "frames": {},
    "cls_patch": {"select_feature": "cls_patch"},
    "siglip": {"tower": "siglip", "select_layer": -1},
    "efficientnet": {"tower": "efficientnet", "projector": "linear"},
    "efficientnet grid": {"tower": "efficientnet", "pooling": "grid", "pool_grid": 1},
    "spatio_temporal": {
        "pooling": "spatio_temporal",
        "num_temporal_tokens": 6,
        "projector": "linear",
    },
    "cls": CLS | {"select_layer": [0, 1, 2], "post_layernorm": True, "time": "learned"},
    "grid": {"pooling": "grid", "projector": "mlp3x_gelu"},
    "mlp_downsample": {"projector": "mlp_downsample"},
    "resampler": {"projector": "resampler", "num_queries": 3},
    "learned": {"time": "learned", "max_frames": 8},
    "inside": {"media_wrap": "inside"},
    "none": {"media_wrap": "none"},
    "layer_bias": CLS | {"fusion": "layer_bias", "max_frames": 4, "select_layer": [0, 1, 2]},
    "cross_attention": {"fusion": "cross_attention", "cross_attention_every": 2},
}


@pytest.fixture(params=CHOICES, ids=list(CHOICES))
def parts(request, build_model, build_processor):
    model = build_model(**CHOICES[request.param])
    if model.fusion is not None and hasattr(model.fusion, "blocks"):
        for block in model.fusion.blocks:
            torch.nn.init.ones_(block.gate)
    return model, build_processor(model.config)


def test_every_choice_answers_and_depends_on_the_pixels(parts, clip_of):
    model, processor = parts
    prompt = "What? <video> Answer:"
    one = processor(text=prompt, videos=[clip_of(4)], return_tensors="pt")
    other = processor(text=prompt, videos=[255 - clip_of(4)], return_tensors="pt")
    with torch.no_grad():
        assert not torch.allclose(model(**one).logits, model(**other).logits, atol=1e-6)


def test_features_give_the_logits_of_their_frames(parts, clip_of):
    model, processor = parts
    seen = processor(text="<video> and?", videos=[clip_of(4)], return_tensors="pt")
    with torch.no_grad():
        features = model.encode(seen["pixel_values"], seen["num_frames"])
        again = processor(text="<video> and?", features=[features], return_tensors="pt")
        assert "pixel_values" not in again
        assert again["num_frames"].tolist() == [4]
        torch.testing.assert_close(model(**again).logits, model(**seen).logits, atol=1e-6, rtol=0)


def test_cached_decoding_equals_recomputing(parts, clip_of):
    model, processor = parts
    inputs = processor(text="See <video> now", videos=[clip_of(4)], return_tensors="pt")
    asked = {"max_new_tokens": 6, "min_new_tokens": 6, "do_sample": False, "pad_token_id": 0}
    cached = model.generate(**inputs, **asked)
    slow = model.generate(**inputs, **asked, use_cache=False)
    assert torch.equal(cached, slow)


@pytest.mark.parametrize("side", ["left", "right"])
def test_rows_of_a_batch_are_what_they_are_alone(parts, clip_of, side):
    model, processor = parts
    processor.tokenizer.padding_side = side
    prompts = ["A <video> b", "no media at all here", "<video> and a longer question <video>?"]
    clips = [[clip_of(4)], [], [clip_of(4, height=42), clip_of(4, width=45)]]
    batch = processor(
        text=prompts, videos=[c for row in clips for c in row], padding=True, return_tensors="pt"
    )
    with torch.no_grad():
        together = model(**batch).logits
        for row, (prompt, media) in enumerate(zip(prompts, clips, strict=True)):
            alone = processor(text=prompt, videos=media, return_tensors="pt")
            kept = together[row][batch["attention_mask"][row].bool()]
            torch.testing.assert_close(kept, model(**alone).logits[0], atol=2e-5, rtol=0)


def test_beams_and_several_answers_see_their_own_media(parts, clip_of):
    model, processor = parts
    processor.tokenizer.padding_side = "left"
    batch = processor(
        text=["<video> a", "<video> longer one"],
        videos=[clip_of(4), 255 - clip_of(4)],
        padding=True,
        return_tensors="pt",
    )
    asked = {"max_new_tokens": 4, "min_new_tokens": 4, "do_sample": False, "pad_token_id": 0}
    beams = model.generate(**batch, **asked, num_beams=2)
    alone = processor(text="<video> a", videos=[clip_of(4)], return_tensors="pt")
    assert torch.equal(beams[0, -4:], model.generate(**alone, **asked, num_beams=2)[0, -4:])


def test_images_and_videos_mix_in_prompt_order(build_model, build_processor, clip_of):
    model = build_model()
    processor = build_processor(model.config)
    picture, clip = clip_of(1)[0], clip_of(3)
    mixed = processor(
        text="<video> then <image>", images=[picture], videos=[clip], return_tensors="pt"
    )
    assert mixed["num_frames"].tolist() == [3, 1]
    swapped = processor(
        text="<image> then <video>", images=[picture], videos=[clip], return_tensors="pt"
    )
    assert swapped["num_frames"].tolist() == [1, 3]
    assert torch.equal(mixed["pixel_values"][3], swapped["pixel_values"][0])


def test_a_cut_prompt_is_an_error_with_numbers(build_model, build_processor, clip_of):
    model = build_model()
    inputs = build_processor(model.config)(text="<video>", videos=[clip_of(4)], return_tensors="pt")
    inputs["input_ids"] = inputs["input_ids"][:, :20]
    inputs.pop("attention_mask")
    with pytest.raises(UsageError, match=r"hold \[19\] visual tokens.*give \[36\]"):
        model(**inputs)


def test_cross_attention_starts_as_a_no_op(build_model, build_processor, clip_of):
    model = build_model(fusion="cross_attention")
    inputs = build_processor(model.config)(
        text="<video>!", videos=[clip_of(2)], return_tensors="pt"
    )
    plain = build_model()
    plain.load_state_dict(
        {k: v for k, v in model.state_dict().items() if not k.startswith("fusion.")}
    )
    with torch.no_grad():
        assert torch.equal(model(**inputs).logits, plain(**inputs).logits)


@pytest.mark.parametrize(
    ("settings", "error", "words"),
    [
        ({"pooling": "max"}, UnknownName, "pooling 'max'"),
        ({"projector": "mlpx_gelu"}, UnknownName, "projector 'mlpx_gelu'"),
        ({"pooling": "cls"}, UsageError, "select_feature is patch"),
        ({"tower": "siglip", "select_feature": "cls"}, UsageError, "has none"),
        ({"fusion": "layer_bias"}, UsageError, "one class token a frame"),
        ({"pooling": "spatio_temporal", "time": "timestamps"}, UsageError, "mixes frames"),
        ({"pooling": "spatio_temporal", "projector": "resampler"}, UsageError, "mixes frames"),
        ({"time": "timestamps", "projector": "resampler"}, UsageError, "no time can stand"),
        ({"projector": "mlp_downsample", "select_feature": "cls_patch"}, UsageError, "no grid"),
        ({"fusion": "cross_attention", "cross_attention_heads": 5}, UsageError, "hidden size"),
        ({"tower": "efficientnet", "vision_grid": []}, UsageError, "do not follow"),
    ],
)
def test_choices_that_do_not_go_together_are_refused(build_model, settings, error, words):
    with pytest.raises(error, match=words):
        build_model(**settings)


def test_training_scores_what_is_learned_alone_and_loses_the_same(
    build_model, build_processor, clip_of
):
    model = build_model()
    processor = build_processor(model.config)
    batch = processor(text=["<video> a b c d", "<video> e f g h"], videos=[clip_of(2)] * 2,
                      return_tensors="pt")  # fmt: skip
    labels = torch.full_like(batch["input_ids"], -100)
    labels[0, -2:] = batch["input_ids"][0, -2:]
    labels[1, -4:-2] = batch["input_ids"][1, -4:-2]
    whole = model.eval()(**batch, labels=labels)
    learned = model.train()(**batch, labels=labels)
    torch.testing.assert_close(learned.loss, whole.loss)
    assert learned.logits.shape[1] == 4
    nothing = torch.full_like(labels, -100)
    assert model(**batch, labels=nothing).logits.shape[1] == labels.shape[1]


def test_a_frozen_tower_sees_in_training_what_it_sees_else(build_model, build_processor, clip_of):
    model = build_model(tower="efficientnet")
    model.vision_tower.requires_grad_(False)
    pixels = build_processor(model.config)(text="<video>", videos=[clip_of(3)])["pixel_values"]
    before = {name: tensor.clone() for name, tensor in model.vision_tower.state_dict().items()}
    seen = model.encode(pixels)
    torch.testing.assert_close(model.train().encode(pixels), seen)
    torch.testing.assert_close(model.vision_tower.state_dict(), before)
