"""Video-ChatGPT files in the upstream's format, written here, read back as a VideoLM."""

import numpy as np
import pytest
import torch
from transformers import AutoModelForImageTextToText, AutoProcessor

from kinema.errors import ModelError, ModelNotFound, UnsafeModel
from kinema.models.importers.video_chatgpt import (
    apply_delta,
    export_projection,
    import_video_chatgpt,
)
from kinema.models.importers.weights import read_weights
from support.videolm import WIDTH, make_fork, make_llava_lightning, make_projection

JINJA = "{% for m in messages %}USER: {{ m.content }} {% endfor %}ASSISTANT:"


@pytest.fixture
def base(tmp_path):
    return make_llava_lightning(tmp_path)


@pytest.fixture
def projection(tmp_path):
    return make_projection(tmp_path)


@pytest.fixture
def fork_file(base, tmp_path):
    """The fork's model.bin: every key, tables and per-layer modules included."""
    return make_fork(tmp_path)


def load(imported, folder):
    imported.save(folder, chat_template=JINJA, stop=("</s>",))
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32)
    return model.eval(), AutoProcessor.from_pretrained(folder)


def test_the_projection_file_wins_over_the_base(base, projection, tmp_path):
    model, _ = load(import_video_chatgpt(base, projection=projection), tmp_path / "out")
    given = torch.load(projection, weights_only=True)
    weight = given["model.mm_projector.weight"].half().float()
    assert torch.equal(model.projector.weight, weight)
    rows = model.get_input_embeddings().weight
    assert torch.equal(rows, given["model.embed_tokens.weight"].half().float())
    assert len(model.get_output_embeddings().weight) == 262
    assert model.config.kinema_sampling == {"num_frames": 100, "formula": "segments"}


def test_a_clip_takes_100_plus_patches_tokens_and_is_answered(base, projection, tmp_path, clip_of):
    model, processor = load(import_video_chatgpt(base, projection=projection), tmp_path / "out")
    inputs = processor(text="Q\n<video>", videos=[clip_of(7)], return_tensors="pt")
    ids = inputs["input_ids"][0].tolist()
    tokens = processor.tokenizer.convert_tokens_to_ids(["<vid_patch>", "<vid_start>", "<vid_end>"])
    assert [ids.count(token) for token in tokens] == [104, 1, 1]
    answer = model.generate(**inputs, max_new_tokens=3, min_new_tokens=3, do_sample=False)
    assert answer.shape[1] == len(ids) + 3
    assert model.generation_config.eos_token_id == [processor.tokenizer.eos_token_id]


def test_without_a_projection_the_image_projector_is_the_start(base, tmp_path):
    model, _ = load(import_video_chatgpt(base), tmp_path / "out")
    given = read_weights(base)
    assert torch.equal(model.projector.bias, given["model.mm_projector.bias"].float())
    old = given["lm_head.weight"].float()
    new = model.get_output_embeddings().weight[len(old) :]
    torch.testing.assert_close(new, old.mean(0).expand_as(new), atol=1e-4, rtol=1e-3)


def test_the_forks_model_keeps_its_tables_and_layer_modules(base, fork_file, tmp_path, clip_of):
    model, processor = load(import_video_chatgpt(base, projection=fork_file), tmp_path / "out")
    given = torch.load(fork_file, weights_only=True)
    assert model.config.fusion == "layer_bias"
    assert model.config.select_layers == [0, 1, 2, 3]
    table = model.positions.table.weight.unflatten(1, (4, WIDTH))
    assert torch.equal(table[:, 2], given["model.pes.2.positional_encodings"].float())
    assert torch.equal(model.fusion.projectors[3].bias, given["model.projecters.3.bias"].float())
    inputs = processor(text="<video>", videos=[clip_of(4)], return_tensors="pt")
    assert inputs["num_frames"].tolist() == [10]
    with torch.no_grad():
        assert model(**inputs).logits.isfinite().all()


def test_short_videos_repeat_frames_as_the_fork_does(base, fork_file, tmp_path):
    _, processor = load(import_video_chatgpt(base, projection=fork_file), tmp_path / "out")
    shades = np.arange(4, dtype=np.uint8) * 60
    clip = np.broadcast_to(shades[:, None, None, None], (4, 28, 28, 3)).copy()
    pixels = processor(text="<video>", videos=[clip])["pixel_values"]
    step = 3 / 10
    expected = [(round(step * i) + round(step * (i + 1))) // 2 for i in range(10)]
    order = pixels[:, 0, 0, 0].unique(return_inverse=True)[1]
    assert order.tolist() == expected


def test_a_delta_added_to_its_base_gives_the_target():
    generator = torch.Generator().manual_seed(0)
    base = {
        "model.embed_tokens.weight": torch.randn(5, 3, generator=generator),
        "model.norm.weight": torch.randn(3, generator=generator),
    }
    target = {
        "model.embed_tokens.weight": torch.randn(7, 3, generator=generator),
        "model.norm.weight": torch.randn(3, generator=generator),
        "model.mm_projector.bias": torch.randn(3, generator=generator),
    }
    delta = {name: tensor.clone() for name, tensor in target.items()}
    for name, tensor in base.items():
        delta[name][: len(tensor)] -= tensor
    for name, tensor in apply_delta(base, delta).items():
        torch.testing.assert_close(tensor, target[name])
    with pytest.raises(ModelError, match=r"model\.norm\.weight"):
        apply_delta(base, {k: v for k, v in delta.items() if k != "model.norm.weight"})


@pytest.mark.parametrize("kind", ["projection", "fork_file"])
def test_import_and_export_round_trip(kind, base, tmp_path, request):
    source = request.getfixturevalue(kind)
    model, _ = load(import_video_chatgpt(base, projection=source), tmp_path / "out")
    export_projection(model.state_dict(), tmp_path / "again.bin")
    given = torch.load(source, weights_only=True)
    again = torch.load(tmp_path / "again.bin", weights_only=True)
    assert again.keys() == given.keys()
    for name, tensor in given.items():
        written = again[name][: len(tensor)]
        assert torch.equal(written.half(), tensor.half()), name


def test_a_file_with_code_is_refused_unread(base, tmp_path):
    class Surprise:
        def __reduce__(self):
            return (open, (str(tmp_path / "ran"), "w"))

    torch.save({"model.mm_projector.weight": Surprise()}, tmp_path / "bad.bin")
    with pytest.raises(UnsafeModel, match=r"bad\.bin"):
        import_video_chatgpt(base, projection=tmp_path / "bad.bin")
    assert not (tmp_path / "ran").exists()


def test_parts_that_do_not_belong_together_are_named(base, tmp_path):
    torch.save({"model.mm_projector.bias": torch.zeros(7)}, tmp_path / "other.bin")
    with pytest.raises(ModelError, match=r"projector\.bias"):
        load(import_video_chatgpt(base, projection=tmp_path / "other.bin"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
    with pytest.raises(ModelNotFound, match="absent"):
        import_video_chatgpt(base, projection=tmp_path / "absent.bin")
    (tmp_path / "cut.bin").write_bytes(b"PK\x03\x04 cut")
    with pytest.raises(ModelError, match="cut off"):
        import_video_chatgpt(base, projection=tmp_path / "cut.bin")
