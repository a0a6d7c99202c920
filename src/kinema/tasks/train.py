"""Training from a data file and a model's name to learned weights."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kinema.config import cache_dir, fingerprint
from kinema.datasets.samples import Sample, find_features, read_samples
from kinema.errors import UsageError
from kinema.families import FAMILIES, Checkpoint, Family, as_trained, read_checkpoint, recognise
from kinema.families.templates import TEMPLATES
from kinema.identity import content_of
from kinema.messages import Conversation, FeaturesPart, Part, VideoPart
from kinema.tasks.imports import CheckpointParts, cached_folder
from kinema.tasks.models import find_model
from kinema.training.settings import ModelSettings, TrainSettings
from kinema.types import FrameSampling

if TYPE_CHECKING:
    from kinema.models.videolm.features import FeaturesHeader
    from kinema.training.run import Told, Trained

NEW_TEMPLATE = "vicuna_v1_1"
"""What a new `VideoLM` is trained with, unless another is chosen."""
_MARK = re.compile(r"<extra_id_\d>")
"""Control tokens of NeVA's templates."""
_FITS = {"square": "crop", "pad": "pad", "stretch": "stretch"}


@dataclass(frozen=True)
class Base:
    """The `VideoLM` that training begins with."""

    folder: Path
    family: Family
    checkpoint: Checkpoint


def train(settings: TrainSettings, *, say: Callable[[str], None] = lambda _: None) -> Trained:
    """Train a model on a data file; the same call goes on where a killed one stopped.

    Raises:
        UsageError: settings, samples and model do not go together.
        MediaError: features or videos of a sample cannot be read.
        ModelError: the model cannot be loaded, or memory runs out.
    """
    if settings.data.data_path is None:
        raise UsageError("There is no data file.", hint="Give --data-path train.jsonl.")
    base = find_base(settings)
    learned = _told(settings.data.data_path, settings)
    measured = settings.data.eval_data_path
    from kinema.training.run import train as run  # noqa: PLC0415  imports torch

    return run(
        settings,
        base.folder,
        family=base.family,
        checkpoint=base.checkpoint,
        learned=learned,
        measured=_told(measured, settings) if measured else None,
        say=say,
    )


def find_base(settings: TrainSettings) -> Base:
    """The model to train: the one named, or a new one of a tower and a language model.

    Raises:
        UsageError: no model, or one that is no `VideoLM`.
    """
    wanted = settings.model
    name = wanted.model_name_or_path
    if name is None:
        raise UsageError("There is no model.", hint="Give --model FOLDER.")
    is_new = wanted.vision_tower is not None
    folder = _joined(settings) if is_new else _found(name)
    checkpoint = read_checkpoint(name, folder)
    if not is_new:
        _refuse_settings_of_new(wanted, checkpoint)
    family = as_trained(recognise(checkpoint), checkpoint)
    if family.classes != FAMILIES["videolm"].classes:
        raise UsageError(
            f"{name} is a {family.title}, and a VideoLM is what trains here.",
            hint="With --vision-tower CLIP_FOLDER a language model becomes one.",
        )
    if settings.sampling:
        family = replace(family, default_sampling=FrameSampling(**settings.sampling))
    parts = CheckpointParts(conv_mode=wanted.conv_mode)
    return Base(folder, family, parts.with_template(checkpoint))


def _joined(settings: TrainSettings) -> Path:
    """A new `VideoLM` for these samples: features that are given say which tower it has."""
    path = settings.data.data_path
    conversations = _conversations(path, settings) if path is not None else iter(())
    _, first = next(conversations, ("", Conversation()))
    parts = (part.source for part in first.media if isinstance(part, FeaturesPart))
    given = next((source for source in parts if isinstance(source, Path)), None)
    if given is None:
        return join_parts(settings.model, seed=settings.loop.seed, found={})
    from kinema.models.videolm.features import read_header  # noqa: PLC0415  imports torch

    found = _layout_of_features(read_header(given))
    return join_parts(settings.model, seed=settings.loop.seed, found=found)


def _layout_of_features(made: FeaturesHeader) -> dict[str, Any]:
    """Fields of the VideoLMConfig that makes features like these."""
    layers = list(made.select_layers)
    if made.is_pickled:
        # Several layers are the Breakfast fork's: class tokens of all, a row a frame.
        theirs = {"select_layer": layers, "select_feature": "cls", "pooling": "cls"}
        rows = {"post_layernorm": True, "max_frames": made.num_frames}
        return theirs | rows if len(layers) > 1 else {}
    sampling = {k: v for k, v in (made.sampling or {}).items() if v not in (None, (), False, 0.0)}
    layout = {
        "select_layer": layers[0] if len(layers) == 1 else layers,
        "select_feature": made.select_feature,
        "post_layernorm": made.post_layernorm,
        "pooling": made.pooling,
        "kinema_sampling": sampling,
    }
    if made.pooling == "spatio_temporal" and sampling.get("num_frames"):
        layout["num_temporal_tokens"] = sampling["num_frames"]
    return layout


def join_parts(settings: ModelSettings, *, seed: int, found: Mapping[str, Any]) -> Path:
    """The folder of a new `VideoLM`, made once and kept in the cache.

    Args:
        settings: tower, language model, and what was chosen about the connector.
        seed: of the connector's weights.
        found: fields of its configuration that follow from the data.
    """
    values = {
        "language_model": settings.model_name_or_path,
        "vision_tower": settings.vision_tower,
        "template": settings.conv_mode or NEW_TEMPLATE,
        "fit": _FITS[settings.frame_aspect_ratio or "square"],
        "seed": seed,
        **found,
        **_layout(settings),
    }
    parts = {name: values[name] for name in ("language_model", "vision_tower")}
    contents = {name: content_of(part) for name, part in parts.items() if part}
    folder = cache_dir() / "joined" / fingerprint(values | contents)
    return cached_folder(folder, lambda: _join(values, folder))


def _join(values: dict[str, Any], folder: Path) -> None:
    template = TEMPLATES[values["template"]]
    marks = _MARK.findall(template.jinja)
    from kinema.models.importers.fresh import join  # noqa: PLC0415  imports torch

    joined = join(**values, control_tokens=marks)
    tokenizer = joined.tokenizer
    template = template.with_ends(bos=tokenizer.bos_token, eos=tokenizer.eos_token)
    joined.save(folder, chat_template=template.jinja, stop=template.stop)


def _layout(settings: ModelSettings) -> dict[str, Any]:
    """Arguments of the joining that were chosen."""
    names = (
        "projector", "pooling", "select_layer", "select_feature", "time", "fusion", "max_frames",
        "media_wrap", "media_tokens",
    )  # fmt: skip
    chosen = {name: getattr(settings, name) for name in names}
    return {name: value for name, value in chosen.items() if value not in (None, ())}


def _refuse_settings_of_new(settings: ModelSettings, made: Checkpoint) -> None:
    """Refuse what a model that is made already cannot become; what it is may be said."""
    layout = _layout(settings)
    chosen = sorted(name for name, value in layout.items() if made.config.get(name) != value)
    if settings.frame_aspect_ratio:
        chosen.append("frame_aspect_ratio")
    if chosen:
        raise UsageError(
            f"{', '.join(chosen)} shape a new VideoLM, and this one is made already.",
            hint="Give --vision-tower too, or leave them out.",
        )


def _found(name: str) -> Path:
    folder = find_model(name).checkpoint.folder
    if folder is None:
        raise UsageError(f"{name} has no weights of its own.", hint="Give a folder.")
    return folder


def _told(path: Path, settings: TrainSettings) -> Told:
    """The samples of a file, their videos replaced by features where there is a folder of them."""
    named = list(_conversations(path, settings))
    if not named:
        raise UsageError(f"{path.name} holds no sample.", hint="See kinema data check.")
    names, conversations = zip(*named, strict=True)
    from kinema.training.run import Told  # noqa: PLC0415  imports torch

    return Told(conversations, names)


def _conversations(path: Path, settings: TrainSettings) -> Iterator[tuple[str, Conversation]]:
    for sample in read_samples(path, media=settings.data.video_folder):
        name = f"{sample.id} (line {sample.line})"
        yield name, _with_features(sample, settings.data.features_folder)


def _with_features(sample: Sample, folder: Path | None) -> Conversation:
    variant = str(sample.meta.get("variant", ""))

    def features(part: Part) -> Part:
        if folder is None or not isinstance(part, VideoPart):
            return part
        if not isinstance(part.source, str | Path):
            return part
        path = find_features(Path(part.source), folder, variant=variant)
        _check_range(part, path)
        return FeaturesPart(path)

    return sample.conversation.mapped(features)


def _check_range(part: VideoPart, features: Path) -> None:
    """Refuse features of another range of the video than the sample shows."""
    wanted = (part.sampling.start_seconds, part.sampling.end_seconds)
    if wanted == (0.0, None):
        return
    from kinema.models.videolm.features import read_header  # noqa: PLC0415  imports torch

    made = read_header(features)
    shown = made.sampling or {}
    seen = FrameSampling(start=shown.get("start"), end=shown.get("end"))
    if wanted != (seen.start_seconds, seen.end_seconds):
        raise UsageError(
            f"A sample shows {wanted[0]:g} to {wanted[1] or 'the end'} s of {features.stem}, and "
            "its features are of another range.",
            hint="Leave --features-folder out, or extract features of the clips.",
        )
