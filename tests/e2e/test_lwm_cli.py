"""The Large World Model from the shell: released file formats in, answers and pictures out."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from PIL import Image

from small_lwm import CONFIG, make_lwm
from support.clips import board, make_clip

FAST_COMPILE = "--xla_backend_optimization_level=0 --xla_llvm_disable_expensive_passes=true"
UPDATE = f"dict(vocab_size={CONFIG.vocab_size},vision_vocab_size={CONFIG.vision_vocab_size})"


def start(*words: object, devices: int = 1):
    flags = f"{FAST_COMPILE} --xla_force_host_platform_device_count={devices}"
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-m", *map(str, words)],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "XLA_FLAGS": flags, "JAX_PLATFORMS": "cpu"},
    )  # fmt: skip


def finish(process) -> subprocess.CompletedProcess[str]:
    out, err = process.communicate(timeout=300)
    return subprocess.CompletedProcess(process.args, process.returncode, out, err)


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory) -> Path:
    return make_lwm(tmp_path_factory.mktemp("lwm"))


@pytest.fixture(scope="module")
def clip(tmp_path_factory) -> Path:
    """20 frames, of which three are the first, the tenth and the last."""
    path = tmp_path_factory.mktemp("clips") / "clip.mp4"
    return make_clip(path, num_frames=20, height=240, width=320)


@pytest.fixture(scope="module")
def image(tmp_path_factory) -> Path:
    """A transparent picture under a name that the original sent to its video reader."""
    path = tmp_path_factory.mktemp("images") / "picture.JPEG.webp"
    Image.fromarray(board(7, height=300, width=280)).convert("RGBA").save(path, lossless=True)
    return path


def flags(checkpoint: Path, *more: str) -> list[str]:
    """As the original's shell script gives them."""
    return [
        "--prompt=What is the video about?",
        f"--vqgan_checkpoint={checkpoint}/vqgan",
        f"--load_checkpoint=params::{checkpoint}/params",
        "--load_llama_config=debug",
        f"--update_llama_config={UPDATE}",
        "--dtype=fp32",
        "--max_new_tokens=6",
        *more,
    ]


@pytest.mark.slow
def test_kinema_chat_answers_about_a_clip(checkpoint, clip):
    done = finish(
        start("kinema", "chat", clip, "What is the video about?", "--model", f"lwm:{checkpoint}",
              "--mesh", "1,1,-1,1", "--num-frames", 3, "--formula", "linspace",
              "--max-new-tokens", 6, "--json")
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    record = json.loads(done.stdout)
    assert record["engine"] == record["family"] == "lwm"
    assert record["frames"][0]["indices"] == [0, 9, 19]
    assert record["usage"]["visual_tokens"] == 3 * 257
    assert record["usage"]["completion_tokens"] == 6


@pytest.mark.slow
def test_converted_folder_answers_as_the_released_files_do(checkpoint, clip, tmp_path, capsys):
    from kinema.__main__ import main

    assert main(["models", "convert", "lwm", str(checkpoint), str(tmp_path / "ours")]) == 0
    assert "14 tensors in model.safetensors" in capsys.readouterr().out
    asked = [str(clip), "What?", "--max-new-tokens", "6", "--model"]
    assert main(["chat", *asked, f"lwm:{checkpoint}"]) == 0
    released = capsys.readouterr().out
    assert main(["chat", *asked, str(tmp_path / "ours")]) == 0
    assert capsys.readouterr().out == released


@pytest.mark.slow
def test_drop_in_takes_the_original_flags_and_prints_as_it_did(checkpoint, clip):
    words = flags(
        checkpoint, f"--input_file={clip}", "--mesh_dim=!1,1,-1,1", "-max_n_frames", "2",
        "--temperature", "0.2", "--seed=1234", "--llama.sample_mode=text",
        "--nojax_distributed.initialize_jax_distributed", "--llama.tie_vision_embeddings=False",
    )  # fmt: skip
    done = finish(start("kinema.lwm_vision_chat", *words))
    assert done.returncode == 0, done.stderr
    question, answer = done.stdout.split("\n", 1)
    assert question == "Question: What is the video about?"
    assert answer.startswith("Answer: ")


@pytest.fixture(scope="module")
def alone(checkpoint, image) -> str:
    """What one process on one device prints about the picture."""
    done = finish(start("kinema.lwm_vision_chat", *about_image(checkpoint, image)))
    assert done.returncode == 0, done.stderr
    assert len(done.stdout) > len("Question: What is the video about?\nAnswer: \n")
    return done.stdout


def about_image(checkpoint: Path, image: Path) -> list[str]:
    return flags(checkpoint, f"--input_file={image}", "--temperature=0")


@pytest.mark.slow
def test_default_mesh_of_the_original_works_on_two_devices_and_with_an_image(
    checkpoint, image, alone
):
    words = about_image(checkpoint, image)
    shared = finish(start("kinema.lwm_vision_chat", *words, devices=2))
    assert shared.returncode == 0, shared.stderr
    assert shared.stdout == alone


@pytest.mark.slow
def test_two_hosts_answer_as_one(checkpoint, image, alone):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = [*about_image(checkpoint, image), "--mesh_dim=1,1,-1,1"]
    shared = [
        start(
            "kinema.lwm_vision_chat", *words, "--jax_distributed.initialize_jax_distributed=True",
            f"--jax_distributed.coordinator_address=127.0.0.1:{port}",
            "--jax_distributed.num_processes=2", f"--jax_distributed.process_id={host}",
        )
        for host in (0, 1)
    ]  # fmt: skip
    first, second = map(finish, shared)
    assert first.returncode == 0, first.stderr
    assert second.returncode == 0, second.stderr
    # The library that connects processes on a CPU writes a line of its own to stdout.
    assert first.stdout.endswith(alone)
    assert "Answer" not in second.stdout


@pytest.mark.slow
def test_a_video_is_drawn(checkpoint, tmp_path):
    words = [w for w in flags(checkpoint) if not w.startswith("--max_new_tokens")]
    target = tmp_path / "cat.mp4"
    done = finish(
        start("kinema.lwm_vision_generation", *words, f"--output_file={target}", "--n_frames=2",
              "--cfg_scale_image=5", "--mesh_dim=1,1,-1,1")
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    with av.open(str(target)) as container:
        assert container.streams.video[0].average_rate == 4
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    assert [frame.shape for frame in frames] == [(256, 256, 3)] * 2
    assert all(np.ptp(frame) > 0 for frame in frames)
    assert [path.name for path in tmp_path.iterdir()] == ["cat.mp4"]


@pytest.mark.slow
def test_text_only_checkpoint_needs_no_file_and_no_vqgan(tmp_path, capsys):
    from kinema.lwm_vision_chat import chat, run

    folder = make_lwm(tmp_path, replace(CONFIG, vision_vocab_size=0))
    words = ["--prompt=Who?", f"--load_checkpoint={folder}/params", "--max_new_tokens=4"]
    assert run(chat, words) == 0
    assert capsys.readouterr().out.startswith("Question: Who?\nAnswer: ")


@pytest.mark.parametrize(
    ("flag", "complaint"),
    [
        ("--tokenizer=/missing/tokenizer.model", "no tokenizer /missing/tokenizer.model"),
        ("--load_checkpoint=params::/missing/params", "no params file '/missing/params'"),
        ("--vqgan_checkpoint=/missing/vqgan", "no VQGAN file /missing/vqgan"),
        ("--mesh_dim=1,1,3,1", "wants 3 devices and there are 1"),
        ("--update_llama_config=__import__('os')", "nothing in it is evaluated"),
        ("--load_llama_config=8b", "There is no LWM configuration '8b'"),
        ("--dtype=fp8", "no number format 'fp8'"),
        ("--prompt=", "--prompt is missing"),
        ("--input_file=", "--input_file is missing"),
        ("--vqgan_checkpoint=", "--vqgan_checkpoint is missing"),
        ("--nonsense=1", "nonsense"),
    ],
)
def test_what_is_wrong_is_named(checkpoint, image, capsys, flag, complaint):
    from kinema.lwm_vision_chat import chat, run

    name = flag.split("=", maxsplit=1)[0]
    given = [w for w in flags(checkpoint, f"--input_file={image}") if not w.startswith(name + "=")]
    assert run(chat, [*given, flag]) in (1, 2)
    shown = capsys.readouterr()
    assert complaint in shown.err
    assert "Traceback" not in shown.err
    assert shown.out == ""


@pytest.mark.parametrize(("num_frames", "name"), [(1, "a.mp4"), (2, "a.png"), (1, "missing/a.png")])
def test_output_that_cannot_hold_the_frames_is_refused_before_drawing(tmp_path, num_frames, name):
    from kinema.errors import UsageError
    from kinema.tasks.lwm import DrawFlags, draw

    target = tmp_path / name
    with pytest.raises(UsageError, match=r"written as|no folder"):
        draw(DrawFlags(
            prompt="a cat", output_file=target, n_frames=num_frames,
            vqgan_checkpoint="x", load_checkpoint="y",
        ))  # fmt: skip
