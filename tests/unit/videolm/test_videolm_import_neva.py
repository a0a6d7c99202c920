"""``.nemo`` archives in NeMo's layout, written here rank by rank, read back as a VideoLM."""

import io
import json
import math
import pathlib
import pickle
import tarfile

import pytest
import torch
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    LlamaConfig,
    LlamaForCausalLM,
    SiglipImageProcessor,
    SiglipVisionConfig,
    SiglipVisionModel,
)

from kinema.errors import ModelError, ModelNotFound, UnsafeModel
from kinema.families.videolm import NEVA
from kinema.models.importers.nemo_archive import read_nemo
from kinema.models.importers.nemo_tokenizer import EXTRA_TOKENS
from kinema.models.importers.neva import export_neva, import_neva
from support.released_distributed import write_torch_dist, write_zarr
from support.released_neva import rank_folder, slice_llama
from support.videolm import (
    HIDDEN,
    PROJECTOR,
    TEXT,
    WIDTH,
    make_clip_tower,
    neva_settings,
    write_nemo_folder,
)

JINJA = "{% for m in messages %}{{ m.content }}{% endfor %}"


@pytest.fixture
def language() -> LlamaForCausalLM:
    return LlamaForCausalLM(LlamaConfig(vocab_size=264, **TEXT)).eval()


@pytest.fixture
def towers(tmp_path):
    make_clip_tower(tmp_path / "clip", side=42)
    shape = {"hidden_size": WIDTH, "intermediate_size": 64, "num_hidden_layers": 3}
    siglip = SiglipVisionConfig(**shape, num_attention_heads=4, image_size=42, patch_size=14)
    SiglipVisionModel(siglip).save_pretrained(tmp_path / "siglip")
    side = {"height": 42, "width": 42}
    SiglipImageProcessor(size=side).save_pretrained(tmp_path / "siglip")
    return tmp_path


@pytest.fixture
def words(tmp_path, byte_tokenizer):
    byte_tokenizer.save_pretrained(tmp_path / "words")
    return tmp_path / "words"


@pytest.fixture
def projector():
    return {
        "0.weight": torch.randn(HIDDEN, WIDTH),
        "0.bias": torch.randn(HIDDEN),
        "2.weight": torch.randn(HIDDEN, HIDDEN),
        "2.bias": torch.randn(HIDDEN),
    }


def settings(towers, words, **changes):
    return neva_settings(towers / "clip", words, **changes)


LAYOUTS = {
    "single": (1, 1),
    "tensor parallel": (2, 1),
    "pipeline parallel": (1, 2),
    "both": (2, 2),
}


@pytest.mark.parametrize("tar", [False, True], ids=["folder", "tar"])
@pytest.mark.parametrize("prefix", ["model.", "model.module."])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_rank_layout_gives_the_model_back(
    layout, prefix, tar, language, towers, words, projector, tmp_path
):
    width, stages = LAYOUTS[layout]
    folder_of = rank_folder(width, stages)
    ranks = {}
    for stage in range(stages):
        for rank in range(width):
            held = slice_llama(language, rank=rank, width=width, stage=stage, stages=stages)
            if stage == 0:
                held |= {PROJECTOR + name: tensor for name, tensor in projector.items()}
            ranks[folder_of(stage, rank)] = held
    archive = write_nemo_folder(
        tmp_path / "neva", settings(towers, words), ranks, prefix=prefix, tar=tar
    )
    imported = import_neva(archive)
    for name, tensor in language.state_dict().items():
        found = imported.weights[f"language_model.{name}"]
        assert torch.equal(found[: len(tensor)], tensor), name
    for name, tensor in projector.items():
        assert torch.equal(imported.weights[f"projector.{name}"], tensor)
    assert imported.template == "llama_2"
    assert imported.config.kinema_sampling == {"num_frames": 8, "formula": "linspace"}


def test_a_missing_rank_is_named(language, towers, words, tmp_path):
    held = slice_llama(language, rank=1, width=2, stage=0, stages=1)
    archive = write_nemo_folder(tmp_path / "neva", settings(towers, words), {"mp_rank_01": held})
    with pytest.raises(ModelError, match="lacks tensor rank 0"):
        import_neva(archive)


@pytest.fixture
def projector_only(towers, words, projector, language, tmp_path, byte_tokenizer):
    """An archive of a run with a frozen language model, and that language model."""
    language.save_pretrained(tmp_path / "llm")
    byte_tokenizer.save_pretrained(tmp_path / "llm")

    def write(name="neva", **changes):
        held = {PROJECTOR + key: tensor for key, tensor in projector.items()}
        return write_nemo_folder(tmp_path / name, settings(towers, words, **changes), {"": held})

    return write


@pytest.mark.parametrize(("use_im_start_end", "patches", "run"), [(True, 72, 74), (False, 70, 72)])
def test_a_saved_projector_answers_with_exact_token_counts(
    use_im_start_end, patches, run, projector_only, tmp_path, clip_of
):
    archive = projector_only(mm_cfg__use_im_start_end=use_im_start_end)
    imported = import_neva(archive, base_model=tmp_path / "llm")
    imported.save(tmp_path / "out", chat_template=JINJA, stop=("<extra_id_1>", "<extra_id_7>"))
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out").eval()
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    inputs = processor(text="<video>\nWhat?", videos=[clip_of(8)], return_tensors="pt")
    ids = inputs["input_ids"][0].tolist()
    tokens = processor.tokenizer.convert_tokens_to_ids(list(EXTRA_TOKENS))
    assert [ids.count(tokens[i]) for i in (3, 4, 5)] == [patches, 1, 1]
    assert len(ids) == run + len("\nWhat?")
    assert model.generation_config.eos_token_id == [2, tokens[1], tokens[7]]
    with torch.no_grad():
        assert model(**inputs).logits.isfinite().all()


def test_start_and_end_are_overwritten_only_when_inside(projector_only, tmp_path, clip_of):
    archive = projector_only(mm_cfg__use_im_start_end=False)
    imported = import_neva(archive, base_model=tmp_path / "llm")
    imported.save(tmp_path / "out", chat_template=JINJA)
    model = AutoModelForImageTextToText.from_pretrained(tmp_path / "out").eval()
    processor = AutoProcessor.from_pretrained(tmp_path / "out")
    inputs = processor(text="<video>?", videos=[clip_of(8)], return_tensors="pt")
    with torch.no_grad():
        before = model(**inputs).logits
        start = processor.tokenizer.convert_tokens_to_ids("<extra_id_4>")
        model.get_input_embeddings().weight[start] += 10
        assert torch.equal(model(**inputs).logits, before)


def test_llama_3_has_its_own_media_tokens(projector_only, tmp_path):
    archive = projector_only(mm_cfg__llm__model_type="llama_3")
    imported = import_neva(archive, base_model=tmp_path / "llm")
    ids = imported.config
    names = imported.tokenizer.convert_ids_to_tokens(
        [ids.media_token_id, ids.media_start_token_id, ids.media_end_token_id]
    )
    assert names == [f"<|reserved_special_token_{i}|>" for i in (3, 4, 5)]
    assert imported.template == "llama_3"


def test_the_older_projector_name_and_a_linear_one_are_read(
    projector_only, towers, words, tmp_path
):
    projector_only()
    old = "embedding.word_embeddings.adapter_layer.mm_linear_adapter.linear."
    held = {old + "weight": torch.randn(HIDDEN, WIDTH), old + "bias": torch.randn(HIDDEN)}
    config = settings(towers, words, mm_cfg__mm_mlp_adapter_type="linear")
    archive = write_nemo_folder(
        tmp_path / "old", config, {"": held}, prefix="model.language_model."
    )
    imported = import_neva(archive, base_model=tmp_path / "llm")
    imported.save(tmp_path / "out", chat_template=JINJA)
    assert torch.equal(imported.weights["projector.weight"], held[old + "weight"])


def test_siglip_with_downsampling_takes_all_patches(projector_only, towers, tmp_path):
    archive = projector_only(
        mm_cfg__vision_encoder__from_pretrained=str(towers / "siglip"),
        mm_cfg__vision_encoder__vision_select_feature="cls_patch",
        data__image_aspect_ratio="pad",
    )
    imported = import_neva(archive, base_model=tmp_path / "llm")
    assert imported.config.layout.prompt_tokens(1) == 9
    assert imported.video_processor.fit == "pad"
    assert imported.video_processor.do_center_crop is False


def test_every_frame_becomes_as_many_as_the_family_takes(projector_only, tmp_path):
    imported = import_neva(projector_only(data__num_frames=-1), base_model=tmp_path / "llm")
    assert imported.config.kinema_sampling == {}
    assert NEVA.default_sampling.num_frames == 8


@pytest.mark.parametrize("projector_alone", [True, False])
def test_export_and_import_round_trip(
    projector_alone, projector_only, towers, tmp_path, language, words
):
    imported = import_neva(projector_only(), base_model=tmp_path / "llm")
    export_neva(
        imported.weights,
        imported.config,
        tmp_path / "again.nemo",
        template="llama_2",
        projector_only=projector_alone,
    )
    again = import_neva(
        tmp_path / "again.nemo",
        base_model=tmp_path / "llm" if projector_alone else None,
        vision_tower=towers / "clip",
        tokenizer=words,
    )
    assert again.weights.keys() == imported.weights.keys()
    for name, tensor in imported.weights.items():
        assert torch.equal(again.weights[name], tensor), name
    assert again.config.layout == imported.config.layout


def test_a_projector_without_its_language_model_says_what_is_missing(projector_only):
    with pytest.raises(ModelError, match="no language model") as caught:
        import_neva(projector_only())
    assert "base_model" in caught.value.hint


@pytest.mark.parametrize(
    ("changes", "words_of_error"),
    [
        ({"mm_cfg__use_lita": True}, "LITA"),
        ({"data__image_aspect_ratio": "keep"}, "image_aspect_ratio is keep"),
        ({"mm_cfg": None}, "no mm_cfg section"),
    ],
)
def test_what_cannot_be_imported_is_refused_by_name(
    changes, words_of_error, projector_only, tmp_path
):
    archive = projector_only(**changes)
    with pytest.raises(ModelError, match=words_of_error):
        import_neva(archive, base_model=tmp_path / "llm")


def test_another_architecture_is_refused_by_name(language, towers, words, tmp_path):
    held = slice_llama(language, rank=0, width=1, stage=0, stages=1)
    config = settings(towers, words, normalization="layernorm1p")
    with pytest.raises(ModelError, match="layernorm1p"):
        import_neva(write_nemo_folder(tmp_path / "neva", config, {"": held}))


def megatron_frequencies(size: int, base: float, *, factor=1.0, stretched=False) -> list[float]:
    """Turns a position, of each pair of a head: Megatron's formula, and Llama 3.1's over it."""
    found = []
    for pair in range(size // 2):
        frequency = 1 / base ** (2 * pair / size) / factor
        wavelength = 2 * math.pi / frequency
        if stretched and wavelength > 8192 / 1:
            frequency /= 8
        elif stretched and wavelength > 8192 / 4:
            smooth = (8192 / wavelength - 1) / (4 - 1)
            frequency = (1 - smooth) * frequency / 8 + smooth * frequency
        found.append(frequency)
    return found


@pytest.mark.parametrize(
    ("changes", "wanted"),
    [
        ({}, {"base": 10000.0}),
        ({"rotary_base": 500000.0, "seq_len_interpolation_factor": None}, {"base": 500000.0}),
        ({"seq_len_interpolation_factor": 4}, {"base": 10000.0, "factor": 4.0}),
        (
            {"rotary_base": 500000.0, "scale_positional_embedding": True},
            {"base": 500000.0, "stretched": True},
        ),
    ],
)
def test_long_contexts_turn_as_in_megatron(changes, wanted, towers, words, tmp_path):
    size = 16  # twice of what hidden size and heads say
    shape = {**TEXT, "head_dim": size}
    language = LlamaForCausalLM(LlamaConfig(vocab_size=264, **shape))
    config = settings(towers, words, kv_channels=size, **changes)
    held = slice_llama(language)
    imported = import_neva(write_nemo_folder(tmp_path / "neva", config, {"": held}))
    text = imported.config.text_config
    assert text.head_dim == size
    found = LlamaForCausalLM(text).model.rotary_emb.inv_freq
    assert found.tolist() == pytest.approx(megatron_frequencies(size, **wanted), rel=1e-6)
    for name, tensor in language.state_dict().items():
        assert torch.equal(imported.weights[f"language_model.{name}"][: len(tensor)], tensor), name
    target = tmp_path / "again.nemo"
    export_neva(imported.weights, imported.config, target, template="llama_2", projector_only=False)
    again = import_neva(target, vision_tower=towers / "clip", tokenizer=words)
    assert again.config.text_config.rope_parameters == text.rope_parameters
    assert again.config.text_config.head_dim == size


@pytest.mark.parametrize(
    "changes", [{"rotary_percentage": 0.5}, {"position_embedding_type": "learned_absolute"}]
)
def test_other_positions_are_refused_by_name(changes, language, towers, words, tmp_path):
    config = settings(towers, words, **changes)
    with pytest.raises(ModelError, match=str(next(iter(changes.values())))):
        import_neva(write_nemo_folder(tmp_path / "neva", config, {"": slice_llama(language)}))


def test_archives_that_could_do_harm_are_refused(tmp_path):
    with tarfile.open(tmp_path / "evil.nemo", "w") as tar:
        member = tarfile.TarInfo("../escaped")
        member.size = 1
        tar.addfile(member, io.BytesIO(b"x"))
    with pytest.raises(UnsafeModel, match="written elsewhere"):
        read_nemo(tmp_path / "evil.nemo")
    assert not (tmp_path / "escaped").exists()


@pytest.fixture
def distributed(tmp_path):
    """An archive whose weights are a small distributed checkpoint of torch."""
    folder = tmp_path / "dist"
    state = {"model.decoder.layers.mlp.linear_fc2.weight": (torch.randn(3, 4, 2), (1, 2, 2))}
    write_torch_dist(folder / "model_weights", state)
    (folder / "model_config.yaml").write_text("a: 1")
    return folder


class _Canary:
    """Touches a file when it is unpickled."""

    def __init__(self, file) -> None:
        self._file = file

    def __reduce__(self):
        return pathlib.Path.touch, (self._file,)


@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
class TestDistributedCheckpoints:
    def test_layers_are_numbered(self, distributed):
        names = [f"model.decoder.layers.{i}.mlp.linear_fc2.weight" for i in range(3)]
        assert list(read_nemo(distributed).ranks[0, 0]) == names

    def test_nothing_that_an_index_names_is_run(self, distributed, tmp_path):
        canary = tmp_path / "ran"
        (distributed / "model_weights" / ".metadata").write_bytes(pickle.dumps(_Canary(canary)))
        with pytest.raises(ModelError, match="cannot be read"):
            read_nemo(distributed)
        assert not canary.exists()

    def test_a_chunk_that_is_code_is_refused_and_not_run(self, distributed, tmp_path):
        canary = tmp_path / "ran"
        for file in (distributed / "model_weights").glob("*.distcp"):
            file.write_bytes(pickle.dumps(_Canary(canary), protocol=2) + file.read_bytes())
        with pytest.raises(UnsafeModel, match="would run its code"):
            read_nemo(distributed)
        assert not canary.exists()

    def test_chunks_elsewhere_are_refused(self, distributed):
        folder = distributed / "model_weights"
        index = (folder / ".metadata").read_bytes()
        name = b"__0_0.distcp"
        (folder / ".metadata").write_bytes(index.replace(name, b"../../etc/pw"))
        with pytest.raises(UnsafeModel, match="names a file elsewhere"):
            read_nemo(distributed)

    def test_a_lost_file_is_named(self, distributed):
        (distributed / "model_weights" / "__1_0.distcp").unlink()
        with pytest.raises(ModelError, match="__1_0"):
            read_nemo(distributed)

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"compressor": {"id": "blosc"}}, "compressor"),
            ({"dtype": "<c8"}, "numbers <c8"),
            ({"shape": [9, 2]}, "has 0 bytes of"),
            ({"shape": None}, "cannot be read"),
        ],
    )
    def test_arrays_that_megatron_does_not_write_are_refused(self, change, said, tmp_path):
        state = {"model.output_layer.weight": (torch.randn(4, 2), (2, 2))}
        write_zarr(tmp_path / "model_weights", state)
        (tmp_path / "model_config.yaml").write_text("a: 1")
        file = tmp_path / "model_weights" / "model.output_layer.weight" / ".zarray"
        file.write_text(json.dumps(json.loads(file.read_text()) | change))
        with pytest.raises(ModelError, match=said):
            read_nemo(tmp_path)

    def test_another_backend_is_named_with_what_to_do(self, tmp_path):
        (tmp_path / "model_weights").mkdir()
        (tmp_path / "model_config.yaml").write_text("a: 1")
        (tmp_path / "model_weights" / "metadata.json").write_text('{"sharded_backend": "fsdp"}')
        with pytest.raises(ModelError, match="fsdp") as caught:
            read_nemo(tmp_path)
        assert "dist_ckpt_format=torch_dist" in caught.value.hint


def test_what_is_no_archive_is_named(tmp_path):
    (tmp_path / "text.nemo").write_text("hello")
    with pytest.raises(ModelError, match=r"no \.nemo archive"):
        read_nemo(tmp_path / "text.nemo")
    with pytest.raises(ModelNotFound):
        read_nemo(tmp_path / "absent.nemo")
