"""What kinema knows about a model family: plain facts, no framework."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from kinema.families.checkpoint import Checkpoint
from kinema.types import FrameSampling

VisualTokens = Callable[[Checkpoint, int, int, int], int]
"""(checkpoint, frames, height, width) of a clip to the tokens it takes."""

DEFAULT_SAMPLING = FrameSampling(num_frames=8)


@dataclass(frozen=True, kw_only=True)
class Family:
    """One row of the family table.

    A checkpoint's own chat template wins over ``template``; its own sizes win over anything
    written here. A field holds what engines and prompts cannot read from the checkpoint.
    """

    name: str
    """How users and records call the family."""
    title: str
    """How its makers call it."""
    example: str
    """A checkpoint people know."""
    model_types: tuple[str, ...] = ()
    """``model_type`` values of config.json that belong to the family."""
    config_required: bool = True
    """Its folders have a config.json; False when the weights themselves tell their sizes."""
    engines: tuple[str, ...] = ("hf",)
    """Engines that run it, the best default first."""
    takes_video: bool = True
    """False: frames go as images, each behind its time."""
    takes_image: bool = True
    """Still pictures are understood."""
    writes_freely: bool = True
    """Answers questions about plain text too, so that it can summarise."""
    image_and_video_in_one_call: bool = True
    """An image and a video may stand in one prompt."""
    ragged_batch_ok: bool = False
    """Clips with different numbers of frames may share a batch."""
    min_frames: int = 1
    """Fewer are filled up with the last one, and that is said."""
    image_tokens_depend_on_count: bool = False
    """An image takes other tokens beside one other image than beside several."""
    exact_frames: int | None = None
    """The only count there is: fewer are filled up with the last one, more are refused."""
    default_sampling: FrameSampling = DEFAULT_SAMPLING
    """What to take when the user does not say."""
    video_placeholder: str = "<video>"
    """Stands for one video in the rendered prompt."""
    image_placeholder: str = "<image>"
    """Stands for one image in the rendered prompt."""
    content: Literal["parts", "text"] = "parts"
    """Whether the chat template takes typed parts, or text with placeholders in it."""
    template: str = ""
    """Chat template (Jinja) for checkpoints that ship none."""
    system: str = ""
    """System prompt when the user gives none."""
    revision: str = ""
    """Of what answers where there is no folder; another one makes earlier answers void."""
    hub_files: tuple[str, ...] = ()
    """What to fetch of its makers' own checkpoints, where those are not in Hugging Face layout."""
    takes_features: bool = False
    """Whether rows that its encoder wrote earlier can stand for a video."""
    importer: str = ""
    """``module:function`` that reads its makers' own checkpoints into ours."""
    classes: str = ""
    """Module to import before loading: it registers our own classes with transformers."""
    visual_tokens: VisualTokens | None = None
    """Tokens of a clip (of its frames as images, without video input), from sizes alone."""
    on_engine: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, hash=False)
    """Fields of this row that read differently on an engine."""
    vllm_arguments: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """What vLLM needs said to load the family."""
    vllm_video_processor: Mapping[str, Any] = field(default_factory=dict, hash=False)
    """Settings of the checkpoint's video processor that vLLM must read differently."""
    vllm_weight_names: tuple[tuple[str, str], ...] = ()
    """(pattern, replacement) from the names that transformers 5 saves to those vLLM reads."""

    def on(self, engine: str) -> Family:
        """The row as it holds on an engine."""
        return replace(self, **self.on_engine.get(engine, {}))
