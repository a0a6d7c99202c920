"""``kinema answer`` and ``kinema chat`` on checkpoints in their makers' formats."""

import json
import random
import time
from multiprocessing import get_context
from pathlib import Path

import pytest
import torch

from kinema.cli.app import run
from kinema.messages import SamplingParams
from kinema.tasks.answer import AnswerJob, AnswerOptions
from kinema.tasks.chat import Chat
from kinema.tasks.imports import CheckpointParts
from kinema.tasks.models import find_model
from support.clips import make_clip
from support.videolm import make_llava_lightning, make_neva, make_projection

SYSTEM = (
    "You are a helpful language and vision assistant. You are able to understand the visual "
    "content that the user provides, and assist the user with a variety of tasks using natural "
    "language."
)
NEVA_YAML = """\
inference:
  greedy: False
  top_k: 0
  top_p: 0.9
  temperature: 0.2
  add_BOS: False
  tokens_to_generate: 6
  min_tokens_to_generate: 6
  repetition_penalty: 1.2
  compute_logprob: False
  all_probs: False
  end_strings: ["<extra_id_1>", "<extra_id_7>"]
  media_base_path: {media}
  insert_media_token: null
  media_type: image
trainer: {{devices: 4, num_nodes: 1, precision: 32}}
tensor_model_parallel_size: 1
pipeline_model_parallel_size: 1
neva_model_file: null
base_model_file: null
prompt_file: null
output_file: null
server: False
port: 5555
"""


@pytest.fixture(scope="module")
def shelf(tmp_path_factory):
    """Checkpoints and clips; the module's own cache."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    folder = tmp_path_factory.mktemp("shelf")
    make_llava_lightning(folder)
    make_projection(folder)
    make_neva(folder)
    for i in range(3):
        make_clip(folder / f"video_{i}.mp4", num_frames=12 + i)
    return folder


@pytest.fixture(autouse=True)
def _cache(shelf, monkeypatch):
    monkeypatch.setenv("KINEMA_CACHE", str(shelf / "cache"))


def ask_file(path, records):
    path.write_text("\n".join(json.dumps(record) for record in records))
    return str(path)


def read_lines(path):
    return [json.loads(line) for line in path.read_text().split("\n") if line]


def test_the_documented_neva_command_answers_from_an_archive(shelf, tmp_path, capsys):
    (tmp_path / "neva_inference.yaml").write_text(NEVA_YAML.format(media=shelf))
    prompts = ask_file(
        tmp_path / "p.jsonl",
        [
            {"video": "video_0.mp4", "text": "Can you describe the scene?", "question_id": 0},
            {"video": "video_1.mp4", "text": "And here?", "question_id": 1},
        ],
    )
    status = run(
        [
            "answer",
            "--config",
            str(tmp_path / "neva_inference.yaml"),
            f"neva_model_file={shelf / 'neva.nemo'}",
            f"base_model_file={shelf / 'llm'}",
            "inference.insert_media_token=right",
            "inference.media_type=video",
            "inference.compute_logprob=True",
            "+inference.seed=1",
            f"prompt_file={prompts}",
            f"output_file={tmp_path / 'out.json'}",
        ]
    )
    printed = capsys.readouterr()
    assert status == 0
    first, second = json.loads((tmp_path / "out.json").read_text())
    assert first["full_text"].startswith(
        f" [INST] <<SYS>>\n{SYSTEM}\n<</SYS>>\n\nCan you describe the scene?<video> [/INST]"
    )
    assert second["prompt"] == "And here?<video>"
    assert first["frames"][0]["indices"] == [0, 1, 3, 4, 6, 7, 9, 11]
    assert first["usage"]["completion_tokens"] == 6
    assert first["usage"]["visual_tokens"] == 30  # 8 frames of 4, start and end among them
    assert len(first["logprobs"]) == 6
    assert f"CLEAN RESPONSE: {first['pred_answer']}\n" in printed.out
    assert "------------- PROMPT 1 of 1 ------------ \n" in printed.out
    assert "port, server" in printed.err


def test_a_request_that_does_not_fit_fails_with_numbers(shelf, tmp_path, capsys):
    prompts = ask_file(tmp_path / "p.jsonl", [{"video": "video_0.mp4", "text": "<video>?"}])
    words = ["answer", prompts, "-o", str(tmp_path / "out.jsonl"), "--media-base-path", str(shelf)]
    words += ["--model", str(shelf / "neva.nemo"), "--base-model", str(shelf / "llm")]
    assert run([*words, "--max-new-tokens", "4000"]) == 3
    capsys.readouterr()
    (record,) = read_lines(tmp_path / "out.jsonl")
    assert "needs 4254 tokens and the model has 4096" in record["error"]


def test_single_frame_archives_take_one_frame_whatever_their_num_frames(tmp_path, capsys):
    make_neva(tmp_path, data__splice_single_frame="middle", data__num_frames=8)
    make_clip(tmp_path / "clip.mp4", num_frames=9)
    words = ["chat", str(tmp_path / "clip.mp4"), "?", "--json", "--max-new-tokens", "2"]
    words += ["--model", str(tmp_path / "neva.nemo"), "--base-model", str(tmp_path / "llm")]
    assert run(words) == 0
    record = json.loads(capsys.readouterr().out)
    assert record["frames"][0]["indices"] == [4]


def test_repetition_is_really_penalised(shelf, tmp_path, capsys):
    prompts = ask_file(tmp_path / "p.jsonl", [{"video": "video_0.mp4", "text": "<video>?"}])
    words = ["answer", prompts, "--media-base-path", str(shelf), "--max-new-tokens", "30"]
    words += ["--model", str(shelf / "neva.nemo"), "--base-model", str(shelf / "llm"), "-q"]
    words += ["--min-new-tokens", "30"]
    answers = []
    for penalty in ("1.0", "50.0"):
        out = tmp_path / f"{penalty}.jsonl"
        assert (
            run([*words, "-o", str(out), "--repetition-penalty", penalty, "--logprobs", "0"]) == 0
        )
        (record,) = read_lines(out)
        tokens = [token["token"] for token in record["logprobs"]]
        answers.append(tokens)
    capsys.readouterr()
    assert len(set(answers[1])) > len(set(answers[0]))


def test_video_chatgpt_holds_a_conversation(shelf, capsys):
    parts = CheckpointParts(projection=shelf / "video_chatgpt-7B.bin")
    params = SamplingParams(max_new_tokens=4, min_new_tokens=4)
    with Chat(f"video-chatgpt:{shelf / 'base'}", parts=parts, params=params) as session:
        first = session.ask("What?", shelf / "video_0.mp4")
        pieces = list(session.stream("And then?"))
    second = pieces[-1]
    assert first.completion.usage.visual_tokens == 104
    assert second.completion.usage.prompt_tokens > first.completion.usage.prompt_tokens
    assert [frames.source for frames in second.frames] == [str(shelf / "video_0.mp4")]
    capsys.readouterr()


def test_the_template_can_be_chosen(shelf, tmp_path, capsys):
    prompts = ask_file(tmp_path / "p.jsonl", [{"video": "video_0.mp4", "text": "<video>\nQ"}])
    words = ["answer", prompts, "--media-base-path", str(shelf), "--max-new-tokens", "2", "-q"]
    words += ["--model", f"video-chatgpt:{shelf / 'base'}"]
    words += ["--projection", str(shelf / "video_chatgpt-7B.bin")]
    for mode, opening in (
        ("video-chatgpt_v1", "You are Video-ChatGPT, "),
        ("vicuna_v1_1", "A chat between a curious user"),
    ):
        out = tmp_path / f"{mode}.jsonl"
        assert run([*words, "-o", str(out), "--conv-mode", mode]) == 0
        (record,) = read_lines(out)
        assert record["full_text"].startswith(opening)
        assert " USER: Q\n<video> ASSISTANT:" in record["full_text"]
    capsys.readouterr()


def test_a_checkpoint_is_converted_once(shelf, capsys):
    parts = CheckpointParts(projection=shelf / "video_chatgpt-7B.bin")
    name = f"video-chatgpt:{shelf / 'base'}"
    first = find_model(name, parts=parts).checkpoint.folder
    stamp = (first / "config.json").stat().st_mtime_ns
    second = find_model(name, parts=parts).checkpoint.folder
    assert second == first
    assert (second / "config.json").stat().st_mtime_ns == stamp
    (shelf / "video_chatgpt-7B.bin").touch()
    assert find_model(name, parts=parts).checkpoint.folder != first
    capsys.readouterr()


def test_pieces_that_a_family_does_not_take_are_refused(shelf, capsys):
    words = ["chat", str(shelf / "video_0.mp4"), "?", "--model", str(shelf / "neva.nemo")]
    assert run([*words, "--projection", "x.bin"]) == 2
    assert "Video NeVA takes no --projection." in capsys.readouterr().err


@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_twenty_kills_and_a_resumed_run_give_the_same_bytes(shelf, tmp_path):
    records = [{"video": f"video_{i % 3}.mp4", "text": f"Question {i}"} for i in range(300)]
    prompts = Path(ask_file(tmp_path / "p.jsonl", records))
    options = AnswerOptions(media_base_path=shelf, insert_media_token="right", batch_size=4)

    def start(name):
        job = AnswerJob(prompts, tmp_path / name, find_model("echo"), options=options)
        process = get_context("fork").Process(target=job.run)
        process.start()
        return process

    began = time.monotonic()
    start("whole.jsonl").join()
    whole_seconds = time.monotonic() - began
    chance = random.Random(0)
    kills = 0
    while kills < 20:
        process = start("killed.jsonl")
        process.join(timeout=chance.uniform(0.05, 0.3) * whole_seconds)
        if process.is_alive():
            process.kill()
            process.join()
            kills += 1
        else:  # it got through: begin again, so that all twenty fall into the work
            (tmp_path / "killed.jsonl").unlink()
            (tmp_path / ".killed.jsonl.ledger").unlink()
    start("killed.jsonl").join()
    assert len(read_lines(tmp_path / "whole.jsonl")) == 300
    assert (tmp_path / "killed.jsonl").read_bytes() == (tmp_path / "whole.jsonl").read_bytes()
