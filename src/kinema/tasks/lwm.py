"""Ask and draw with the Large World Model, by the flags its users know.

Names and meanings are the original's. What it decided silently has a name here: top-k, the length
of an answer, the prompt layout and the ids that end frames.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

import jax
import numpy as np
from numpy.typing import NDArray

from kinema import prompt as prompts
from kinema.engines.lwm import LWMEngine
from kinema.engines.scheduler import Scheduler
from kinema.engines.settings import DType, LWMSettings
from kinema.errors import ModelNotFound, UsageError
from kinema.families import FAMILIES, Checkpoint
from kinema.families.hub import download
from kinema.lazy import Named
from kinema.messages import (
    Ask,
    Completion,
    Conversation,
    SamplingParams,
    TextPart,
)
from kinema.models.lwm.checkpoint import (
    Files,
    configure,
    files_beside,
    find_files,
    open_params,
)
from kinema.models.lwm.config import LWMConfig, load_config, update_config
from kinema.models.lwm.convert import convert as write_converted
from kinema.models.lwm.paint import Drawing, paint
from kinema.models.lwm.prompt import FrameEnds, Layout
from kinema.tasks.chat import as_part
from kinema.types import FrameSampling
from kinema.video.writing import check_target, save_frames

HUB_TOKENIZER = "LargeWorldModel/LWM-Text-1M"
VIDEO_FPS = 4
"""Rate of videos that are drawn, as released."""

_DTYPES: Named[DType] = Named("number format", {
    "bf16": "bfloat16", "bfloat16": "bfloat16", "fp16": "float16", "float16": "float16",
    "fp32": "float32", "float32": "float32", "fp64": "float32", "float64": "float32",
})  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class LlamaFlags:
    """Sizes that matter when no configuration is named."""

    vision_vocab_size: int = 8448
    """Vision tokens; what the file holds counts."""
    tie_vision_embeddings: bool = False
    """Reuse the vision embedding as vision head; what the file holds counts."""
    sample_mode: Literal["all", "text", "vision"] = "all"
    """Which vocabulary is written; each command knows its own."""


@dataclass(frozen=True, kw_only=True)
class DistributedFlags:
    """Several hosts that run one model."""

    initialize_jax_distributed: bool = False
    """Wait for the other hosts before anything else."""
    coordinator_address: str | None = None
    """host:port of process 0."""
    num_processes: int | None = None
    process_id: int | None = None
    local_device_ids: str | None = None
    """Devices of this process, as 0,1,2."""


@dataclass(frozen=True, kw_only=True)
class LWMFlags:
    """What every command of the original takes."""

    load_checkpoint: str = ""
    """params::PATH, trainstate_params::PATH, flax_params::PATH or a .safetensors file."""
    vqgan_checkpoint: str = ""
    """The pickled or converted VQGAN; a text-only checkpoint has none."""
    tokenizer: str = HUB_TOKENIZER
    """tokenizer.model, tokenizer.json, their folder, or a hub name."""
    load_llama_config: str = ""
    """A standard size (7b), json::PATH or pickle::PATH; read off the checkpoint when empty."""
    update_llama_config: str = ""
    """dict(theta=50000000, ...), read as literals and never evaluated."""
    mesh_dim: str = "1,-1,1,1"
    """Devices as dp,fsdp,tp,sp; -1 takes what is left, ! in front keeps their order."""
    dtype: str = "fp32"
    """fp32, bf16 or fp16; fp64 is computed as fp32, as it always was."""
    seed: int = 1234
    layout: Layout = "trained"
    """One beginning-of-sequence token as trained, or five as the last release."""
    frame_ends: FrameEnds = "trained"
    """Inner frames end as trained (8192), or all like the last one (8193) as the release did."""
    llama: LlamaFlags = LlamaFlags()
    jax_distributed: DistributedFlags = DistributedFlags()


@dataclass(frozen=True, kw_only=True)
class ChatFlags(LWMFlags):
    """One question about one image or video."""

    prompt: str = ""
    """The question."""
    input_file: str = ""
    """An image or video; a text-only checkpoint needs none."""
    max_n_frames: int = 8
    """At most this many frames are taken, evenly, first and last among them."""
    temperature: float = 0.2
    """Randomness; 0 always takes the likeliest token."""
    top_k: int = 50
    """Keep this many likeliest tokens; 0 keeps all."""
    top_p: float = 1.0
    """Keep the likeliest tokens up to this probability."""
    max_new_tokens: int = 128
    """Longest answer in tokens."""


@dataclass(frozen=True, kw_only=True)
class DrawFlags(LWMFlags):
    """One image, or one video of several frames, from words."""

    prompt: str = ""
    """What to draw."""
    output_file: Path = field(default=Path())
    """A .png for one frame, an .mp4 for several."""
    n_frames: int = 1
    temperature_image: float = 1.0
    temperature_video: float = 1.0
    top_k_image: int = 8192
    top_k_video: int = 100
    cfg_scale_image: float = 1.0
    """How far the first frame moves away from what an empty prompt would draw."""
    cfg_scale_video: float = 1.0
    """The same for the frames after the first."""


def ask(flags: ChatFlags) -> Completion:
    """Answer one question; a text-only checkpoint needs neither input file nor VQGAN.

    Raises:
        UsageError: a flag is missing or wrong.
        MediaError: the input cannot be read.
        ModelError: the checkpoint cannot be used.
    """
    _require(flags, "prompt", "load_checkpoint")
    files, config = _find(flags)
    if config.sees:
        _require(flags, "input_file", "vqgan_checkpoint")
    family = FAMILIES["lwm"]
    # A text-only checkpoint is asked about nothing.
    sampling = FrameSampling(num_frames=flags.max_n_frames, formula="linspace")
    shown = (as_part(flags.input_file, sampling),) if flags.input_file else ()
    said = Conversation.asked(*shown, TextPart(flags.prompt))
    question = Ask(
        key=flags.prompt,
        conversation=prompts.decode(said, family),
        params=SamplingParams(
            temperature=flags.temperature,
            top_k=flags.top_k,
            top_p=flags.top_p,
            seed=flags.seed,
            max_new_tokens=flags.max_new_tokens,
        ),
    )
    scheduler = Scheduler(
        lambda: _load(files, config, flags), family=family, checkpoint=Checkpoint("lwm", None, {})
    )
    try:
        return scheduler.submit(question).result().completion
    finally:
        scheduler.close()


def draw(flags: DrawFlags) -> NDArray[np.uint8]:
    """Draw frames and write them to the output file.

    Raises:
        UsageError: a flag is missing or wrong.
        ModelError: the checkpoint cannot be used.
    """
    _require(flags, "prompt", "vqgan_checkpoint", "load_checkpoint")
    check_target(flags.output_file, num_frames=flags.n_frames)
    frames = paint(
        _load(*_find(flags), flags).model,
        flags.prompt,
        num_frames=flags.n_frames,
        image=Drawing(
            temperature=flags.temperature_image,
            top_k=flags.top_k_image,
            guidance=flags.cfg_scale_image,
        ),
        video=Drawing(
            temperature=flags.temperature_video,
            top_k=flags.top_k_video,
            guidance=flags.cfg_scale_video,
        ),
        seed=flags.seed,
    )
    if is_first_host():
        save_frames(flags.output_file, frames, fps=VIDEO_FPS)
    return frames


def convert(
    source: str,
    target: Path,
    *,
    vqgan: Path | None = None,
    tokenizer: Path | None = None,
    llama_config: str = "",
    update_llama_config: str = "",
) -> dict[str, int]:
    """Write a released checkpoint as safetensors, with its sizes in config.json.

    Args:
        source: a folder, or ``type::path`` of its params.
        target: a folder that does not exist yet or is empty.
        vqgan: where it lies, when not beside the params.
        tokenizer: where it lies, when not beside the params.
        llama_config: a standard size or a file; read off the checkpoint when empty.
        update_llama_config: changes to it, as literals.

    Returns:
        How many tensors each file got.

    Raises:
        ModelError: a file is missing or damaged.
        UsageError: the target holds files already, or a setting is wrong.
    """
    path = Path(source.rpartition("::")[2])
    files = find_files(path) if path.is_dir() else files_beside(source)
    files = replace(files, vqgan=vqgan or files.vqgan, tokenizer=tokenizer or files.tokenizer)
    named = load_config(llama_config) if llama_config else None
    config = configure(open_params(files.params), files, named)
    return write_converted(files, target, config=update_config(config, update_llama_config))


def is_first_host() -> bool:
    """True on the one host that prints and writes."""
    return jax.process_index() == 0


def join_hosts(flags: DistributedFlags) -> None:
    """Meet the other hosts, where there are any; before any device is used."""
    if flags.initialize_jax_distributed:
        ids = flags.local_device_ids
        jax.distributed.initialize(
            coordinator_address=flags.coordinator_address,
            num_processes=flags.num_processes,
            process_id=flags.process_id,
            local_device_ids=[int(i) for i in ids.split(",")] if ids else None,
        )


def _require(flags: LWMFlags, *names: str) -> None:
    for name in names:
        if not getattr(flags, name):
            raise UsageError(f"--{name} is missing.", hint="See --help for what each flag means.")


def _find(flags: LWMFlags) -> tuple[Files, LWMConfig]:
    """Files that are known to be there, and their sizes."""
    tensors = open_params(flags.load_checkpoint)
    files = Files(
        params=flags.load_checkpoint,
        vqgan=Path(flags.vqgan_checkpoint) if flags.vqgan_checkpoint else None,
        tokenizer=_find_tokenizer(flags.tokenizer, beside=flags.load_checkpoint),
    )
    named = load_config(flags.load_llama_config) if flags.load_llama_config else None
    return files, update_config(configure(tensors, files, named), flags.update_llama_config)


def _load(files: Files, config: LWMConfig, flags: LWMFlags) -> LWMEngine:
    """Put the weights on their devices."""
    settings = LWMSettings(
        dtype=_DTYPES[flags.dtype],
        mesh=flags.mesh_dim,
        layout=flags.layout,
        frame_ends=flags.frame_ends,
    )
    return LWMEngine(files, settings=settings, config=config)


def _find_tokenizer(name: str, *, beside: str) -> Path:
    """The named file or folder; for the default, the one beside the weights before the hub's."""
    given = Path(name)
    neighbour = Path(beside.rpartition("::")[2]).with_name("tokenizer.model")
    if given.exists():
        return given
    if name == HUB_TOKENIZER and neighbour.is_file():
        return neighbour
    hint = "Give tokenizer.model of the checkpoint with --tokenizer."
    if given.is_absolute() or given.suffix or name.count("/") != 1:
        raise ModelNotFound(f"There is no tokenizer {name}.", hint=hint)
    try:
        return download(name, patterns=("tokenizer*",))
    except ModelNotFound as problem:
        raise ModelNotFound(f"{neighbour} is not there. {problem}", hint=hint) from problem
