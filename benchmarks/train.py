"""Training steps: kinema beside transformers' Trainer used plainly, tokens a second and memory.

    python benchmarks/train.py               a small model on the CPU
    python benchmarks/train.py --gpu         7B random weights with LoRA, where there is a GPU

Both train the same model on the same samples from the same features. The peer pads each batch to
its longest sample, in the order that the Trainer draws them; kinema packs. Each way runs in a
process of its own, in turns, so that its peak memory is its own. Tokens are those of samples:
padding counts for nobody.
"""

from __future__ import annotations

import argparse
import json
import random
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from common import machine, median, write_result

WAYS = ("peer", "kinema")
SMALL = {"hidden_size": 256, "intermediate_size": 688, "num_hidden_layers": 4}
SEVEN_B = {"hidden_size": 4096, "intermediate_size": 11008, "num_hidden_layers": 32}
ROW, BATCH = 1024, 8
"""Tokens of a packed row, and samples in a batch of the peer."""


def make_model(folder: Path, *, gpu: bool) -> None:
    """A VideoLM of random weights: one token a frame in front of a LLaMA."""
    import torch
    from transformers import CLIPVisionConfig, LlamaConfig

    from kinema.families.templates import TEMPLATES
    from kinema.models.videolm import (
        VideoLMConfig,
        VideoLMForConditionalGeneration,
        VideoLMProcessor,
        VideoLMVideoProcessor,
    )
    from support.videolm import make_byte_tokenizer

    heads = {"num_attention_heads": 32 if gpu else 4}
    sizes = SEVEN_B if gpu else SMALL
    tower = {"hidden_size": 64, "intermediate_size": 64, "num_hidden_layers": 1}
    config = VideoLMConfig(
        vision_config=CLIPVisionConfig(
            **tower, num_attention_heads=4, image_size=28, patch_size=14
        ),
        text_config=LlamaConfig(vocab_size=32006 if gpu else 262, **sizes, **heads),
        pooling="cls",
        select_feature="cls",
        media_token_id=3,
        media_start_token_id=4,
        media_end_token_id=5,
    )
    torch.set_default_dtype(torch.bfloat16 if gpu else torch.float32)
    VideoLMForConditionalGeneration(config).save_pretrained(folder)
    torch.set_default_dtype(torch.float32)
    VideoLMProcessor.for_config(
        config,
        tokenizer=make_byte_tokenizer(),
        video_processor=VideoLMVideoProcessor(),
        chat_template=TEMPLATES["vicuna_v1_1"].jinja,
    ).save_pretrained(folder)


def write_samples(folder: Path, *, count: int) -> None:
    """Answers of 10 to 700 letters, most of them short, as chat data is."""
    import torch

    from kinema.models.videolm import VideoLMConfig
    from kinema.models.videolm.features import FeaturesHeader, save_features

    config = VideoLMConfig.from_pretrained(folder / "model")
    header = FeaturesHeader.for_config(config, num_frames=16)
    save_features(folder / "clip.safetensors", torch.randn(16, 1, 64), header)
    rng = random.Random(0)
    with (folder / "train.jsonl").open("w") as file:
        for i in range(count):
            letters = min(int(rng.lognormvariate(4.2, 1.1)) + 10, 700)
            answer = "".join(rng.choices("abcdefgh ", k=letters))
            asked = [
                {"type": "features", "path": "clip.safetensors"},
                {"type": "text", "text": "?"},
            ]
            turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]
            file.write(json.dumps({"id": str(i), "messages": turns}) + "\n")


def run_kinema(folder: Path, *, gpu: bool, output: Path) -> tuple[int, float]:
    """Tokens of all samples and seconds of one pass over them."""
    from kinema.tasks.train import train
    from kinema.training.settings import from_flat

    settings = {
        "model_name_or_path": str(folder / "model"),
        "data_path": folder / "train.jsonl",
        "output_dir": output,
        "stage": "lora" if gpu else "full",
        "packing": True,
        "model_max_length": ROW,
        "per_device_train_batch_size": 2,
        "num_train_epochs": 1,
        "save_strategy": "no",
        "use_cpu": not gpu,
        "bf16": gpu,
        "gradient_checkpointing": gpu,
    }
    done = train(from_flat(settings))
    log = (output / "log.jsonl").read_text().splitlines()
    return done.tokens, json.loads(log[-1])["train_runtime"]


def run_peer(folder: Path, *, gpu: bool, output: Path) -> tuple[int, float]:
    """The same with transformers alone: its Trainer, a padding collator, batches of samples."""
    import torch
    from peft import LoraConfig, get_peft_model
    from torch.nn.utils.rnn import pad_sequence
    from transformers import (
        AutoModelForImageTextToText,
        AutoProcessor,
        Trainer,
        TrainingArguments,
        set_seed,
    )

    import kinema.models.videolm  # noqa: F401  (the model under test is ours)
    from kinema.models.videolm.features import load_features

    set_seed(42)
    processor = AutoProcessor.from_pretrained(folder / "model")
    features, _ = load_features(folder / "clip.safetensors")
    dtype = torch.bfloat16 if gpu else torch.float32
    model = AutoModelForImageTextToText.from_pretrained(folder / "model", dtype=dtype)
    model.vision_tower.requires_grad_(False)
    if gpu:
        targets = r"language_model\..*\.(q|k|v|o|gate|up|down)_proj"
        config = LoraConfig(
            r=16, lora_alpha=32, target_modules=targets, modules_to_save=["projector"]
        )
        model = get_peft_model(model, config)
    rows = []
    for line in (folder / "train.jsonl").read_text().splitlines():
        answer = json.loads(line)["messages"][1]["content"]
        prompt = processor.apply_chat_template(
            [{"role": "user", "content": "<video>\n?"}], add_generation_prompt=True
        )
        start = processor(text=prompt, features=[features])["input_ids"][0]
        whole = processor(text=f"{prompt} {answer}</s>", features=[features])["input_ids"][0]
        labels = [-100] * len(start) + whole[len(start) :]
        rows.append({"input_ids": torch.tensor(whole), "labels": torch.tensor(labels)})

    def collate(batch: list[dict[str, Any]]) -> dict[str, Any]:
        ids = pad_sequence([row["input_ids"] for row in batch], batch_first=True)
        labels = [row["labels"] for row in batch]
        return {
            "input_ids": ids,
            "attention_mask": ids.ne(0).long(),
            "labels": pad_sequence(labels, batch_first=True, padding_value=-100),
            "features": torch.cat([features] * len(batch)),
            "num_frames": torch.tensor([16] * len(batch)),
        }

    arguments = TrainingArguments(
        output_dir=str(output),
        per_device_train_batch_size=BATCH,
        num_train_epochs=1,
        save_strategy="no",
        report_to="none",
        use_cpu=not gpu,
        bf16=gpu,
        activation_checkpointing=gpu,
        remove_unused_columns=False,
        disable_tqdm=True,
    )
    trainer = Trainer(model=model, args=arguments, train_dataset=rows, data_collator=collate)
    began = time.perf_counter()
    trainer.train()
    return sum(len(row["input_ids"]) for row in rows), time.perf_counter() - began


def measure(way: str, folder: Path, *, gpu: bool) -> dict[str, float]:
    """One pass in this process."""
    with tempfile.TemporaryDirectory() as output:
        run = {"kinema": run_kinema, "peer": run_peer}[way]
        tokens, seconds = run(folder, gpu=gpu, output=Path(output))
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    if gpu:
        import torch

        peak = torch.cuda.max_memory_allocated()
    return {"tokens": tokens, "tokens_per_second": tokens / seconds, "peak_bytes": peak}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--gpu", action="store_true")
    parser.add_argument("--samples", type=int, default=128)
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--way", choices=WAYS)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    if options.way:
        print(json.dumps(measure(options.way, options.folder, gpu=options.gpu)))
        return
    with tempfile.TemporaryDirectory() as name:
        write_result("train_gpu" if options.gpu else "train", compare(Path(name), options))


def compare(folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Both ways in turns, each time in a new process."""
    make_model(folder / "model", gpu=options.gpu)
    write_samples(folder, count=options.samples)
    found: dict[str, list[dict[str, float]]] = {way: [] for way in WAYS}
    for _ in range(options.runs):
        for way in WAYS:
            words = [sys.executable, __file__, "--way", way, "--folder", str(folder)]
            words += ["--gpu"] if options.gpu else []
            done = subprocess.run(words, capture_output=True, text=True, check=True)
            found[way].append(json.loads(done.stdout.splitlines()[-1]))
    assert found["peer"][0]["tokens"] == found["kinema"][0]["tokens"]
    speed = {way: median([run["tokens_per_second"] for run in found[way]]) for way in WAYS}
    memory = {way: median([run["peak_bytes"] for run in found[way]]) for way in WAYS}
    return {
        "machine": machine() | _device(options.gpu),
        "samples": options.samples,
        "tokens": found["peer"][0]["tokens"],
        "runs": options.runs,
        "tokens_per_second": {way: round(value, 1) for way, value in speed.items()},
        "peak_mib": {way: round(value / 2**20) for way, value in memory.items()},
        "speed_ratio": round(speed["kinema"] / speed["peer"], 2),
        "memory_ratio": round(memory["kinema"] / memory["peer"], 2),
    }


def _device(gpu: bool) -> dict[str, str]:
    if not gpu:
        return {}
    import torch

    return {"gpu": torch.cuda.get_device_name()}


if __name__ == "__main__":
    root = Path(__file__).parents[1]
    sys.path[:0] = [str(root / "tests"), str(root / "examples")]
    main()
