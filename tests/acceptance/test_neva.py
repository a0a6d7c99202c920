"""Video NeVA's documented commands, typed on checkpoints and data in the released form."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tarfile

import pytest
import sentencepiece
import torch
from safetensors.torch import load_file

from kinema.cli.app import run
from support.neva_by_hand import PROMPTS, decoded, eight_of
from support.neva_shelf import (
    QUESTION,
    STEPS,
    by_hand,
    expected,
    fine_tuned,
    make_shelf,
    projector_only,
)
from support.released_distributed import whole_state, write_nemo_distributed
from support.released_neva import all_ranks, neva_config, write_nemo
from support.released_pieces import (
    EXTRA_TOKENS,
    count_pieces,
    grown,
    make_llama,
    rounded,
    with_pieces,
    write_llama_2,
    write_llama_3,
)


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """What the tests are about; a cache of its own."""
    return make_shelf(tmp_path_factory.mktemp("released"))


@pytest.fixture(autouse=True)
def _cache(shelf, monkeypatch):
    monkeypatch.setenv("KINEMA_HOME", str(shelf.folder / "cache"))


def neva_words(shelf, folder, *overrides: str, records=None) -> list[str]:
    """The command of NeVA's documentation, about prompts in a folder."""
    prompts = folder / "prompts.jsonl"
    asked = records or [
        {"video": "video_test.mp4", "text": QUESTION, "category": "conv", "question_id": 0}
    ]
    prompts.write_text("\n".join(map(json.dumps, asked)))
    return [
        "answer",
        f"--config-path={shelf.conf}",
        "--config-name=neva_inference.yaml",
        "tensor_model_parallel_size=1",
        "pipeline_model_parallel_size=1",
        "trainer.devices=1",
        "trainer.precision=32",
        f"prompt_file={prompts}",
        f"inference.media_base_path={shelf.videos}",
        "inference.media_type=video",
        "inference.insert_media_token=right",
        "inference.greedy=True",
        "inference.compute_logprob=True",
        f"inference.tokens_to_generate={STEPS}",
        f"inference.min_tokens_to_generate={STEPS}",
        "inference.repetition_penalty=1.0",
        f"output_file={folder / 'answers.jsonl'}",
        *overrides,
    ]


def read_answers(folder):
    return [json.loads(line) for line in (folder / "answers.jsonl").read_text().splitlines()]


@pytest.fixture
def typed(shelf, tmp_path, capsys):
    """Types ``neva_evaluation.py``'s command as ``kinema answer`` and returns records and words."""

    def type_it(*overrides: str, records=None, status=0):
        found = run(neva_words(shelf, tmp_path, *overrides, records=records))
        said = capsys.readouterr()
        assert found == status, said.err
        return read_answers(tmp_path), said

    return type_it


def compare(record, wanted) -> None:
    """The record has the independent run's number of tokens and log-probabilities."""
    ids, logprobs = wanted
    assert record["usage"]["completion_tokens"] == len(logprobs)
    assert record["error"] is None
    assert record["usage"]["prompt_tokens"] == len(ids)
    assert [one["logprob"] for one in record["logprobs"]] == pytest.approx(logprobs, abs=1e-4)


@pytest.mark.parametrize("width", [1, 2], ids=["one rank", "two ranks"])
@pytest.mark.parametrize("template", ["llama_2", "v1"])
def test_n2_a_fine_tuned_archive_needs_no_base(shelf, tmp_path, typed, template, width):
    archive = fine_tuned(shelf, tmp_path / "a.nemo", template, width=width)
    records, said = typed(f"neva_model_file={archive}", "base_model_file=null")
    compare(records[0], expected(shelf, template))
    assert f"CLEAN RESPONSE: {records[0]['pred_answer']}\n" in said.out


@pytest.mark.parametrize("template", ["nvgpt", "nv_steerlm", "nv_dpo", "mistral"])
def test_n5_every_template_gives_what_nemo_computes(shelf, tmp_path, typed, template):
    archive = fine_tuned(shelf, tmp_path / "a.nemo", template, mm_cfg__use_im_start_end=True)
    records, _ = typed(f"neva_model_file={archive}", "base_model_file=null")
    compare(records[0], expected(shelf, template, keeps_ends=True))


def test_n5_the_template_of_yi(shelf, tmp_path, typed):
    model = with_pieces(shelf.plain, (*EXTRA_TOKENS, "<|im_start|>", "<|im_end|>"))
    llama = make_llama(count_pieces(model))
    archive = write_nemo(
        tmp_path / "a.nemo",
        neva_config(shelf.tower, "yi_34b", llama),
        all_ranks(llama, shelf.projector),
        tokenizer=model,
    )
    words = ('inference.end_strings=["<|im_end|>"]', f"neva_model_file={archive}")
    records, _ = typed(*words, "base_model_file=null")
    encode = sentencepiece.SentencePieceProcessor(model_proto=model).encode_as_ids
    compare(records[0], expected(shelf, "yi_34b", llama=llama, encode=encode))


def test_n5_the_template_of_llama_3_on_its_own_base(shelf, tmp_path, typed):
    base = tmp_path / "Meta-Llama-3-8B-Instruct"
    llama, tokenizer = write_llama_3(base)
    archive = projector_only(
        shelf, tmp_path / "a.nemo", "llama_3",
        tokenizer__library="huggingface", tokenizer__type=str(base), tokenizer__model=None,
    )  # fmt: skip
    words = ('inference.end_strings=["<|eot_id|>"]', f"neva_model_file={archive}")
    records, _ = typed(*words, f"base_model_file={base}")
    media = tuple(f"<|reserved_special_token_{i}|>" for i in (3, 4, 5))
    wanted = expected(
        shelf, "llama_3", llama=llama, encode=lambda text: tokenizer.encode(text).ids, media=media
    )
    compare(records[0], wanted)


def test_n1_a_projector_stands_on_llama_2_as_released(shelf, tmp_path, typed):
    base = tmp_path / "llama-2-7b-chat"
    llama = grown(write_llama_2(base, shelf.plain), count_pieces(shelf.model))
    archive = projector_only(shelf, tmp_path / "a.nemo")
    records, _ = typed(f"neva_model_file={archive}", f"base_model_file={base}")
    compare(records[0], expected(shelf, "llama_2", llama=llama))


def test_n1_a_projector_stands_on_a_language_model_of_nemo(shelf, tmp_path, typed):
    config = neva_config(shelf.tower, "llama_2", shelf.llama)
    base = write_nemo(
        tmp_path / "base" / "llama-2-chat.nemo",
        {key: value for key, value in config.items() if key not in ("mm_cfg", "data")},
        all_ranks(shelf.llama, {}, width=2),
        tokenizer=shelf.model,
    )
    archive = projector_only(shelf, tmp_path / "a.nemo")
    records, _ = typed(f"neva_model_file={archive}", f"base_model_file={base}")
    compare(records[0], expected(shelf))


@pytest.mark.parametrize("stacked", [True, False], ids=["layers stacked", "layers apart"])
@pytest.mark.parametrize("backend", ["torch_dist", "zarr"])
@pytest.mark.filterwarnings("ignore:torch.distributed is disabled:UserWarning")
def test_n3_distributed_checkpoints_are_read(shelf, tmp_path, typed, backend, stacked):
    state = whole_state(shelf.llama, shelf.projector, width=2, stacked=stacked)
    saved = {name: (tensor.bfloat16(), chunk) for name, (tensor, chunk) in state.items()}
    archive = write_nemo_distributed(
        tmp_path / "a.nemo",
        neva_config(shelf.tower, "llama_2", shelf.llama),
        saved,
        tokenizer=shelf.model,
        backend=backend,
    )
    records, _ = typed(f"neva_model_file={archive}", "base_model_file=null")
    llama = rounded(make_llama(count_pieces(shelf.model)), torch.bfloat16)
    projector = {name: tensor.bfloat16().float() for name, tensor in shelf.projector.items()}
    compare(records[0], expected(shelf, "llama_2", llama=llama, projector=projector))


@pytest.mark.parametrize(("width", "stages"), [(1, 2), (2, 2)])
def test_n3_archives_of_several_pipeline_ranks_are_read(shelf, tmp_path, typed, width, stages):
    archive = fine_tuned(shelf, tmp_path / "a.nemo", "llama_2", width=width, stages=stages)
    records, _ = typed(f"neva_model_file={archive}", "base_model_file=null")
    compare(records[0], expected(shelf))


TORCHRUN = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2"]


@pytest.mark.parametrize("starter", [[], TORCHRUN], ids=["as it stands", "under torchrun"])
def test_n4_two_slices_answer_as_one_model(shelf, tmp_path, starter):
    archive = fine_tuned(shelf, tmp_path / "a.nemo", "llama_2", width=2)
    words = neva_words(shelf, tmp_path, "tensor_model_parallel_size=2", "trainer.devices=2")
    done = subprocess.run(
        [sys.executable, *starter, "-m", "kinema", *words, f"neva_model_file={archive}",
         "base_model_file=null"],
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("CLEAN RESPONSE:") == 1
    (record,) = read_answers(tmp_path)
    compare(record, expected(shelf))


def packed_videos(shelf, path):
    """The folder of videos as one tar, its members named without a folder."""
    with tarfile.open(path, "w") as tar:
        for file in sorted(shelf.videos.iterdir()):
            tar.add(file, arcname=file.name)
    return path


def test_n6_videos_come_out_of_a_tar(shelf, tmp_path, typed):
    archive = fine_tuned(shelf, tmp_path / "a.nemo", "llama_2")
    base = packed_videos(shelf, tmp_path / "videos.tar")
    words = (f"neva_model_file={archive}", f"inference.media_base_path={base}")
    records, _ = typed(*words, "base_model_file=null")
    compare(records[0], expected(shelf))


@pytest.mark.parametrize(
    ("single", "place"), [("first", lambda n: 0), ("middle", lambda n: n // 2),
                          ("last", lambda n: n - 1)],
)  # fmt: skip
def test_n6_one_frame_of_a_video(shelf, tmp_path, typed, single, place):
    changes = {"data__splice_single_frame": single, "data__num_frames": 1}
    archive = fine_tuned(shelf, tmp_path / "a.nemo", "llama_2", **changes)
    records, _ = typed(f"neva_model_file={archive}", "base_model_file=null")
    frames = decoded(shelf.videos / "video_test.mp4")
    (seen,) = records[0]["frames"]
    assert seen["indices"] == [place(len(frames))]
    compare(records[0], expected(shelf, frames=[frames[place(len(frames))]]))


DETAIL = "Describe this clip in detail.\n"
RECORDS = {
    "left": ({"text": QUESTION}, "", QUESTION),
    "right": ({"text": QUESTION}, QUESTION, ""),
    "null": ({"prompt": f"{DETAIL}<video>"}, DETAIL, ""),
}


@pytest.mark.parametrize("insert", RECORDS)
def test_n7_the_placeholder_stands_where_it_is_told(shelf, tmp_path, typed, insert):
    archive = fine_tuned(shelf, tmp_path / "a.nemo", "llama_2")
    own, before, after = RECORDS[insert]
    record = {"video": "001.mp4", **own, "category": "detail", "question_id": 1}
    words = (f"neva_model_file={archive}", f"inference.insert_media_token={insert}")
    records, said = typed(*words, "base_model_file=null", records=[record])
    frames = eight_of(shelf.videos / "001.mp4")
    compare(records[0], expected(shelf, frames=frames, before=before, after=after))
    assert records[0]["prompt"] == f"{before}<video>{after}"
    assert {name: records[0][name] for name in record} == record
    assert records[0]["model_id"] == f"neva:{archive}"
    assert (records[0]["answer_id"], records[0]["metadata"]) == (0, {})
    assert "------------- PROMPT 1 of 1 ------------ \n" in said.out


def test_n7_pictures_are_asked_about_too(shelf, tmp_path, typed):
    picture = decoded(shelf.videos / "001.mp4")[20]
    picture.save(tmp_path / "001.png")
    archive = fine_tuned(shelf, tmp_path / "a.nemo", "llama_2")
    record = {"image": str(tmp_path / "001.png"), "text": QUESTION, "question_id": 1}
    words = (f"neva_model_file={archive}", "inference.media_type=image")
    records, _ = typed(*words, "base_model_file=null", records=[record])
    compare(records[0], expected(shelf, frames=[picture], after="\n"))


@pytest.mark.parametrize(
    ("algorithm", "ours"), [("int8_sq", "int8"), ("awq", "int4"), ("fp8", "fp8")]
)
def test_n8_the_quantisation_block(shelf, tmp_path, typed, algorithm, ours):
    pytest.importorskip("torchao")
    archive = fine_tuned(shelf, tmp_path / "a.nemo", "llama_2")
    words = ("quantization.enable=True", f"quantization.algorithm={algorithm}")
    records, said = typed(f"neva_model_file={archive}", "base_model_file=null", *words)
    assert f"quantization.algorithm={algorithm} becomes torchao-{ours}, weight-only" in said.err
    ids, logprobs = expected(shelf)
    assert records[0]["usage"]["prompt_tokens"] == len(ids)
    first = records[0]["logprobs"][0]["logprob"]
    assert first != logprobs[0]
    assert first == pytest.approx(logprobs[0], abs=0.5)


@pytest.mark.parametrize(
    ("changes", "turning"),
    [
        (
            {"seq_len_interpolation_factor": 4, "encoder_seq_length": 16384},
            {"rope_type": "linear", "factor": 4.0, "rope_theta": 10000.0},
        ),
        (
            {"scale_positional_embedding": True, "rotary_base": 500000.0},
            {"rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
             "original_max_position_embeddings": 8192, "rope_theta": 500000.0},
        ),
    ],
    ids=["interpolated", "as Llama 3.1"],
)  # fmt: skip
def test_n9_archives_of_long_contexts(shelf, tmp_path, typed, changes, turning):
    llama = make_llama(count_pieces(shelf.model), head_dim=16, rope_parameters=turning)
    archive = write_nemo(
        tmp_path / "a.nemo",
        neva_config(shelf.tower, "llama_2", llama, kv_channels=16, **changes),
        all_ranks(llama, shelf.projector),
        tokenizer=shelf.model,
    )
    records, _ = typed(f"neva_model_file={archive}", "base_model_file=null")
    compare(records[0], expected(shelf, llama=llama))


ANSWER = "Hand with a robot arm."


def test_n10_training_begins_with_nemos_loss(shelf, tmp_path, capsys):
    config = neva_config(shelf.tower, "llama_2", shelf.llama)
    base = write_nemo(
        tmp_path / "llama-2-7b-chat.nemo",
        {key: value for key, value in config.items() if key not in ("mm_cfg", "data")},
        all_ranks(shelf.llama, {}, width=2),
        tokenizer=shelf.model,
    )
    check_training(shelf, tmp_path, base, shelf.llama)
    assert "not used here: " in capsys.readouterr().err


def test_n10_training_stands_on_llama_2_as_released(shelf, tmp_path, capsys):
    base = tmp_path / "llama-2-7b-chat"
    llama = grown(write_llama_2(base, shelf.plain), count_pieces(shelf.model))
    check_training(shelf, tmp_path, base, llama)


def check_training(shelf, folder, base, llama):
    """Types ``neva_pretrain.py``'s command, then asks the model that it made."""
    record = {
        "id": 0,
        "video": "video_test.mp4",
        "conversations": [
            {"from": "human", "value": f"<video>\n{QUESTION}"},
            {"from": "gpt", "value": ANSWER},
        ],
    }
    (folder / "train.json").write_text(json.dumps([record]))
    words = [
        "train",
        f"--config-path={shelf.conf}",
        "--config-name=video_neva_config",
        "++cluster_type=BCP",
        "trainer.precision=32",
        "trainer.devices=1",
        "trainer.accelerator=cpu",
        "trainer.max_steps=2",
        "trainer.log_every_n_steps=1",
        f"exp_manager.explicit_log_dir={folder / 'run'}",
        "model.micro_batch_size=1",
        "model.global_batch_size=1",
        f"model.mm_cfg.llm.from_pretrained={base}",
        f"model.mm_cfg.vision_encoder.from_pretrained={shelf.tower}",
        "model.mm_cfg.mm_mlp_adapter_type=mlp2x_gelu",
        f"model.data.data_path={folder / 'train.json'}",
        f"model.data.video_folder={shelf.videos}",
        "model.data.num_workers=0",
    ]
    assert run(words) == 0
    log = [json.loads(line) for line in (folder / "run" / "log.jsonl").read_text().splitlines()]
    begun = {}
    for file in (shelf.folder / "cache" / "joined").glob("*/*.safetensors"):
        begun |= load_file(file)
    projector = {
        n.removeprefix("projector."): t.float() for n, t in begun.items() if "projector." in n
    }
    opening, closing = PROMPTS["llama_2"]
    loss = by_hand(shelf, projector=projector, llama=llama).loss(
        eight_of(shelf.videos / "video_test.mp4"),
        opening,
        f"\n{QUESTION}{closing}",
        f" {ANSWER} <extra_id_7>",
    )
    assert log[0]["loss"] == pytest.approx(loss, abs=2e-4)
    assert run(["train", "merge", str(folder / "run"), str(folder / "model")]) == 0
    made = json.loads((folder / "model" / "config.json").read_text())
    assert made["kinema_sampling"] == {"num_frames": 8, "formula": "linspace"}
    shutil.rmtree(shelf.folder / "cache" / "joined")
