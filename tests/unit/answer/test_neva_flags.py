"""NeVA's YAML is a source of flags: it says what neither flags nor environment do."""

from __future__ import annotations

from dataclasses import replace

import pytest
import yaml

import kinema.cli.answer
import kinema.cli.train
from kinema.__main__ import main
from kinema.messages import SamplingParams
from kinema.tasks.answer import AnswerJob
from kinema.tasks.models import find_model

ANSWER = """\
inference: {greedy: False, temperature: 0.7, top_p: 0.9, tokens_to_generate: 64, batch_size: 4,
            end_strings: ["[INST]", "<extra_id_1>"], media_type: image, add_BOS: True,
            insert_media_token: right}
neva_model_file: neva.nemo
base_model_file: llm
output_file: out.jsonl
port: 5555
"""
TRAIN = """\
trainer: {precision: "32", max_steps: 7}
exp_manager: {explicit_log_dir: run, create_tensorboard_logger: True}
model:
  micro_batch_size: 2
  global_batch_size: 4
  mm_cfg: {llm: {from_pretrained: llama, freeze: True, model_type: llama_2}}
  data: {data_path: data.jsonl, num_frames: 8, image_aspect_ratio: square}
  optim: {lr: 1e-3, betas: [0.9, 0.95], sched: {name: CosineAnnealing, min_lr: 2e-5}}
"""


@pytest.fixture
def answered(tmp_path, monkeypatch):
    """Runs ``kinema answer`` as far as its job, and returns that."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "neva.yaml").write_text(ANSWER)
    (tmp_path / "p.jsonl").write_text('{"prompt": "?"}\n')
    jobs, asked = [], []
    monkeypatch.setattr(AnswerJob, "run", lambda self, on_progress: jobs.append(self) or 0)

    def find(name, *, engine, parts):
        asked.append((name, parts))
        return find_model("echo")

    monkeypatch.setattr(kinema.cli.answer, "find_model", find)

    def run(*words):
        assert main(["answer", "--config", "neva.yaml", *words]) == 0
        return jobs[-1], *asked[-1]

    return run


@pytest.fixture
def trained(tmp_path, monkeypatch):
    """Runs ``kinema train`` as far as its run, and returns the settings of it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "neva.yaml").write_text(TRAIN)

    class Done(Exception):
        pass

    def train(settings, *, say):
        raise Done(settings)

    monkeypatch.setattr(kinema.cli.train, "run", train)

    def run(*words):
        with pytest.raises(Done) as done:
            main(["train", "--neva", "neva.yaml", *words])
        return done.value.args[0]

    return run


def test_the_yaml_gives_what_no_flag_does(answered, tmp_path, capsys):
    job, model, parts = answered("prompt_file=p.jsonl", "++inference.seed=3")
    assert job.params == SamplingParams(
        temperature=0.7, top_p=0.9, max_new_tokens=64, seed=3, stop=("[INST]", "<extra_id_1>")
    )
    assert type(job.params) is SamplingParams
    assert (job.settings.batch_size, str(job.output)) == (4, "out.jsonl")
    assert (job.options.media_type, job.options.add_bos) == ("image", True)
    assert job.options.insert_media_token == "right"
    assert (model, str(parts.base_model)) == ("neva:neva.nemo", "llm")
    assert "NeVA does not use port" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words",
    [
        ["--config-path=.", "--config-name=neva.yaml"],
        ["--config-path", "conf/..", "--config-name", "neva"],
        ["-cp", ".", "-cn", "neva"],
        ["--config-name=neva.yaml"],
    ],
)
def test_hydras_own_words_name_the_yaml(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "conf").mkdir()
    (tmp_path / "neva.yaml").write_text(ANSWER)
    (tmp_path / "p.jsonl").write_text('{"prompt": "?"}\n')
    jobs = []
    monkeypatch.setattr(AnswerJob, "run", lambda self, on_progress: jobs.append(self) or 0)
    monkeypatch.setattr(kinema.cli.answer, "find_model", lambda *_, **__: find_model("echo"))
    assert main(["answer", *words, "prompt_file=p.jsonl", "inference.top_p=0.4"]) == 0
    assert (jobs[0].params.temperature, jobs[0].params.top_p) == (0.7, 0.4)
    capsys.readouterr()


def test_the_scripts_own_yaml_is_read_where_no_name_is_given(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["answer", "--config-path", "conf", "prompt_file=p.jsonl"]) == 2
    assert "There is no file conf/neva_inference.yaml." in capsys.readouterr().err
    assert main(["train", "--config-path", "conf", "trainer.max_steps=1"]) == 2
    assert "There is no file conf/video_neva_config.yaml." in capsys.readouterr().err


def test_training_takes_hydras_own_words(trained):
    words = ["--config-path=.", "--config-name=neva", "++cluster_type=BCP", "model.optim.lr=2e-3"]
    assert trained(*words).loop.learning_rate == 2e-3


def test_flags_win_over_the_yaml_and_its_overrides(answered):
    flags = ["--temperature", "0.0", "--batch-size", "8", "--stop", "x", "-o", "other.jsonl"]
    words = ["p.jsonl", "inference.temperature=0.5", "prompt_file=absent.jsonl"]
    job, model, parts = answered(*words, *flags, "--model", "echo", "--base-model", "b")
    assert (job.params.temperature, job.params.stop, job.params.top_p) == (0.0, ("x",), 0.9)
    assert (job.settings.batch_size, str(job.output)) == (8, "other.jsonl")
    assert (str(job.prompt_file), model, str(parts.base_model)) == ("p.jsonl", "echo", "b")


def test_the_environment_stands_between_yaml_and_flags(answered, monkeypatch):
    monkeypatch.setenv("KINEMA_TEMPERATURE", "0.3")
    monkeypatch.setenv("KINEMA_TOP_P", "0.4")
    job, *_ = answered("p.jsonl", "--top-p", "1.0")
    assert (job.params.temperature, job.params.top_p) == (0.3, 1.0)


def test_all_probs_are_as_many_as_the_vocabulary_has_tokens(answered, tmp_path, monkeypatch):
    (tmp_path / "config.json").write_text('{"vocab_size": 321}')
    model = replace(find_model("echo"), find_folder=lambda: tmp_path)
    monkeypatch.setattr(kinema.cli.answer, "find_model", lambda *_, **__: model)
    jobs = []
    monkeypatch.setattr(AnswerJob, "run", lambda self, on_progress: jobs.append(self) or 0)
    words = ["answer", "--config", "neva.yaml", "p.jsonl", "inference.all_probs=True"]
    assert main(words) == main([*words, "--logprobs", "5"]) == 0
    assert [job.params.logprobs for job in jobs] == [321, 5]


def test_a_settings_file_of_a_neva_run_is_read_again(trained, tmp_path):
    settings = trained()
    (tmp_path / "settings.yaml").write_text(yaml.safe_dump(settings.flat()))
    (tmp_path / "neva.yaml").write_text("{}")
    assert trained("--config", "settings.yaml").loop.arguments == settings.loop.arguments


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["inference.media_type=film"], "film"),
        (["inference.top_k=-1"], "--top-k is -1; it must be 0 or more"),
        (["inference.batch_size=0"], "--batch-size is 0; it must be 1 or more"),
        (["inference.tokens_to_generate=many"], "many"),
        (["inference.temprature=1"], "inference.temprature"),
    ],
)
def test_values_of_the_yaml_are_checked_as_flags_are(answered, words, said, capsys):
    assert main(["answer", "--config", "neva.yaml", "p.jsonl", *words]) == 2
    assert said in capsys.readouterr().err


def test_training_takes_the_yaml(trained):
    settings = trained()
    assert (settings.loop.learning_rate, settings.loop.max_steps) == (1e-3, 7)
    assert settings.loop.gradient_accumulation_steps == 2
    assert settings.loop.arguments == {
        "adam_beta1": 0.9,
        "adam_beta2": 0.95,
        "lr_scheduler_kwargs": {"min_lr": 2e-5},
    }
    assert settings.loop.report_to == ("tensorboard",)
    assert (settings.loop.bf16, settings.loop.fp16) == (False, False)
    assert (settings.data.num_frames, settings.model.media_wrap) == (8, "inside")
    assert settings.model.media_tokens == ("<extra_id_3>", "<extra_id_4>", "<extra_id_5>")
    assert str(settings.data.data_path) == "data.jsonl"


def test_a_flag_wins_although_it_says_the_default(trained):
    settings = trained("--learning-rate", "5e-5", "model.optim.lr=2e-3", "--num-frames", "4")
    assert (settings.loop.learning_rate, settings.data.num_frames) == (5e-5, 4)
    settings = trained("--media-wrap", "outside", "--model", "other")
    assert settings.model.media_wrap == "outside"
    assert settings.model.model_name_or_path == "other"


def test_one_frame_of_each_video_takes_the_place_of_a_number(trained):
    settings = trained("model.data.splice_single_frame=middle")
    assert (settings.data.single, settings.data.num_frames) == ("middle", None)


def test_further_arguments_are_read_as_what_they_are(trained):
    words = ["--arguments.adam_beta2", "0.99", "--arguments.full_determinism", "True"]
    given = {"adam_beta2": 0.99, "full_determinism": True}
    assert trained(*words).loop.arguments == given


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("media_wrap", "around", "media-wrap"),
        ("eval_strategy", "sometimes", "eval-strategy"),
        ("stage", "everything", "stage"),
        ("learning_rate", "fast", "learning-rate"),
        ("lerning_rate", "1e-3", "Did you mean --learning-rate?"),
    ],
)
def test_a_bad_value_in_yaml_is_refused_by_name(tmp_path, capsys, name, value, said):
    (tmp_path / "run.yaml").write_text(f"{name}: {value}\n")
    assert main(["train", "--config", str(tmp_path / "run.yaml")]) == 2
    printed = capsys.readouterr().err
    assert said in printed.replace("_", "-") or said in printed
    assert value in printed or name == "lerning_rate"


def test_a_bad_value_in_nevas_yaml_is_refused_by_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "neva.yaml").write_text(TRAIN)
    words = ["train", "--neva", "neva.yaml", "model.data.splice_single_frame=any"]
    assert main(words) == 2
    assert "any" in capsys.readouterr().err


def test_words_that_are_no_overrides_are_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "neva.yaml").write_text(TRAIN)
    assert main(["train", "--neva", "neva.yaml", "fast"]) == 2
    assert "'fast' was not understood" in capsys.readouterr().err
