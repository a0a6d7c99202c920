"""The class keeps the promises of a Hugging Face model: saving, loading, training, placement."""

import pytest
import torch
from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor, AutoVideoProcessor

CLS = {"pooling": "cls", "select_feature": "cls", "max_frames": 4, "select_layer": [0, 1, 2]}
FUSIONS = [{}, {"fusion": "cross_attention"}, CLS | {"fusion": "layer_bias", "time": "learned"}]


@pytest.fixture(params=FUSIONS, ids=["splice", "cross_attention", "layer_bias"])
def model(request, build_model):
    return build_model(**request.param)


@pytest.fixture
def inputs(model, build_processor, clip_of):
    processor = build_processor(model.config)
    return processor(text="Why <video>? Because.", videos=[clip_of(4)], return_tensors="pt")


def test_a_saved_folder_loads_through_the_auto_classes(
    model, inputs, build_processor, clip_of, tmp_path
):
    model.save_pretrained(tmp_path)
    build_processor(model.config, fit="pad").save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    processor = AutoProcessor.from_pretrained(tmp_path)
    assert type(loaded) is type(model)
    assert AutoConfig.from_pretrained(tmp_path).layout == model.config.layout
    assert AutoVideoProcessor.from_pretrained(tmp_path).fit == "pad"
    assert processor.token_layout == model.config.layout
    again = processor(text="Why <video>? Because.", videos=[clip_of(4)], return_tensors="pt")
    assert torch.equal(again["input_ids"], inputs["input_ids"])
    with torch.no_grad():
        assert torch.equal(loaded(**inputs).logits, model(**inputs).logits)


def test_gradient_checkpointing_changes_no_gradient(model, inputs):
    model.train()
    gradients = []
    for checkpointing in (False, True):
        if checkpointing:
            model.activation_checkpointing_enable()
        model.zero_grad()
        model(**inputs, labels=inputs["input_ids"], use_cache=False).loss.backward()
        gradients.append(
            {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}
        )
    assert gradients[0].keys() == gradients[1].keys()
    for name, gradient in gradients[0].items():
        torch.testing.assert_close(gradients[1][name], gradient, msg=name)


def test_text_only_batches_give_the_connector_a_gradient(model, build_processor):
    model.train()
    text = build_processor(model.config)(text="no media", return_tensors="pt")
    model(**text, labels=text["input_ids"]).loss.backward()
    connector = [*model.projector.parameters()]
    connector += [*model.fusion.parameters()] if model.fusion is not None else []
    assert all(p.grad is not None and not p.grad.any() for p in connector)


def test_eager_and_sdpa_attention_agree(model, inputs):
    outputs = []
    for kind in ("eager", "sdpa"):
        model.set_attn_implementation(kind)
        with torch.no_grad():
            outputs.append(model(**inputs).logits)
    torch.testing.assert_close(outputs[0], outputs[1], atol=2e-5, rtol=0)


def test_the_loss_ignores_masked_labels(model, inputs):
    labels = inputs["input_ids"].clone()
    labels[:, :-1] = -100
    with torch.no_grad():
        output = model(**inputs, labels=labels)
        expected = torch.nn.functional.cross_entropy(output.logits[:, -2], labels[:, -1])
    torch.testing.assert_close(output.loss, expected)


def test_a_device_map_splits_the_model_and_keeps_the_logits(model, inputs, tmp_path):
    model.save_pretrained(tmp_path / "model")
    parts = {name: "cpu" for name, _ in model.named_children()} | {"language_model": "disk"}
    spread = AutoModelForImageTextToText.from_pretrained(
        tmp_path / "model", device_map=parts, offload_folder=tmp_path / "offload"
    )
    with torch.no_grad():
        torch.testing.assert_close(spread(**inputs).logits, model(**inputs).logits)


def test_layers_that_must_stay_whole_are_named(model):
    assert {"LlamaDecoderLayer", "CLIPEncoderLayer"} <= set(model._no_split_modules)


def test_new_tokens_resize_the_embeddings(model, inputs):
    model.resize_token_embeddings(310)
    with torch.no_grad():
        assert model(**inputs).logits.shape[-1] == 310
    assert model.config.text_config.vocab_size == 310


def test_tied_embeddings_stay_tied_after_loading(build_config, tmp_path):
    from kinema.models.videolm import VideoLMForConditionalGeneration

    config = build_config()
    config.text_config.tie_word_embeddings = True
    config = type(config)(**config.to_dict())
    VideoLMForConditionalGeneration(config).save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    assert loaded.get_input_embeddings().weight is loaded.get_output_embeddings().weight


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing`:FutureWarning")
def test_adapters_train_with_the_connector_and_merge(model, inputs):
    peft = pytest.importorskip("peft")
    whole = ["projector", *(["fusion"] if model.fusion is not None else [])]
    settings = peft.LoraConfig(target_modules=r"language_model\..*q_proj", modules_to_save=whole)
    adapted = peft.get_peft_model(model, settings).train()
    adapted(**inputs, labels=inputs["input_ids"]).loss.backward()
    trained = {name: p for name, p in adapted.named_parameters() if p.requires_grad}
    assert any(".fusion." in name for name in trained) == (model.fusion is not None)
    assert all(p.grad is not None for p in trained.values())
    with torch.no_grad():
        for parameter in trained.values():
            parameter.add_(0.01)
        expected = adapted.eval()(**inputs).logits
        merged = adapted.merge_and_unload()
        torch.testing.assert_close(merged(**inputs).logits, expected, atol=1e-5, rtol=0)
