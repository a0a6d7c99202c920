"""What a run learned: kept small beside its base, merged into a whole model, or taken out."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from safetensors.torch import save_file
from transformers import Trainer

from kinema.errors import ModelError, ModelNotFound, UsageError
from kinema.families.templates import TEMPLATES
from kinema.files import require_format, whole_folder, write_json
from kinema.identity import identity_of
from kinema.models.importers.parts import read_tokenizer, without_bars
from kinema.models.importers.weights import read_weights
from kinema.training.loading import load_base
from kinema.training.settings import RunPart, from_flat

SETTINGS, BASE, RESULT = "settings.yaml", "base.json", "trained"
_FORMAT = 1
"""Of a run's folder, in its ``base.json``; 0.1.0 wrote this format, and no number."""
_WEIGHTS, _ADAPTER = "model.safetensors", "adapter_model.safetensors"
_LARGEST_SHARD = "5GB"


def save_result(trainer: Trainer, run: Path) -> None:
    """Write what was learned to ``run/trained``; the base is not repeated there."""
    draft = run / f".{RESULT}.part"
    if trainer.args.should_save:  # another process may be late, and would remove what is written
        shutil.rmtree(draft, ignore_errors=True)
    trainer.save_model(str(draft))
    if trainer.args.should_save:
        keep_weights(draft)
        shutil.rmtree(run / RESULT, ignore_errors=True)
        draft.replace(run / RESULT)


def keep_weights(folder: Path) -> None:
    """Remove what would make a folder of a few weights look like a whole model."""
    for name in ("config.json", "generation_config.json", "training_args.bin", "README.md"):
        (folder / name).unlink(missing_ok=True)


def merge(run: Path, target: Path, *, dtype: str = "auto") -> Path:
    """Write the whole model that a run made: base and learned weights in one folder.

    Args:
        run: the run's folder, or one checkpoint of it.
        target: a folder that does not exist yet or is empty.
        dtype: of the written weights; that of the base when auto.

    Raises:
        ModelNotFound: there is no finished run, or its base is gone.
        ModelError: its base has changed.
    """
    _require_empty(target)
    home, weights = _find(run)
    base = _base(home)
    chosen: Any = "auto" if dtype == "auto" else getattr(torch, dtype)
    model = load_base(base, dtype=chosen)
    stored = model.dtype
    if (weights / _ADAPTER).is_file():
        from kinema.training.adapters import merge_adapters  # noqa: PLC0415  imports peft

        model = merge_adapters(model, weights)
    else:
        problems = model.load_state_dict(read_weights(weights), strict=False)
        if problems.unexpected_keys:
            raise UsageError(
                f"{problems.unexpected_keys[0]} of the run is no weight of its base.",
                hint="Was the base changed since?",
            )
    settings = from_flat(yaml.safe_load((home / SETTINGS).read_text(encoding="utf-8")))
    if settings.sampling:
        model.config.kinema_sampling = settings.sampling
    with whole_folder(target) as draft:
        with without_bars():
            model.to(stored).save_pretrained(draft, max_shard_size=_LARGEST_SHARD)
        # Tokenizer, processor and template go along as they are.
        for file in base.iterdir():
            is_weight = file.name.endswith((".safetensors", ".index.json"))
            if file.is_file() and file.name != "config.json" and not is_weight:
                shutil.copyfile(file, draft / file.name)
        if settings.model.conv_mode is not None:
            tokenizer = read_tokenizer(draft)
            template = TEMPLATES[settings.model.conv_mode].with_ends(
                bos=tokenizer.bos_token or "<s>", eos=tokenizer.eos_token or "</s>"
            )
            (draft / "chat_template.jinja").write_text(template.jinja, encoding="utf-8")
    return target


def export(run: Path, target: Path, *, what: RunPart) -> Path:
    """Take a part out of a run.

    Args:
        run: the run's folder, or one checkpoint of it.
        target: a ``.safetensors`` file for the projector, a folder for the rest.
        what: the projector alone, the LoRA adapter as PEFT reads it, or the whole model.

    Raises:
        UsageError: the run has no such part.
    """
    if what == "model":
        return merge(run, target)
    _, weights = _find(run)
    if what == "adapter":
        if not (weights / _ADAPTER).is_file():
            raise UsageError(
                "This run has no adapter: it trained weights of the model itself.",
                hint="Use --what projector or --what model.",
            )
        _require_empty(target)
        with whole_folder(target) as draft:
            for file in weights.glob("adapter_*"):
                shutil.copyfile(file, draft / file.name)
        return target
    projector = {
        f"projector.{name.rpartition('projector.')[2]}": tensor
        for name, tensor in read_weights(weights).items()
        if "projector." in name and "fusion." not in name
    }
    if not projector:
        raise UsageError("This run did not train the projector.", hint="Use --what model.")
    target.parent.mkdir(parents=True, exist_ok=True)
    save_file(projector, target)
    return target


def _find(run: Path) -> tuple[Path, Path]:
    """The run's folder, and the one with the weights in it."""
    home = run if (run / SETTINGS).is_file() else run.parent
    weights = run if home != run else run / RESULT
    names = (_WEIGHTS, f"{_WEIGHTS}.index.json", _ADAPTER)
    if not (home / SETTINGS).is_file() or not any((weights / name).is_file() for name in names):
        raise ModelNotFound(
            f"{run} is no finished run of kinema train.",
            hint="Give its --output-dir, or a checkpoint-N inside of it.",
        )
    require_own_format(home)
    return home, weights


def write_base(run: Path, base: Path) -> None:
    """Write down which model a run began with, and the format of the run's folder."""
    facts = {"folder": str(base.resolve()), "identity": identity_of(base), "format": _FORMAT}
    write_json(run / BASE, facts)


def require_own_format(run: Path) -> None:
    """Refuse the folder of a run that another version of kinema wrote in a format of its own.

    Raises:
        UsageError: the folder has another number.
    """
    if (run / BASE).is_file():
        found = json.loads((run / BASE).read_text(encoding="utf-8")).get("format", 1)
        hint = (
            "Use that version, or another --output-dir; --resume-from-checkpoint none starts over."
        )
        require_format(run, found, _FORMAT, hint=hint)


def _base(home: Path) -> Path:
    written = json.loads((home / BASE).read_text(encoding="utf-8"))
    base = Path(written["folder"])
    if not (base / "config.json").is_file():
        raise ModelNotFound(
            f"The model that {home.name} was trained from is gone: {base}.",
            hint="Put it back, or train again.",
        )
    # kinema 0.1 did not write what was in it.
    if written.get("identity", found := identity_of(base)) != found:
        raise ModelError(
            f"The model that {home.name} was trained from has changed since: {base}.",
            hint="Put back the files that it had, or train again.",
        )
    return base


def _require_empty(target: Path) -> None:
    if target.exists() and (not target.is_dir() or any(target.iterdir())):
        raise UsageError(f"{target} is not empty.", hint="Choose a new folder.")
